"""COCO JSON as columns, and the images behind it."""

import codecs
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import COLOURS, SIDE, change_json, write_data

from detector.annotations import Annotations, find_annotation_file, load_annotations, to_clipped_xyxy
from detector.augmentation import Augmentation
from detector.data import ImageDataset, iter_batches, load_batches, load_image
from detector.errors import ClassMatchError, InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_columns_hold_what_the_file_says(folder: Path) -> None:
    annotations = load_annotations(folder, "train")
    document = json.loads((folder / "train.json").read_text())
    name_by_id = {category["id"]: category["name"] for category in document["categories"]}
    assert annotations.class_names == ("green", "red", "blue")  # by category id: 2, 7, 30
    assert annotations.synsets == ("green.n.01", "red.n.01", "blue.n.01")
    for image, record in enumerate(document["images"]):
        expected = [
            (name_by_id[box["category_id"]], box["bbox"])
            for box in document["annotations"]
            if box["image_id"] == record["id"]
        ]
        rows = range(annotations.offsets[image], annotations.offsets[image + 1])
        found = [
            (annotations.class_names[annotations.class_N[row]], annotations.boxes_xywh[row].tolist())
            for row in rows
        ]
        assert found == expected
        assert annotations.image_path(image) == folder / "images" / record["file_name"]


def test_order_of_records_does_not_matter_but_for_the_order_of_images(folder: Path) -> None:
    before = load_annotations(folder, "train")
    change_json(folder / "train.json", lambda document: document["categories"].reverse())
    change_json(
        folder / "train.json", lambda document: document["annotations"].sort(key=lambda box: box["area"])
    )
    after = load_annotations(folder, "train")
    assert after.class_names == before.class_names
    for image in range(before.num_images):
        rows = slice(*before.offsets[image : image + 2])
        assert {tuple(row) for row in before.boxes_xywh[rows]} == {
            tuple(row) for row in after.boxes_xywh[rows]
        }


def test_crowd_and_empty_boxes_are_kept_for_evaluation_and_left_out_of_training(folder: Path) -> None:
    def spoil(document: dict) -> None:
        first = document["annotations"][0]["image_id"]
        document["annotations"] = [box for box in document["annotations"] if box["image_id"] != first]
        place = {"image_id": first, "category_id": 2}
        document["annotations"] += [
            {**place, "id": 901, "bbox": [1, 1, 20, 20], "area": 300.5, "iscrowd": 1},
            {**place, "id": 902, "bbox": [5, 5, 0, 9], "area": 0, "iscrowd": 0},
            {**place, "id": 903, "bbox": [SIDE + 3, 5, 9, 9]},  # beyond the right border
        ]

    change_json(folder / "train.json", spoil)
    annotations = load_annotations(folder, "train")
    assert annotations.skipped() == {"crowd boxes": 1, "empty boxes": 2, "images without boxes": 1}
    assert annotations.offsets[1] == 3
    assert annotations.crowd_N[:3].tolist() == [True, False, False]
    assert annotations.area_N[:3].tolist() == [300.5, 0, 81]
    assert 0 not in annotations.usable_images()
    _, target = ImageDataset(annotations, np.array([0]))[0]
    assert target["boxes"].shape == (0, 4)


def test_selected_images_keep_their_boxes_and_the_first_with_boxes_are_taken(folder: Path) -> None:
    change_json(
        folder / "train.json",
        lambda document: document.update(
            annotations=[box for box in document["annotations"] if box["image_id"] != 101]
        ),
    )
    whole, few = load_annotations(folder, "train"), load_annotations(folder, "train", max_images=3)
    assert few.image_ids.tolist() == [100, 102, 103]
    for image, original in enumerate([0, 2, 3]):
        kept, rows = slice(*few.offsets[image : image + 2]), slice(*whole.offsets[original : original + 2])
        assert np.array_equal(few.boxes_xywh[kept], whole.boxes_xywh[rows])
        assert np.array_equal(few.class_N[kept], whole.class_N[rows])


