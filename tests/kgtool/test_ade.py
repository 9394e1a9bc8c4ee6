"""ADE20K in its three layouts: what becomes a box, and what describes it."""

import contextlib
import io
import json
import random
import warnings
from pathlib import Path
from typing import Any

import ade_examples as ade
import numpy as np
import pytest
from ade_examples import PARTS, boxes, check_boxes, kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from kgtool.ade20k.entries import read_json, read_text
from kgtool.datasets.ade import BoxOptions, boxes_of_ade, find_images
from kgtool.masks import read_indices

REAL_ADE = Path(__file__).parents[2] / "../shared/real_data/ade"
needs_real = pytest.mark.skipif(not REAL_ADE.is_dir(), reason="the ADE20K samples are not on this machine")


def test_2016_masks_become_boxes_described_by_their_text(tmp_path: Path) -> None:
    ade.save_2016(tmp_path / "ade/training/street", "ADE_train_00000001")
    ade.save_2016(tmp_path / "ade/validation/s/street", "ADE_val_00000001")
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    assert [image["file_name"] for image in document["images"]] == [
        "training/street/ADE_train_00000001.jpg",
        "validation/s/street/ADE_val_00000001.jpg",
    ]
    assert document["images"][0] == {
        "id": 1,
        "file_name": "training/street/ADE_train_00000001.jpg",
        "width": 32,
        "height": 24,
    }
    assert document["categories"] == [
        {"id": place, "name": name} for place, name in enumerate(ade.NAMES[:6], start=1) if place > 1
    ]
    check_boxes(tmp_path / "ade", document)
    taxi = document["annotations"][1]
    assert taxi["bbox"] == [2, 8, 14, 12]
    assert (taxi["raw_name"], taxi["attributes"], taxi["occluded"]) == ("taxi", ["parked", "yellow"], True)
    assert "crop" not in taxi  # the text does not say
    assert [row.get("part_level") for row in document["annotations"][:7]] == [None] * 4 + [1, 1, 2]
    assert findings == []
    assert report["paired_by"] == {"rank": 14}
    assert report["layouts"] == {"2016/17 text": 2}


def test_ranks_count_among_blue_values_that_are_not_zero(tmp_path: Path) -> None:
    """Without a black pixel the usual loaders give every box its neighbour's label."""
    things = (ade.Thing(ade.SKY, (0, 0, 32, 24)), ade.STREET[1], ade.STREET[2])
    ade.save_2016(tmp_path / "ade", "full", things)
    assert (ade.paint(things)[:, :, 2] > 0).all()
    document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out")
    assert [row["raw_name"] for row in document["annotations"]] == ["sky", "taxi", "man"]
    assert [row["category_id"] for row in document["annotations"]] == [2, 3, 5]
    assert findings == []


