"""`kgtool stats`: the numbers are those of plain loops, and the picture is a picture."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from kgtool.coco import Annotations, Category, Dataset, Image, load_dataset, save_dataset
from kgtool.coco_stats import describe, gini, group_of, measure, quantiles
from kgtool.errors import InputError, MissingResourceError, OutputExistsError
from kgtool.stats_picture import save_histogram

ROOT = Path(__file__).parents[2]
REAL_COCO = ROOT / "../shared/real_data/coco/instances.json"
SAMPLE = ROOT / "data/sample/train.json"


def dataset_of(rows: list[tuple[int, int, tuple[float, ...]]], num_images: int, num_classes: int) -> Dataset:
    """Boxes as image, class and x, y, width, height; images of 100 x 50 px."""
    boxes = np.array([box for _, _, box in rows], dtype=np.float64).reshape(-1, 4)
    return Dataset(
        tuple(Image(10 + number, f"{number}.jpg", 100, 50) for number in range(num_images)),
        tuple(Category(5 + number, f"class {number}") for number in range(num_classes)),
        Annotations(
            id_N=np.arange(1, len(rows) + 1),
            image_id_N=np.array([10 + image for image, _, _ in rows], dtype=np.int64),
            category_id_N=np.array([5 + kind for _, kind, _ in rows], dtype=np.int64),
            boxes_xywh_N4=boxes,
            area_N=boxes[:, 2] * boxes[:, 3],
            crowd_N=np.zeros(len(rows), dtype=np.int64),
        ),
    )


def plain_numbers(document: dict[str, Any]) -> dict[str, Any]:
    """What `describe` says, by loops over the file."""
    boxes = {category["id"]: 0 for category in document["categories"]}
    images: dict[int, set[int]] = {category["id"]: set() for category in document["categories"]}
    per_image = {image["id"]: 0 for image in document["images"]}
    sizes = {"small": 0, "medium": 0, "large": 0}
    for row in document["annotations"]:
        boxes[row["category_id"]] += 1
        images[row["category_id"]].add(row["image_id"])
        per_image[row["image_id"]] += 1
        sizes["small" if row["area"] < 1024 else "medium" if row["area"] < 9216 else "large"] += 1
    counts = sorted(boxes.values(), reverse=True)
    return {
        "classes": sorted(
            ((boxes[one["id"]], len(images[one["id"]]), one["name"]) for one in document["categories"]),
            key=lambda one: (-one[0], one[2]),
        ),
        "boxes_by_size": sizes,
        "images_without_boxes": sum(count == 0 for count in per_image.values()),
        "head_share": sum(counts[: -(-len(counts) // 10)]) / sum(counts),
        "most_in_an_image": max(per_image.values()),
        "groups": [
            sum(low <= len(of) <= high for of in images.values())
            for low, high in ((0, 0), (1, 10), (11, 100), (101, 10**9))
        ],
    }


@pytest.mark.parametrize("path", [REAL_COCO, SAMPLE], ids=["coco", "sample"])
def test_the_numbers_are_those_of_plain_loops(path: Path) -> None:
    if not path.exists():
        pytest.skip("the COCO sample is not here")
    dataset = load_dataset(path)
    found, plain = describe(dataset, measure(dataset)), plain_numbers(json.loads(path.read_text()))
    assert [(one.boxes, one.images, one.name) for one in found.classes] == plain["classes"]
    assert found.boxes_by_size == plain["boxes_by_size"]
    assert found.images_without_boxes == plain["images_without_boxes"]
    assert found.head_share == pytest.approx(plain["head_share"])
    assert found.quantiles["boxes per image"]["max"] == plain["most_in_an_image"]
    assert [group.classes for group in found.groups] == plain["groups"]
    assert sum(group.boxes for group in found.groups) == found.boxes == len(dataset.annotations)


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(0, 1000), min_size=1, max_size=12))
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[int]) -> None:
    mean = sum(counts) / len(counts)
    difference = sum(abs(one - other) for one, other in product(counts, counts)) / len(counts) ** 2
    assert gini(np.array(counts)) == pytest.approx(difference / (2 * mean) if mean else 0.0, abs=1e-12)


def test_gini_is_0_for_equal_classes_and_near_1_when_one_has_all() -> None:
    assert gini(np.full(50, 7)) == pytest.approx(0)
    assert gini(np.array([0] * 99 + [5])) == pytest.approx(0.99)


def test_groups_are_those_of_lvis() -> None:
    assert group_of(np.array([0, 1, 10, 11, 100, 101])).tolist() == [0, 1, 1, 2, 2, 3]


def test_a_side_is_the_root_of_the_area_and_its_part_that_of_the_image() -> None:
    measures = measure(dataset_of([(0, 0, (0, 0, 20, 5)), (1, 0, (0, 0, 100, 50))], 2, 1))
    assert measures.side_N.tolist() == pytest.approx([10, 5000**0.5])
    assert measures.part_N.tolist() == pytest.approx([10 / 5000**0.5, 1])


def test_a_class_twice_in_an_image_has_two_boxes_and_one_image() -> None:
    dataset = dataset_of([(0, 1, (0, 0, 5, 5)), (0, 1, (1, 1, 5, 5)), (2, 1, (0, 0, 5, 5))], 3, 2)
    first, second = describe(dataset, measure(dataset)).classes
    assert (first.name, first.boxes, first.images) == ("class 1", 3, 2)
    assert (second.name, second.boxes, second.images) == ("class 0", 0, 0)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 2), (2, 2)])
def test_a_file_without_boxes_has_numbers_and_a_picture(tmp_path: Path, shape: tuple[int, int]) -> None:
    dataset = dataset_of([], *shape)
    measures = measure(dataset)
    found = describe(dataset, measures)
    assert (found.boxes, found.gini, found.head_share) == (0, 0, 0)
    assert found.quantiles["box width, px"] == {}
    assert json.loads(json.dumps(asdict(found)))["images"] == shape[0]
    save_histogram(measures, tmp_path / "a.png", title="empty")


def test_values_that_are_no_numbers_are_left_out_of_quantiles() -> None:
    assert quantiles(np.array([np.nan, 1.0, 3.0]))["median"] == 2.0
    assert quantiles(np.array([np.nan])) == {}


def test_the_picture_shows_rare_and_common_classes_in_their_colours(tmp_path: Path) -> None:
    rows = [(image, 0, (0.0, 0.0, 30.0, 30.0)) for image in range(50)] + [(0, 1, (0.0, 0.0, 9.0, 9.0))]
    save_histogram(measure(dataset_of(rows, 50, 2)), tmp_path / "a.png", title="two classes")
    with Picture.open(tmp_path / "a.png") as picture:
        assert picture.size == (1440, 840)
        colours = dict(map(reversed, picture.convert("RGB").getcolors(1 << 24)))  # type: ignore[arg-type]
    rare, common = (0xC0, 0x39, 0x2B), (0xE0, 0xA0, 0x30)
    assert colours[common] > colours[rare] > 10_000  # both half as wide; one is taller


def test_the_same_data_gives_the_same_picture_and_nothing_is_overwritten(tmp_path: Path) -> None:
    measures = measure(load_dataset(SAMPLE))
    for name in ("a.png", "b.png"):
        save_histogram(measures, tmp_path / name, title="sample")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OutputExistsError):
        save_histogram(measures, tmp_path / "a.png", title="sample")
    with pytest.raises(InputError, match=r"found the ending '.svg'; expected .png"):
        save_histogram(measures, tmp_path / "a.svg", title="sample")


def test_a_missing_matplotlib_is_told_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingResourceError, match=r"kgtool-detector\[viz\]"):
        save_histogram(measure(dataset_of([], 1, 1)), tmp_path / "a.png", title="none")


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    dataset = dataset_of([(0, 0, (0, 0, 40, 40))], 1, 1)
    name = "cup\x1b[31m\r\u202e caf\u00e9 \u72ac"
    save_dataset(
        replace(dataset, categories=(Category(dataset.categories[0].id, name),)), tmp_path / "a.json"
    )
    command = [sys.executable, "-m", "kgtool", "stats", str(tmp_path / "a.json")]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    assert "most boxes: cup\\x1b[31m\\r\\u202e caf\u00e9 \u72ac 1" in shown
    assert not {"\x1b", "\r", "\u202e"} & set(shown)


def test_the_command_prints_numbers_and_json(tmp_path: Path) -> None:
    save_dataset(dataset_of([(0, 0, (0, 0, 40, 40))], 1, 1), tmp_path / "a.json")
    command = [sys.executable, "-m", "kgtool", "stats", str(tmp_path / "a.json")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["boxes_by_size"] == {"small": 0, "medium": 1, "large": 0}
    assert report["quantiles"]["box side, % of image"]["max"] == pytest.approx(100 * 40 / 5000**0.5, abs=1e-4)
    done = subprocess.run([*command, "--out", str(tmp_path / "a.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "medium              1  100.0 %" in done.stdout
    assert (tmp_path / "a.png").exists()