def test_classes_are_matched_by_name(folder: Path) -> None:
    annotations = load_annotations(folder, "train")
    permuted = annotations.with_classes(("red", "blue", "green"), owner="the run")

    def named(one: Annotations) -> list[tuple[str, int, str]]:
        return [
            (one.class_names[index], int(one.category_ids[index]), one.synsets[index])
            for index in one.class_N
        ]

    assert named(permuted) == named(annotations)
    assert permuted.class_names == ("red", "blue", "green")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("red", "green", "bluee"),
            "1 classes of the run are missing and 1 are unknown to it; 'bluee'.*near: blue",
        ),
        (("red", "green"), "'blue' is not in the run"),
        (("red", "green", "blue", "pink"), "'pink' is not in the data"),
    ],
)
def test_other_classes_are_an_error_with_near_names(
    folder: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ClassMatchError, match=message):
        load_annotations(folder, "train").with_classes(names, owner="the run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][2].update(category_id=9), "annotation 2: category_id 9 is not declared"),
        (lambda d: d["annotations"][1].update(image_id=1), "annotation 1: image_id 1 is not declared"),
        (lambda d: d["images"][1].update(id=100), "image id 100 is there twice"),
        (lambda d: d["categories"][1].update(id=7), "category id 7 is there twice"),
        (lambda d: d["categories"][1].update(name="red"), "category name 'red' is there twice"),
        (lambda d: d.pop("categories"), "missing required field `categories`"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"length 4.*annotations\[0\].bbox"),
        (lambda d: d["annotations"].insert(1, 7), r"Expected `object`, got `int` - at `\$.annotations\[1\]`"),
        (
            lambda d: d["images"][0].update(width="64"),
            r"Expected `int`, got `str` - at `\$.images\[.*\].width`",
        ),
        (lambda d: d["images"][0].update(width=0), r"Expected `int` >= 1 - at `\$.images\[.*\].width`"),
        (lambda d: d["images"][0].update(height=2**40), r"Expected `int` <= .*height"),
        (lambda d: d["images"][0].update(id=10**30), r"\$.images\[.*\].id"),
        (lambda d: d["annotations"][0].update(image_id=10**30), r"\$.annotations\[.*\].image_id"),
        (lambda d: d["images"][1].update(file_name="gone.png"), "gone.png: no such image; .* 1 are missing"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_in_one_line(
    folder: Path, change: object, message: str
) -> None:
    change_json(folder / "train.json", change)
    with pytest.raises(InputError, match=message) as caught:
        load_annotations(folder, "train")
    assert "\n" not in str(caught.value)


def test_columns_are_flat_arrays_without_objects_for_workers_to_share(folder: Path) -> None:
    """Forked workers share pages until one is written to, and looking at a Python object writes to it."""
    annotations = load_annotations(folder, "train")
    columns = [value for value in vars(annotations).values() if isinstance(value, np.ndarray)]
    assert len(columns) == 10
    assert all(column.dtype != object for column in columns)
    whole = [column if column.base is None else column.base for column in columns]
    assert sum(one.nbytes for one in whole) == sum(column.nbytes for column in columns)


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(folder: Path) -> None:
    plain = load_annotations(folder, "train")
    text = json.dumps(json.loads((folder / "train.json").read_text()), indent=1)
    (folder / "train.json").write_bytes(codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode())
    marked = load_annotations(folder, "train")
    for name, value in vars(plain).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(marked, name), err_msg=name)
    assert plain.class_names == marked.class_names


def test_a_truncated_file_is_refused(folder: Path) -> None:
    text = (folder / "train.json").read_text()
    (folder / "train.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"train.json: Input data was truncated; expected COCO JSON"):
        load_annotations(folder, "train")


def test_an_empty_file_is_refused(folder: Path) -> None:
    (folder / "train.json").write_bytes(b"")
    with pytest.raises(InputError, match=r"train.json: Input data was truncated; expected COCO JSON"):
        load_annotations(folder, "train")


@pytest.mark.parametrize(
    ("annotation_file", "image_folder"),
    [
        ("train.json", "images"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("instances.json", "."),
    ],
)
def test_known_layouts_are_read(
    folder: Path, tmp_path: Path, annotation_file: str, image_folder: str
) -> None:
    other = tmp_path / "other"
    (other / annotation_file).parent.mkdir(parents=True)
    (folder / "train.json").rename(other / annotation_file)
    (other / image_folder).mkdir(exist_ok=True, parents=True)
    for image in (folder / "images").glob("train_*"):
        image.rename(other / image_folder / image.name)
    assert load_annotations(other, "train").num_images == 6


def test_images_of_lvis_lie_where_their_url_says(folder: Path) -> None:
    """LVIS 1 has no file names, and its validation images are of two folders of COCO."""
    places = {}

    def rename(document: dict) -> None:
        for number, image in enumerate(document["images"]):
            place = f"{('train2017', 'val2017')[number % 2]}/{number:012d}.png"
            places[image.pop("file_name")] = place
            image["coco_url"] = f"http://images.cocodataset.org/{place}"

    change_json(folder / "train.json", rename)
    for name, place in places.items():
        (folder / "images" / place).parent.mkdir(exist_ok=True)
        (folder / "images" / name).rename(folder / "images" / place)
    annotations = load_annotations(folder, "train")
    assert annotations.file_names.tolist() == list(places.values())
    change_json(folder / "train.json", lambda document: document["images"][1].pop("coco_url"))
    with pytest.raises(InputError, match=r"required field `file_name` - at `\$.images\[1\]`"):
        load_annotations(folder, "train")


def test_a_missing_or_doubtful_split_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no split 'val'; expected val.json, annotations/instances_val"):
        find_annotation_file(folder, "val")
    with pytest.raises(InputError, match="no such folder"):
        find_annotation_file(folder / "nowhere", "val")
    with pytest.raises(InputError, match=r"train.json: is a file; expected a data folder"):
        find_annotation_file(folder / "train.json", "val")
    (folder / "annotations").mkdir()
    for year in (2014, 2017):
        (folder / "annotations" / f"instances_val{year}.json").write_text("{}")
    with pytest.raises(InputError, match=r"instances_val2017.json could be meant too"):
        find_annotation_file(folder, "val")


numbers = st.floats(-50, 150, allow_nan=False)


@given(
    box=st.tuples(numbers, numbers, st.floats(0, 100), st.floats(0, 100)),
    size=st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
def test_clipped_boxes_lie_inside_and_do_not_grow(box: tuple[float, ...], size: tuple[int, int]) -> None:
    left, top, right, bottom = to_clipped_xyxy(np.array([box]), np.array([size]))[0]
    assert 0 <= left <= right <= size[1]
    assert 0 <= top <= bottom <= size[0]
    assert right - left <= box[2] + 1e-4
    assert bottom - top <= box[3] + 1e-4


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_images_of_every_kind_become_rgb(tmp_path: Path, mode: str) -> None:
    columns = np.tile(np.where(np.arange(12) < 6, 0, 255).astype(np.uint8), (8, 1))
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.fromarray(np.repeat(columns[:, :, None], 3, axis=2)).convert(mode).save(path)
    pixels = load_image(path)
    assert pixels.shape == (3, 8, 12)
    assert pixels.dtype == torch.uint8
    assert pixels[:, 4, 2].max() < 20
    assert pixels[:, 4, 9].min() > 235


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert load_image(tmp_path / "deep.png").unique().tolist() == [128]


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").shape == (3, 10, 20)


@pytest.mark.parametrize("content", [b"", b"no image at all", "half"])
def test_a_broken_image_is_refused(folder: Path, content: bytes | str) -> None:
    path = folder / "images" / "train_0.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(
        InputError, match=r"train_0.png: cannot be decoded: .*; expected a whole image"
    ) as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


def test_an_image_of_another_size_than_in_the_json_is_refused(folder: Path) -> None:
    Image.new("RGB", (SIDE, SIDE - 1)).save(folder / "images" / "train_0.png")
    annotations = load_annotations(folder, "train")
    loader = load_batches(
        ImageDataset(annotations, annotations.usable_images()), [np.arange(2), np.arange(2, 4)]
    )
    with pytest.raises(
        InputError, match=r"train_0.png: the file is 64 x 63 px; expected 64 x 64 as in train.json"
    ):
        list(iter_batches(loader, "cpu"))


def test_boxes_follow_their_pixels_when_flipped(folder: Path) -> None:
    annotations = load_annotations(folder, "train")
    for flip in (0.0, 1.0):
        dataset = ImageDataset(annotations, np.arange(6), augmentation=Augmentation(flip))
        for pixels, target in dataset:
            for box, label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
                inside = pixels[:, box[1] : box[3], box[0] : box[2]].flatten(1).T
                assert set(map(tuple, inside.tolist())) == {COLOURS[annotations.class_names[label - 1]]}


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), epoch=st.integers(1, 1000))
def test_flipping_depends_on_seed_epoch_and_image_alone(
    seed: int, epoch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    annotations = load_annotations(write_data(tmp_path_factory.mktemp("flips") / "data"), "train")
    forwards = ImageDataset(annotations, np.arange(6), augmentation=Augmentation(0.5), seed=seed)
    backwards = ImageDataset(annotations, np.arange(6)[::-1], augmentation=Augmentation(0.5), seed=seed)
    forwards.epoch = backwards.epoch = epoch
    for index in range(6):
        assert torch.equal(forwards[index][0], backwards[5 - index][0])


def test_about_half_of_the_images_are_flipped(folder: Path) -> None:
    annotations = load_annotations(folder, "train")
    dataset, plain = (
        ImageDataset(annotations, np.arange(6), augmentation=Augmentation(flip)) for flip in (0.5, 0.0)
    )
    flipped = 0
    for dataset.epoch in range(50):
        flipped += sum(not torch.equal(dataset[index][0], plain[index][0]) for index in range(6))
    assert 110 < flipped < 190


def test_an_error_in_a_worker_process_is_one_line_too(folder: Path) -> None:
    """In another interpreter: forking beside pytest's threads would warn."""
    (folder / "images" / "train_2.png").write_bytes(b"broken")
    program = (
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from detector.annotations import load_annotations\n"
        "from detector.data import ImageDataset, load_batches, iter_batches\n"
        "from detector.errors import InputError\n"
        "annotations = load_annotations(Path('.'), 'train')\n"
        "dataset = ImageDataset(annotations, annotations.usable_images())\n"
        "loader = load_batches(dataset, [np.arange(2), np.arange(2, 4)], workers=1)\n"
        "try:\n    list(iter_batches(loader, 'cpu'))\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert "train_2.png: cannot be decoded" in done.stdout