def test_2021_entries_are_paired_by_place_in_whatever_order_they_stand(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade", "a")
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    check_boxes(tmp_path / "ade", document)
    assert findings == []
    assert report["paired_by"] == {"outline": 7}
    rows = document["annotations"]
    assert [row["raw_name"] for row in rows] == ["sky", "taxi", "man", "car", "wheel", "wheel", "rim"]
    assert rows[1]["attributes"] == ["parked", "yellow"]
    assert rows[1]["occluded"] is True
    assert rows[1]["crop"] is False
    assert "occluded" not in rows[0]  # [] in the JSON
    assert [row.get("part_of") for row in rows] == [None, None, None, None, 2, 4, 5]


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_entries_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("ade")
    ade.save_2021(folder / "a", "a")
    ade.save_masks(folder / "b", "a", ade.STREET)
    objects = ade.json_objects("a", ade.STREET)
    rng.shuffle(objects)
    ade.save_json(folder / "b", "a", objects)
    boxes_of_ade(folder / "a", folder / "out_a", options=PARTS)
    boxes_of_ade(folder / "b", folder / "out_b", options=PARTS)
    for name in ("instances.json", "report.csv", "report.json"):
        assert (folder / "out_a" / name).read_bytes() == (folder / "out_b" / name).read_bytes()


HIDDEN = (
    ade.Thing(ade.CAR, (0, 0, 32, 24), raw_name="behind"),
    ade.Thing(ade.CAR, (0, 0, 18, 18), raw_name="before"),
    ade.Thing(ade.DOG, (18, 0, 12, 18)),
)
#: The outline of the first has an IoU above 0.5 with what is seen of the second.
CLAIMED_TWICE = (
    ade.Thing(ade.CAR, (0, 0, 30, 20), raw_name="behind"),
    ade.Thing(ade.CAR, (0, 0, 22, 18), raw_name="before"),
    ade.Thing(ade.DOG, (28, 20, 4, 4)),
)


@pytest.mark.parametrize(
    ("things", "with_masks", "paired_by"),
    [
        (HIDDEN, True, {"mask": 1, "outline": 2}),
        (HIDDEN, False, {"class": 1, "outline": 2}),
        (CLAIMED_TWICE, True, {"mask": 2, "outline": 1}),
        (CLAIMED_TWICE, False, {"class": 2, "outline": 1}),
    ],
)
def test_what_is_mostly_hidden_finds_its_entry(
    tmp_path: Path, things: tuple[ade.Thing, ...], with_masks: bool, paired_by: dict[str, int]
) -> None:
    ade.save_2021(tmp_path / "ade", "a", things)
    for position in range(3 * with_masks):
        ade.save_own_mask(tmp_path / "ade", "a", things, position)
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    assert [row["raw_name"] for row in document["annotations"]] == ["behind", "before", "dog"]
    assert report["paired_by"] == paired_by
    assert findings == []


def test_without_outlines_own_masks_pair(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", ade.STREET)
    objects = [{**entry, "polygon": []} for entry in ade.json_objects("a", ade.STREET)]
    ade.save_json(tmp_path / "ade", "a", objects[::-1])
    for position in range(len(ade.STREET)):
        ade.save_own_mask(tmp_path / "ade", "a", ade.STREET, position)
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    assert report["paired_by"] == {"mask": 7}
    assert [row["raw_name"] for row in document["annotations"]][:4] == ["sky", "taxi", "man", "car"]
    assert findings == []


def test_outlines_that_leave_the_image_or_make_no_sense_cost_nothing(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", ade.STREET[:4])
    objects = ade.json_objects("a", ade.STREET[:4])
    objects[0]["polygon"] = {"x": [-1000, 31, 31, -1000], "y": [-1e12, -1e12, 9, 9]}
    objects[1]["polygon"] = {"x": [1, "two"], "y": [1]}
    objects[2]["polygon"] = {"x": [500, 600, 700], "y": [500, 600, 500]}
    objects[3]["polygon"] = {"x": [20.5, 29.4, 29.4, 20.5], "y": [9.5, 9.5, 16.4, 16.4]}
    ade.save_json(tmp_path / "ade", "a", objects)
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out")
    assert findings == []
    assert report["paired_by"] == {"outline": 2, "class": 2}  # the last of their classes
    assert [row["raw_name"] for row in document["annotations"]] == ["sky", "taxi", "man", "car"]


def test_a_mask_outside_of_the_data_set_is_not_opened(tmp_path: Path) -> None:
    ade.save_masks(tmp_path / "ade", "a", HIDDEN)
    objects = [{**entry, "polygon": []} for entry in ade.json_objects("a", HIDDEN)]
    ade.save_own_mask(tmp_path, "a", HIDDEN, 0)
    for name in ("../a/instance_000_a.png", str(tmp_path / "a/instance_000_a.png")):
        objects[0]["instance_mask"] = name
        ade.save_json(tmp_path / "ade", "a", objects)
        _, _, report = boxes(tmp_path / "ade", tmp_path / "out", overwrite=True)
        assert report["paired_by"] == {"class": 1}  # the dog, the only one of its class


def test_latin_1_and_every_form_of_a_missing_value_are_read(tmp_path: Path) -> None:
    objects = ade.json_objects("a", ade.STREET[:2])
    objects[0] |= {"raw_name": "café", "attributes": "", "occluded": "no", "crop": "1"}
    objects[1] |= {
        "id": "10",
        "name_ndx": "3",
        "attributes": ["red", "big, old"],
        "occluded": None,
        "crop": [],
    }
    ade.save_masks(tmp_path / "ade", "a", ade.STREET[:2])
    for encoding in ("latin-1", "utf-8", "utf-8-sig"):
        ade.save_json(tmp_path / "ade", "a", objects, encoding=encoding)
        document, findings, _ = boxes(tmp_path / "ade", tmp_path / "out", overwrite=True)
        sky, car = document["annotations"]
        assert sky["raw_name"] == "café"
        assert (sky["occluded"], sky["crop"]) == (False, True)
        assert "attributes" not in sky
        assert car["attributes"] == ["red", "big", "old"]
        assert not {"occluded", "crop"} & set(car)
        assert findings == []
    text = "\n".join(ade.text_lines(ade.STREET[:2])).replace("# sky #", "# ciel d'été #", 1)
    (tmp_path / "a_atr.txt").write_text(text, encoding="latin-1")
    assert read_text(tmp_path / "a_atr.txt", "a").entries[0].name == "ciel d'été"


def test_challenge_masks_become_one_box_a_component_and_say_so(tmp_path: Path) -> None:
    indices = np.zeros(ade.SIZE, dtype=np.uint8)
    indices[:5] = 3
    indices[10:14, 2:6] = 21
    indices[10:14, 20:30] = 21
    indices[14, 6] = 21  # touches the first of the two at a corner
    ade.save(indices, tmp_path / "ade/annotations/training/ADE_train_00000001.png")
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out", BoxOptions())
    assert document["images"][0]["file_name"] == "images/training/ADE_train_00000001.jpg"
    assert [row["bbox"] for row in document["annotations"]] == [
        [0, 0, 32, 5],
        [2, 10, 5, 5],
        [20, 10, 10, 4],
    ]
    assert [row["category_id"] for row in document["annotations"]] == [3, 21, 21]
    assert [row["area"] for row in document["annotations"]] == [160, 17, 40]
    assert all(row["approximate"] is True for row in document["annotations"])
    assert report["approximate"] is True
    assert len(document["categories"]) == 150
    assert document["categories"][2]["name"] == "sky"
    assert document["categories"][20]["synset"] == "car.n.01"
    assert findings == []


def test_a_challenge_value_without_a_class_is_reported_and_no_class(tmp_path: Path) -> None:
    indices = np.full(ade.SIZE, 1, dtype=np.uint8)
    indices[5:9, 5:9] = 255
    ade.save(indices, tmp_path / "ade/a.png")
    document, findings, report = boxes(tmp_path / "ade", tmp_path / "out", BoxOptions())
    assert [row["category_id"] for row in document["annotations"]] == [1]
    assert kinds(findings) == ["class without a name"]
    assert "class 255" in findings[0]
    assert report["instances"]["left_out"] == {"class without a name": 1}


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade", "a")
    boxes_of_ade(tmp_path / "ade", tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "out/instances.json"))
    assert len(coco.anns) == 4  # without --parts
    with warnings.catch_warnings():  # pycocotools and NumPy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        mask = coco.annToMask(coco.anns[1])
    assert mask.sum() == coco.anns[1]["area"] == (ade.paint(ade.STREET[:4])[:, :, 1] == 2).sum()


@needs_real
def test_the_real_2021_images_are_paired_as_their_own_masks_say(tmp_path: Path) -> None:
    document, findings, report = boxes(REAL_ADE / "full2021", tmp_path / "out")
    assert findings == []
    assert report["instances"] == {"read": 69, "of_these_parts": 11, "written": 69, "left_out": {}}
    assert report["images"]["written"] == 2
    check_boxes(REAL_ADE / "full2021", document)
    names = dict(enumerate(json.loads((REAL_ADE / "objectnames.json").read_text()), start=1))
    assert all(names[row["id"]] == row["name"] for row in document["categories"])
    image = document["images"][1]
    name = image["file_name"].removesuffix(".jpg")
    entries = read_json(REAL_ADE / f"full2021/{name}.json", name).entries
    rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
    for entry in entries:
        own = read_indices(REAL_ADE / "full2021" / entry.mask) == 255
        code = coco_mask.encode(np.asfortranarray(own))
        level = [row for row in rows if row.get("part_level", 0) == entry.level]
        best = coco_mask.iou([code], [row["segmentation"] for row in level], [0] * len(level))[0]
        row = level[int(np.argmax(best))]
        assert best.max() > 0.99
        assert (row["category_id"], row["raw_name"]) == (entry.class_index, entry.raw_name)


@needs_real
def test_a_real_mask_and_its_challenge_mask_show_the_same_classes(tmp_path: Path) -> None:
    """The challenge mask is the raw one, classes merged and scaled down: boxes lie in the same places."""
    ade.save(np.asarray(Image.open(REAL_ADE / "ADE_train_00000970_raw.png")), tmp_path / "raw/a_seg.png")
    ade.save(np.asarray(Image.open(REAL_ADE / "ADE_train_00000970_challenge.png")), tmp_path / "index/a.png")
    options = BoxOptions(names=REAL_ADE / "objectnames.json", classes="ade150")
    raw, _, _ = boxes(tmp_path / "raw", tmp_path / "raw_out", options)
    index, findings, _ = boxes(tmp_path / "index", tmp_path / "index_out", BoxOptions())
    assert findings == []
    assert [row["name"] for row in raw["categories"]] == [row["name"] for row in index["categories"]]

    def extent(document: dict[str, Any]) -> dict[int, np.ndarray]:
        """Of each class: the smallest and largest x and y of all boxes, as shares of the image."""
        image = document["images"][0]
        found: dict[int, list[list[float]]] = {}
        for row in document["annotations"]:
            left, top, width, height = row["bbox"]
            found.setdefault(row["category_id"], []).append(
                [
                    left / image["width"],
                    top / image["height"],
                    (left + width) / image["width"],
                    (top + height) / image["height"],
                ]
            )
        return {
            category: np.concatenate([np.min(rows, axis=0)[:2], np.max(rows, axis=0)[2:]])
            for category, rows in found.items()
        }

    ours, theirs = extent(raw), extent(index)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    for category, corners in ours.items():
        np.testing.assert_allclose(corners, theirs[category], atol=0.01)


@needs_real
def test_the_well_formed_2017_sample_is_read(tmp_path: Path) -> None:
    document, findings, report = boxes(REAL_ADE / "datumaro2017_synthetic/dataset", tmp_path / "out")
    assert report["images"] == {"found": 2, "written": 2, "left_out": 0, "without_photo": 0}
    assert report["paired_by"] == {"rank": 7}
    assert document["annotations"][1]["attributes"] == ["walkin"]
    assert [row.get("part_level", 0) for row in document["annotations"]] == [0, 0, 1, 0, 0, 1, 2]
    assert kinds(findings) == ["class without a name"] * 2  # red and green of the person are 0 there


@needs_real
def test_the_real_challenge_masks_are_read(tmp_path: Path) -> None:
    document, findings, _ = boxes(
        REAL_ADE / "challenge_annotations", tmp_path / "out", BoxOptions(min_area=20)
    )
    assert findings == []
    for image in document["images"]:
        with Image.open(
            REAL_ADE / "challenge_annotations" / image["file_name"].replace("jpg", "png")
        ) as mask:
            values = set(np.unique(np.asarray(mask)).tolist()) - {0}
        rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
        assert {row["category_id"] for row in rows} == values


def test_masks_are_found_at_any_depth_and_own_masks_are_none(tmp_path: Path) -> None:
    ade.save_2021(tmp_path / "ade/images/training/urban/street", "a")
    ade.save_own_mask(tmp_path / "ade/images/training/urban/street", "a", ade.STREET, 0)
    files = find_images(tmp_path / "ade")
    assert [file.name for file in files] == ["images/training/urban/street/a"]
    assert [level for level, _ in files[0].parts] == [1, 2]
