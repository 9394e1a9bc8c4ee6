"""COCO's and ADE20K's own sets, and class lists and graphs that choose classes."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ade_examples import DOG, NAMES, SKY, Thing, save_2016
from test_voc import run

from kgtool.class_names import ClassName
from kgtool.class_overlap import overlap_with
from kgtool.coco import load_dataset
from kgtool.datasets.ade import boxes_of_ade, split_ade
from kgtool.datasets.coco import split_coco
from kgtool.datasets.visual_genome import convert_visual_genome, split_visual_genome
from kgtool.errors import ClassMatchError, InputError
from kgtool.splits import ImageChoice
from kgtool.targets import Target
from kgtool.wordnet import load_nouns

REAL = Path(__file__).parents[2] / "../shared/real_data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real samples are not here")

Box = tuple[int, int, int, list[float]]  # id, image id, category id, bbox
MASK = {"segmentation": [[1.5, 2, 3, 4, 5, 6.25]], "note": "kept \u00e9"}


def write_coco(
    path: Path, images: Sequence[int], boxes: Sequence[Box], categories: Sequence[str] = ("dog", "cat")
) -> Path:
    document = {
        "info": {"year": 2017},
        "images": [
            {"id": n, "file_name": f"{n:012}.jpg", "width": 64, "height": 48, "license": 1} for n in images
        ],
        "categories": [
            {"id": 10 * n, "name": name, "supercategory": "animal"} for n, name in enumerate(categories, 1)
        ],
        "annotations": [
            {"id": i, "image_id": m, "category_id": c, "bbox": b, "area": 7.5, "iscrowd": 0, **MASK}
            for i, m, c, b in boxes
        ],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def two_files(tmp_path: Path) -> list[Path]:
    return [
        write_coco(
            tmp_path / "train2017.json", [3, 1], [(7, 3, 10, [1, 2, 3, 4.5]), (9, 1, 20, [0, 0, 64, 48])]
        ),
        write_coco(tmp_path / "val2017.json", [5, 2], [(4, 5, 10, [60, 40, 4, 8])]),
    ]


def load(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return loaded


def ids(folder: Path, name: str) -> list[int]:
    return [image["id"] for image in load(folder, name)["images"]]


# COCO


def test_two_files_are_train_and_test_set_as_they_are(two_files: list[Path], tmp_path: Path) -> None:
    report = split_coco(two_files, tmp_path / "out")
    for path, name in zip(two_files, ("train", "test"), strict=True):
        before, after = json.loads(path.read_text()), load(tmp_path / "out", name)
        assert after["annotations"] == before["annotations"]
        assert [image["id"] for image in after["images"]] == [image["id"] for image in before["images"]]
        assert [category["id"] for category in after["categories"]] == [10, 20]
        assert {category["supercategory"] for category in after["categories"]} == {"animal"}
    assert [category["synset"] for category in load(tmp_path / "out", "test")["categories"]] == [
        "dog.n.01",
        "cat.n.01",
    ]
    assert report["test"] == {"images": 2, "boxes": 1, "images without a box": 1}


def test_other_names_than_cocos_get_no_synset(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json", [1, 2], [(1, 1, 10, [1, 1, 2, 2]), (2, 2, 10, [1, 1, 2, 2])], ["dog", "RBC"]
    )
    split_coco([path], tmp_path / "out")
    assert all("synset" not in category for category in load(tmp_path / "out", "train")["categories"])


def test_official_lists_divide_the_images_of_all_files(two_files: list[Path], tmp_path: Path) -> None:
    """As the minival lists of COCO 2014 do, which move images of val into train."""
    (tmp_path / "minival.txt").write_text("000000000002.jpg\n3\n")
    split_coco(two_files, tmp_path / "out", choice=ImageChoice(test_list=tmp_path / "minival.txt"))
    assert (ids(tmp_path / "out", "train"), ids(tmp_path / "out", "test")) == ([1, 5], [3, 2])
    (tmp_path / "train.txt").write_text("1\n")
    choice = ImageChoice(train_list=tmp_path / "train.txt", test_list=tmp_path / "minival.txt")
    report = split_coco(two_files, tmp_path / "both", choice=choice)
    assert report["images"] == {"read": 4, "skipped": {"in neither set": 1}}
    with pytest.raises(InputError, match=r"train.txt: found image 1 .*which is also in"):
        split_coco(
            two_files,
            tmp_path / "no",
            choice=ImageChoice(train_list=tmp_path / "train.txt", test_list=tmp_path / "train.txt"),
        )


def test_one_file_is_divided_by_seed(tmp_path: Path) -> None:
    boxes = [(n, n, 10, [1.0, 1.0, 5.0, 5.0]) for n in range(1, 41)]
    path = write_coco(tmp_path / "a.json", range(1, 42), boxes)
    split_coco([path], tmp_path / "out")
    split_coco([path], tmp_path / "seed", choice=ImageChoice(seed=1))
    assert len(ids(tmp_path / "out", "test")) == len(ids(tmp_path / "seed", "test")) == 2
    assert ids(tmp_path / "out", "test") != ids(tmp_path / "seed", "test")
    assert sorted(ids(tmp_path / "out", "train") + ids(tmp_path / "out", "test")) == list(range(1, 41))


def test_a_class_list_chooses_and_keeps_ids(two_files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("name,synset\ncat,kitty.n.04\n")
    split_coco(two_files, tmp_path / "out", classes=str(tmp_path / "classes.csv"))
    train = load(tmp_path / "out", "train")
    assert [(row["id"], row["name"], row["synset"]) for row in train["categories"]] == [
        (20, "cat", "kitty.n.04")
    ]
    assert [row["id"] for row in train["annotations"]] == [9]
    assert ids(tmp_path / "out", "test") == [5, 2]
    (tmp_path / "classes.csv").write_text("name\ncta\n")
    with pytest.raises(ClassMatchError, match=r"class 'cta': not one of the 2 categories.*did you mean cat"):
        split_coco(two_files, tmp_path / "no", classes=str(tmp_path / "classes.csv"))


def test_files_that_do_not_belong_together_are_refused(two_files: list[Path], tmp_path: Path) -> None:
    other = write_coco(tmp_path / "other.json", [8], [(90, 8, 20, [1, 1, 2, 2])], ["dog", "kitty"])
    with pytest.raises(ClassMatchError, match="found 'kitty' as category 20; expected 'cat'"):
        split_coco([two_files[0], other], tmp_path / "out")
    same_image = write_coco(tmp_path / "same.json", [3], [(90, 3, 20, [1, 1, 2, 2])])
    with pytest.raises(InputError, match=r"found image id 3 in more than one .*; an image must not be"):
        split_coco([two_files[0], same_image], tmp_path / "out")
    with pytest.raises(InputError, match="found 3 files"):
        split_coco([*two_files, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_annotations_numbered_from_one_in_each_file_are_numbered_anew(
    two_files: list[Path], tmp_path: Path
) -> None:
    same_box = write_coco(tmp_path / "same.json", [8], [(9, 8, 20, [1, 1, 2, 2])])
    report = split_coco([two_files[0], same_box], tmp_path / "out")
    assert report["messages"] == ["1 annotation ids are in more than one file: all are numbered anew"]
    found = [json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("train", "test")]
    numbers = [row["id"] for document in found for row in document["annotations"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert [(row["image_id"], row["bbox"]) for row in found[1]["annotations"]] == [(8, [1, 1, 2, 2])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": []}'.encode("utf-16"), "a.json, line 1"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "caf\xe9"}], "annotations": []}'.encode(
                "latin-1"
            ),
            "a.json, line 1, column 53",
        ),
        (b"", "a.json, line 1"),
        (b'{"images": [], "categories": []}', "annotations"),
    ],
)
def test_a_file_that_is_no_coco_json_gets_one_line(
    tmp_path: Path, content: bytes, message: str, capsys: Any
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert run("split", "coco", tmp_path / "a.json", "--out", tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_doubtful_boxes_are_kept_counted_and_with_strict_refused(tmp_path: Path) -> None:
    boxes = [(1, 1, 10, [60, 40, 4.009, 8]), (2, 1, 10, [60, 40, 5, 8]), (3, 2, 20, [1, 1, 0, 3])]
    path = write_coco(tmp_path / "a.json", [1, 2], boxes)
    report = split_coco([path], tmp_path / "out")
    assert report["doubts"] == {"past the edge of their image": 1, "without width or height": 1}
    assert report["boxes"] == {"read": 3, "kept": 3}
    with pytest.raises(InputError, match="found 1 boxes past the edge"):
        split_coco([path], tmp_path / "strict", strict=True)


@needs_real_data
def test_real_coco_annotations_come_out_as_they_went_in(tmp_path: Path) -> None:
    path = REAL / "coco/instances.json"
    report = split_coco(
        [path], tmp_path / "out", classes="coco", choice=ImageChoice(num_test=20), strict=True
    )
    before = {row["id"]: row for row in json.loads(path.read_text())["annotations"]}
    after = {
        row["id"]: row for name in ("train", "test") for row in load(tmp_path / "out", name)["annotations"]
    }
    assert after == before
    assert report["test"]["images"] == 20
    assert all(category["synset"] for category in load(tmp_path / "out", "test")["categories"])


# ADE20K


@pytest.fixture(scope="module")
def ade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """instances.json of four training and three validation images."""
    root = tmp_path_factory.mktemp("ade")
    for number in range(4):
        save_2016(root / "in/training/a", f"ADE_train_{number:08}")
    for number in range(3):
        save_2016(
            root / "in/validation/b",
            f"ADE_val_{number:08}",
            (Thing(SKY, (0, 0, 32, 10)), Thing(DOG, (1, 1, 5, 5))),
        )
    (root / "names.json").write_text(json.dumps(NAMES))
    boxes_of_ade(root / "in", root / "out")
    return root / "out/instances.json"


def test_ade_trains_on_its_training_set_and_tests_on_its_validation_set(ade: Path, tmp_path: Path) -> None:
    report = split_ade(ade, tmp_path / "out")
    assert ids(tmp_path / "out", "train") == [1, 2, 3, 4]
    assert ids(tmp_path / "out", "test") == [5, 6, 7]
    before = {row["id"]: row for row in json.loads(ade.read_text())["annotations"]}
    after = {
        row["id"]: row for name in ("train", "test") for row in load(tmp_path / "out", name)["annotations"]
    }
    assert after == before
    assert report["num_classes"] == len(load(tmp_path / "out", "train")["categories"])


def test_which_validation_images_are_tested_on_depends_on_seed_and_name_alone(
    ade: Path, tmp_path: Path
) -> None:
    found = set()
    for seed in range(8):
        report = split_ade(ade, tmp_path / str(seed), choice=ImageChoice(num_test=1, seed=seed))
        assert report["images"] == {"read": 7, "skipped": {"in neither set": 2}}
        found.add(ids(tmp_path / str(seed), "test")[0])
    assert found == {5, 6, 7}
    document = json.loads(ade.read_text())
    for image in document["images"]:  # another layout of the same photographs
        image["file_name"] = "images/" + image["file_name"].rpartition("/")[2]
    (tmp_path / "flat.json").write_text(json.dumps(document))
    split_ade(tmp_path / "flat.json", tmp_path / "flat", choice=ImageChoice(num_test=1, seed=3))
    assert ids(tmp_path / "flat", "test") == ids(tmp_path / "3", "test")
    with pytest.raises(InputError, match="--test-images: found 4; expected 1 to 3"):
        split_ade(ade, tmp_path / "no", choice=ImageChoice(num_test=4))


def test_images_of_no_known_set_need_a_list(ade: Path, tmp_path: Path) -> None:
    document = json.loads(ade.read_text())
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.jpg"
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="found no training image among 7"):
        split_ade(tmp_path / "other.json", tmp_path / "out")
    (tmp_path / "test.txt").write_text("2\n")
    split_ade(tmp_path / "other.json", tmp_path / "out", choice=ImageChoice(test_list=tmp_path / "test.txt"))
    assert ids(tmp_path / "out", "test") == [2]


def test_the_overlap_keeps_the_classes_of_a_list(ade: Path, tmp_path: Path) -> None:
    (tmp_path / "vg.txt").write_text("person.n.01\ncar.n.01\nhat.n.01\n")
    report = split_ade(ade, tmp_path / "out", overlap=tmp_path / "vg.txt")
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        rows = [(row["name"].split(",")[0], row["synset"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [("car", "car.n.01"), ("person", "person.n.01")]
    assert report["boxes"]["skipped"] == {"class not in the overlap": 10}
    assert report["test"] == {"images": 3, "boxes": 0, "images without a box": 3}
    (tmp_path / "vg.txt").write_text("volcano.n.01\n")
    with pytest.raises(ClassMatchError, match="found none of the"):
        split_ade(ade, tmp_path / "no", overlap=tmp_path / "vg.txt")


# Overlap


def overlap(tmp_path: Path, names: Sequence[str], *synsets: str, known: Sequence[ClassName] = ()) -> Any:
    boxes = [(n, 1, 10 * n, [1.0, 1.0, 2.0, 2.0]) for n in range(1, len(names) + 1)]
    path = write_coco(tmp_path / "a.json", [1], [*boxes, (99, 1, 10 * len(names), [3, 3, 2, 2])], names)
    return overlap_with(
        load_dataset(path, with_extra=True), Target(frozenset(synsets)), load_nouns(""), known=known
    )


def test_classes_that_are_one_in_the_graph_become_one(tmp_path: Path) -> None:
    found = overlap(tmp_path, ["doors", "door", "ice wall", "sky"], "door.n.01", "wall.n.01")
    assert [(row.id, row.name, row.synset) for row in found.dataset.categories] == [(20, "door", "door.n.01")]
    assert found.merged == {"door": ["doors"]}
    assert found.dataset.annotations.category_id_N.tolist() == [20, 20]
    assert found.dataset.annotations.id_N.tolist() == [1, 2]
    assert found.left_out == {"class not in the overlap": 3}  # an ice wall is no wall


def test_background_is_in_no_overlap(tmp_path: Path) -> None:
    found = overlap(tmp_path, ["dog", "background"], "dog.n.01", "background.n.01")
    assert [row.name for row in found.dataset.categories] == ["dog"]
    assert found.left_out == {"background, which is no object": 2}


def test_a_set_without_overlap_has_no_background_either(ade: Path, tmp_path: Path) -> None:
    document = json.loads(ade.read_text())
    document["categories"][0]["name"] = "background"
    gone = [
        row["id"] for row in document["annotations"] if row["category_id"] == document["categories"][0]["id"]
    ]
    (tmp_path / "a.json").write_text(json.dumps(document))
    report = split_ade(tmp_path / "a.json", tmp_path / "out")
    assert report["boxes"]["skipped"] == {"background, which is no object": len(gone)}
    assert gone
    train = load(tmp_path / "out", "train")
    assert [row["id"] for row in train["categories"]] == [row["id"] for row in document["categories"][1:]]


def test_a_known_synset_decides(tmp_path: Path) -> None:
    known = [ClassName("mouse", synset="mouse.n.04", known_by="curated", vg_synsets=("mouse.n.04",))]
    found = overlap(tmp_path, ["mouse"], "mouse.n.01", "mouse.n.04", known=known)
    assert found.dataset.categories[0].synset == "mouse.n.04"


# Visual Genome, all in one file


def write_vg(folder: Path) -> tuple[Path, Path]:
    synsets = [["dog.n.01"], ["cat.n.01"], ["dog.n.01"], [], ["dog.n.01", "cat.n.01"], ["mouse.n.01"]]
    objects = [
        {
            "image_id": image,
            "objects": [
                {"object_id": 100 * image + at, "synsets": found, "x": at, "y": 1, "w": 9, "h": 9}
                for at, found in enumerate(synsets)
            ],
        }
        for image in (2, 1)
    ]
    images = [
        {"image_id": n, "width": 50, "height": 40, "url": f"https://x/VG_100K/{n}.jpg"} for n in (3, 1, 2)
    ]
    (folder / "objects.json").write_text(json.dumps(objects))
    (folder / "image_data.json").write_text(json.dumps(images))
    return folder / "objects.json", folder / "image_data.json"


def test_visual_genome_in_one_file_has_all_images_and_the_boxes_of_both_sets(tmp_path: Path) -> None:
    files = write_vg(tmp_path)
    report = convert_visual_genome(*files, tmp_path / "out")
    made = load(tmp_path / "out", "instances")
    assert [image["id"] for image in made["images"]] == [1, 2, 3]
    assert [row["name"] for row in made["categories"]] == ["dog.n.01", "cat.n.01", "mouse.n.01"]
    assert report["images"] == {"written": 3, "without a box": 1}
    assert report["objects"]["skipped"] == {"object without a synset": 2, "object with several synsets": 2}
    convert_visual_genome(*files, tmp_path / "some", classes=2)
    split_visual_genome(*files, tmp_path / "sets", classes=2)
    both = [row for name in ("train", "test") for row in load(tmp_path / "sets", name)["annotations"]]
    assert sorted(both, key=lambda row: row["id"]) == load(tmp_path / "some", "instances")["annotations"]


def test_convert_vg_writes_a_file_alone_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects, images = write_vg(tmp_path)
    out = tmp_path / "vg.json"
    assert run("convert", "vg", objects, "--image-data", images, "--out", out, "--classes", 1) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 4 boxes of 1 classes in 3 images\nleft out: 2 objects")
    assert len(json.loads(out.read_text())["annotations"]) == 4
    assert run("convert", "vg", objects, "--image-data", images, "--out", out) == 1
    (tmp_path / "list.txt").write_text("dog.n.01\ncat.n.01\ndog.n.01\n")
    assert (
        run(
            "convert",
            "vg",
            objects,
            "--image-data",
            images,
            "--out",
            tmp_path / "x",
            "--classes",
            tmp_path / "list.txt",
        )
        == 3
    )
    assert "list.txt: class list, class 3: found name 'dog.n.01' again" in capsys.readouterr().err
