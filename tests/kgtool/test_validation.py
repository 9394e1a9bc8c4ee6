"""`kgtool validate`: every fault is told with its place, in one pass, and what is right is left alone."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from kgtool.coco import Annotations, Category, Dataset, Image, load_dataset, save_dataset
from kgtool.coco_stats import describe, measure
from kgtool.errors import InputError
from kgtool.validation.coco_file import Validation, validate_file
from kgtool.validation.findings import KINDS, NUM_EXAMPLES
from kgtool.validation.table import _BATCH

ROOT = Path(__file__).parents[2]
REAL_COCO = ROOT / "../shared/real_data/coco/instances.json"
LVIS_CATEGORIES = ROOT / "../shared/real_data/lvis/lvis_v1_train_cat_info.json"
SAMPLE = ROOT / "data/sample"

Document = dict[str, Any]


def good_document() -> Document:
    """Two images with a box each of two categories, a polygon, run lengths, and a relation."""
    return {
        "images": [
            {"id": 5, "file_name": "a/5.png", "width": 40, "height": 30},
            {"id": 6, "file_name": "a/6.png", "width": 20, "height": 20, "coco_id": None},
        ],
        "categories": [
            {"id": 1, "name": "dog", "synset": "dog.n.01", "supercategory": "animal"},
            {"id": 9, "name": "cat", "supercategory": None},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 5,
                "category_id": 9,
                "bbox": [30.5, 20, 9.5, 10],
                "area": 47.5,
                "iscrowd": 0,
                "segmentation": [[30.5, 20, 40, 20, 40, 30]],
            },
            {
                "id": 3,
                "image_id": 6,
                "category_id": 9,
                "bbox": [0, 0, 20, 20],
                "area": 390,
                "iscrowd": 1,
                "segmentation": {"size": [20, 20], "counts": [10, 390]},
            },
        ],
        "rel_categories": [{"id": 1, "name": "near"}],
        "rel_annotations": [{"id": 1, "image_id": 5, "subject_id": 1, "predicate_id": 1, "object_id": 2}],
    }


def validate_document(document: object, folder: Path) -> Validation:
    path = folder / "broken.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return validate_file(path)


def kinds(validation: Validation) -> dict[str, int]:
    return {finding.kind: finding.count for finding in validation.findings}


def change(*path: Any, to: Any = ...) -> Callable[[Document], None]:
    """A change at a place of the document; without `to` what is there is removed."""

    def apply(document: Document) -> None:
        at: Any = document
        for step in path[:-1]:
            at = at[step]
        if to is ...:
            del at[path[-1]]
        elif path[-1] == "+":
            at.append(to)
        else:
            at[path[-1]] = to

    return apply


def test_a_good_file_has_no_findings(tmp_path: Path) -> None:
    validation = validate_document(good_document(), tmp_path)
    assert validation.valid
    assert validation.findings == ()
    assert validation.num_records["annotations"] == 3


@pytest.mark.parametrize(
    ("edit", "kind", "example"),
    [
        (change("images", 1, "id", to=5), "duplicate id", "images[1]: id 5 again, after images[0]"),
        (
            change("annotations", 2, "id", to=1),
            "duplicate id",
            "annotations[2]: id 1 again, after annotations[0]",
        ),
        (change("categories", 1, "id", to=1), "duplicate id", "categories[1]: id 1 again"),
        (
            change("categories", 1, "name", to="dog"),
            "duplicate category name",
            "categories[1]: name 'dog' again",
        ),
        (
            change("images", 1, "file_name", to="a/5.png"),
            "duplicate file name",
            "images[1]: file_name 'a/5.png'",
        ),
        (
            change("categories", 1, "synset", to="dog.n.01"),
            "duplicate synset",
            "categories[1]: synset 'dog.n.01' again",
        ),
        (
            change("annotations", 0, "image_id", to=77),
            "dangling id",
            "annotations[0], id 1: image_id 77 is no id",
        ),
        (
            change("annotations", 0, "category_id", to=-1),
            "dangling id",
            "category_id -1 is no id of categories",
        ),
        (
            change("rel_annotations", 0, "object_id", to=8),
            "dangling id",
            "object_id 8 is no id of annotations",
        ),
        (change("rel_annotations", 0, "predicate_id", to=8), "dangling id", "predicate_id 8 is no id"),
        (change("rel_categories"), "dangling id", "predicate_id 1 is no id of rel_categories"),
        (
            change("rel_annotations", 0, "object_id", to=3),
            "relation across images",
            "rel_annotations[0], id 1, of image 5: object_id 3 is in image 6",
        ),
        (
            change("annotations", 0, "bbox", to=[40, 0, 5, 5]),
            "box outside the image",
            "annotations[0], id 1: bbox [40, 0, 5, 5] in an image of 40 x 30",
        ),
        (change("annotations", 0, "bbox", to=[-20, 0, 5, 5]), "box outside the image", "[-20, 0, 5, 5]"),
        (change("annotations", 0, "bbox", to=[35, 0, 6.5, 5]), "box past the edge", "[35, 0, 6.5, 5]"),
        (change("annotations", 0, "bbox", to=[0, -1.5, 5, 5]), "box past the edge", "[0, -1.5, 5, 5]"),
        (change("annotations", 0, "bbox", to=[3, 3, 0, 5]), "empty box", "[3, 3, 0, 5]"),
        (change("annotations", 0, "bbox", to=[3, 3, 5, -2]), "empty box", "[3, 3, 5, -2]"),
        (change("annotations", 0, "bbox", to=[3, 3, 5, 0.5]), "box below 1 px", "[3, 3, 5, 0.5]"),
        (
            change("annotations", 0, "bbox", to=[float("nan"), 3, 5, 5]),
            "box not finite",
            "bbox [nan, 3, 5, 5]",
        ),
        (change("annotations", 0, "bbox", to=[0, 3, float("inf"), 5]), "NaN or Infinity", "found Infinity"),
        (
            change("annotations", 0, "bbox", to=[0, 0, 10]),
            "wrong type",
            "annotations[0].bbox: found [0,0,10]",
        ),
        (change("annotations", 0, "bbox", to=["NaN", 3, 5, 5]), "wrong type", 'found ["NaN",3,5,5]'),
        (change("annotations", 0, "bbox", to=[0, 0, 10, "a"]), "wrong type", 'found [0,0,10,"a"]'),
        (change("annotations", 0, "bbox", to=None), "wrong type", "annotations[0].bbox: found null"),
        (change("annotations", 0, "id", to="1"), "wrong type", 'annotations[0].id: found "1", not a whole'),
        (change("annotations", 0, "image_id", to=5.0), "wrong type", "annotations[0].image_id: found 5.0"),
        (change("annotations", 0, "id", to=2**70), "wrong type", "found 1180591620717411303424"),
        (change("annotations", 0, "iscrowd", to=True), "wrong type", "annotations[0].iscrowd: found true"),
        (change("annotations", 0, "iscrowd", to=7), "wrong type", "iscrowd 7, not 0 or 1"),
        (change("images", 0, "width", to="40"), "wrong type", 'images[0].width: found "40"'),
        (change("images", 0, "height", to=0), "image without size", "images[0], id 5: width 40, height 0"),
        (change("categories", 0, "name", to=3), "wrong type", "categories[0].name: found 3, not a text"),
        (change("categories", 0, "synset", to=None), "wrong type", "categories[0].synset: found null"),
        (change("annotations", 0, "bbox"), "missing field", "annotations[0]: no bbox"),
        (change("images", 1, "file_name"), "missing field", "images[1]: no file_name"),
        (change("images", 1, "file_name", to=""), "missing field", "images[1], id 6: an empty file_name"),
        (change("categories", 1, "name", to=" "), "missing field", "categories[1], id 9: an empty name"),
        (change("annotations"), "missing list", "found no 'annotations'; there are 'images', 'categories'"),
        (change("images", to={}), "missing list", "images: found an object {...}; expected a list [...]"),
        (
            change("annotations", "+", to=None),
            "unreadable record",
            "annotations[3]: found null; expected an object",
        ),
        (change("annotations", "+", to=[1]), "unreadable record", "annotations[3]: found a list"),
        (
            change("images", 0, "file_name", to="../5.png"),
            "file name leaves the folder",
            "images[0], id 5: '../5",
        ),
        (change("images", 0, "file_name", to="a\\5.png"), "file name leaves the folder", "images[0]"),
        (
            change("categories", "+", to={"id": 0, "name": "__background__"}),
            "background as category",
            "categories[2], id 0: '__background__'",
        ),
        (
            change("categories", "+", to={"id": 3, "name": "emu"}),
            "category without boxes",
            "categories[2], id 3, 'emu'",
        ),
        (
            change("images", "+", to={"id": 3, "file_name": "x.png", "width": 1, "height": 1}),
            "image without boxes",
            "images[2], id 3, 'x.png'",
        ),
        (change("annotations", 2, "id", to=0), "annotation id 0", "annotations[2]"),
        (change("annotations", 0, "area"), "missing area", "annotations[0], id 1: no area"),
        (change("annotations", 0, "area", to=60), "area differs", "annotations[0], id 1: area 60, box 100"),
        (change("annotations", 1, "area", to=200), "area differs", "annotations[1], id 2: area 200, box 95"),
        (
            change("annotations", 1, "segmentation", to=[[1, 2, 3, 4]]),
            "malformed segmentation",
            "annotations[1].segmentation[0]: found a polygon of 4 numbers",
        ),
        (
            change("annotations", 1, "segmentation", to=[[1, 2, 3, 4, 5, 6, 7]]),
            "malformed segmentation",
            "found a polygon of 7 numbers",
        ),
        (
            change("annotations", 1, "segmentation", to=[1, 2, 3, 4, 5, 6]),
            "malformed segmentation",
            "annotations[1].segmentation[0]: found a whole number; expected a list",
        ),
        (
            change("annotations", 1, "segmentation", to=[[1, 2, 3, "4", 5, 6]]),
            "malformed segmentation",
            "annotations[1].segmentation[0][3]: found a text; expected a number",
        ),
        (
            change("annotations", 2, "segmentation", "counts", to=[10, 10]),
            "malformed segmentation",
            "annotations[2].segmentation: found runs of 20 pixels in all for a mask of 20 x 20",
        ),
        (
            change("annotations", 2, "segmentation", "size", to=[40, 10]),
            "malformed segmentation",
            "annotations[2], id 3: found a mask of height 40, width 10; its image has 20, 20",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(
    tmp_path: Path, edit: Callable[[Document], None], kind: str, example: str
) -> None:
    document = good_document()
    edit(document)
    validation = validate_document(document, tmp_path)
    finding = next((finding for finding in validation.findings if finding.kind == kind), None)
    assert finding is not None, kinds(validation)
    assert any(example in shown for shown in finding.examples), finding.examples
    assert validation.valid == all(KINDS[kind][0] != "error" for kind in kinds(validation))


def test_empty_and_absent_masks_are_no_fault(tmp_path: Path) -> None:
    document = good_document()
    for segmentation in ([], None, {}):
        document["annotations"][0]["segmentation"] = segmentation
        assert validate_document(document, tmp_path).findings == ()


@pytest.mark.parametrize(
    ("text", "kind", "example"),
    [
        ("", "not JSON", "line 1, column 1: found the end of the file in the middle"),
        ('{"images": [\n{"id": 1},\n{"id"', "not JSON", "line 3, column 6: found the end of the file"),
        (
            '{"images": [\n{"id": 1,}]}',
            "not JSON",
            "line 2, column 10: found text that is not JSON (trailing",
        ),
        ("<html>", "not JSON", "line 1, column 1: found text that is not JSON"),
        ("[]", "missing list", "found a list [...]; expected an object {...}"),
        ('{"images":' * 100_000, "not JSON", "nested without end"),
    ],
)
def test_text_that_is_no_document_is_told_with_line_and_column(
    tmp_path: Path, text: str, kind: str, example: str
) -> None:
    validation = validate_document(text, tmp_path)
    assert not validation.valid
    assert [finding.kind for finding in validation.findings] == [kind]
    assert example in validation.findings[0].examples[0]


def test_latin_1_is_told_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    document = good_document()
    document["images"][0]["file_name"] = "café.png"
    document["annotations"][0]["category_id"] = 9
    document["annotations"][0]["area"] = 2
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (tmp_path / "latin.json").write_bytes(text.encode("latin-1"))
    validation = validate_file(tmp_path / "latin.json")
    assert kinds(validation) == {"not UTF-8": 1, "category without boxes": 1, "area differs": 1}
    line = text[: text.index("é")].count("\n") + 1
    assert f"line {line}, column" in validation.findings[0].examples[0]
    assert "caf" in validation.findings[0].examples[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_are_told_and_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(good_document()).encode(encoding))
    assert kinds(validate_file(tmp_path / "a.json")) == {"not UTF-8": 1}


def test_words_in_texts_are_no_nan(tmp_path: Path) -> None:
    document = good_document()
    document["categories"][0]["name"] = 'NaN, "Infinity"'
    document["annotations"][1]["bbox"][0] = float("-inf")
    validation = validate_document(document, tmp_path)
    assert kinds(validation) == {"NaN or Infinity": 1, "box not finite": 1}
    assert "bbox [-inf, 20, 9.5, 10]" in validation.findings[1].examples[0]


def test_all_faults_of_a_file_are_told_in_one_pass(tmp_path: Path) -> None:
    document = good_document()
    document["images"][1]["id"] = 5
    document["categories"][1]["name"] = "dog"
    document["annotations"][0]["bbox"] = [100, 100, 5, 5]
    document["annotations"][1]["category_id"] = 44
    document["annotations"] += [{"id": number} for number in range(10, 20)]
    validation = validate_document(document, tmp_path)
    assert kinds(validation) == {
        "missing field": 30,
        "duplicate id": 1,
        "duplicate category name": 1,
        "dangling id": 2,  # and the box of the image whose id has changed
        "box outside the image": 1,
        "image without boxes": 1,
        "area differs": 1,
    }
    missing = validation.findings[0]
    assert missing.count == 30
    assert len(missing.examples) == NUM_EXAMPLES


def test_faults_far_behind_the_first_batch_keep_their_place(tmp_path: Path) -> None:
    document = good_document()
    rows = [
        {"id": number, "image_id": 5, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4}
        for number in range(10, 10 + 2 * _BATCH)
    ]
    rows[_BATCH + 7]["bbox"] = [0, 0, "2", 2]
    rows[2 * _BATCH - 1]["category_id"] = 5
    document["annotations"] += rows
    validation = validate_document(document, tmp_path)
    assert kinds(validation) == {"wrong type": 1, "dangling id": 1}
    assert validation.findings[0].examples[0].startswith(f"annotations[{3 + _BATCH + 7}].bbox")
    assert validation.findings[1].examples[0].startswith(f"annotations[{3 + 2 * _BATCH - 1}], id ")


def test_image_files_are_compared_with_their_records(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    document = good_document()
    document["images"] += [
        {"id": 7, "file_name": "gone.png", "width": 4, "height": 4},
        {"id": 8, "file_name": "broken.png", "width": 4, "height": 4},
        {"id": 9, "file_name": "turned.jpg", "width": 16, "height": 8},
        {"id": 10, "file_name": "a", "width": 16, "height": 8},
    ]
    Picture.new("RGB", (40, 30)).save(tmp_path / "a/5.png")
    Picture.new("RGB", (20, 24)).save(tmp_path / "a/6.png")
    (tmp_path / "broken.png").write_bytes(b"<html>")
    exif = Picture.Exif()
    exif[0x0112] = 6
    Picture.new("RGB", (8, 16)).save(tmp_path / "turned.jpg", exif=exif)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    found = {finding.kind: finding.examples for finding in validate_file(path, images=tmp_path).findings}
    assert "'gone.png': no such file" in found["image file missing"][0]
    assert "images[3], id 8, 'broken.png': found no image" in found["image file unreadable"][0]
    assert len(found["image file unreadable"]) == 2  # and the folder
    assert (
        "images[1], id 6, 'a/6.png': the file has 20 x 24, the record 20 x 20"
        in found["image of another size"][0]
    )
    assert "EXIF" in found["image of another size"][1]
    assert len(found["image of another size"]) == 2


def test_a_missing_file_or_image_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        validate_file(tmp_path / "none.json")
    with pytest.raises(InputError, match="no such folder"):
        validate_file(tmp_path / "none.json", images=tmp_path / "none")


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """What kgtool may write: ids in any order, boxes inside their images."""
    sizes = draw(st.lists(st.tuples(st.integers(2, 999), st.integers(2, 999)), min_size=1, max_size=4))
    image_ids = draw(st.lists(st.integers(0, 10**6), min_size=len(sizes), max_size=len(sizes), unique=True))
    images = tuple(
        Image(number, f"{number}.jpg", *size) for number, size in zip(image_ids, sizes, strict=True)
    )
    names = draw(
        st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4, unique=True)
    )
    categories = tuple(Category(number, name) for number, name in enumerate(names, 1))
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        image = draw(st.sampled_from(images))
        x, y = draw(st.integers(0, image.width - 1)), draw(st.integers(0, image.height - 1))
        box = x, y, draw(st.integers(1, image.width - x)), draw(st.integers(1, image.height - y))
        rows.append((image.id, draw(st.integers(1, len(names))), box))
    boxes = np.array([box for _, _, box in rows], dtype=np.int64).reshape(-1, 4)
    return Dataset(
        images,
        categories,
        Annotations(
            id_N=np.arange(1, len(rows) + 1),
            image_id_N=np.array([row[0] for row in rows], dtype=np.int64),
            category_id_N=np.array([row[1] for row in rows], dtype=np.int64),
            boxes_xywh_N4=boxes,
            area_N=boxes[:, 2] * boxes[:, 3],
            crowd_N=np.zeros(len(rows), dtype=np.int64),
        ),
    )


@settings(deadline=None, max_examples=40)
@given(dataset=datasets())
def test_a_file_that_kgtool_wrote_has_no_errors(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
) -> None:
    path = tmp_path_factory.mktemp("written") / "a.json"
    save_dataset(dataset, path)
    validation = validate_file(path)
    blank = {category.name for category in dataset.categories if not category.name.strip()}
    assert validation.valid or (blank and set(kinds(validation)) - set_of_notes() == {"missing field"})
    unused = len(dataset.categories) - len(set(dataset.annotations.category_id_N.tolist()))
    assert kinds(validation).get("category without boxes", 0) == unused


@pytest.mark.parametrize(
    ("image", "errors"),
    [
        ({"coco_url": "http://images.cocodataset.org/val2017/9.jpg"}, {}),
        ({"coco_url": None, "file_name": "9.jpg"}, {}),
        ({}, {"missing field": 1}),
        ({"coco_url": None}, {"missing field": 1}),
        ({"coco_url": ""}, {"missing field": 1}),
        ({"coco_url": 9}, {"wrong type": 1}),
        ({"coco_url": "http://images.cocodataset.org/val2017/5.jpg"}, {"duplicate file name": 1}),
    ],
)
def test_an_image_has_a_file_name_or_a_url(
    tmp_path: Path, image: dict[str, object], errors: dict[str, int]
) -> None:
    document = good_document()
    document["images"][0]["file_name"] = "val2017/5.jpg"
    document["images"].append({"id": 99, "width": 9, "height": 9, **image})
    validation = validate_document(document, tmp_path)
    found = {kind: count for kind, count in kinds(validation).items() if KINDS[kind][0] == "error"}
    assert found == errors
    if not errors:
        (tmp_path / "val2017").mkdir()
        for name in ("val2017/9.jpg", "9.jpg"):
            Picture.new("RGB", (9, 9)).save(tmp_path / name)
        missing = kinds(validate_file(tmp_path / "broken.json", images=tmp_path))["image file missing"]
        assert missing == len(document["images"]) - 1


def set_of_notes() -> set[str]:
    return {kind for kind, (severity, _) in KINDS.items() if severity != "error"}


NUMBERS = st.floats() | st.integers(-(2**70), 2**70)
WRONG = (
    st.lists(NUMBERS, min_size=4, max_size=4)
    | st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
)
PLACES = [
    (name, row, field)
    for name, rows in good_document().items()
    for row, record in enumerate(rows)
    for field in record
    if field != "segmentation"
]


@settings(deadline=None, max_examples=150)
@given(edits=st.lists(st.tuples(st.sampled_from(PLACES), WRONG), min_size=1, max_size=3))
def test_a_file_without_errors_is_one_that_loads(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[tuple[str, int, str], object]]
) -> None:
    """Validation never raises; what it calls valid is loaded and has numbers."""
    document = copy.deepcopy(good_document())
    for (name, row, field), value in edits:
        document[name][row][field] = value
    path = tmp_path_factory.mktemp("edited") / "a.json"
    path.write_text(json.dumps(document))
    if validate_file(path).valid:
        dataset = load_dataset(path)
        json.dumps(asdict(describe(dataset, measure(dataset))), allow_nan=False)


@pytest.mark.skipif(not REAL_COCO.exists(), reason="the COCO sample is not here")
def test_the_real_coco_sample_has_no_errors_and_its_files_have_their_sizes() -> None:
    validation = validate_file(REAL_COCO, images=REAL_COCO.parent / "images")
    assert validation.valid
    assert kinds(validation) == {"category without boxes": 11, "image without boxes": 1}


@pytest.mark.skipif(not LVIS_CATEGORIES.exists(), reason="the LVIS categories are not here")
def test_real_lvis_categories_are_unique_with_synsets(tmp_path: Path) -> None:
    categories = json.loads(LVIS_CATEGORIES.read_text())
    document = {"images": [], "annotations": [], "categories": categories}
    assert kinds(validate_document(document, tmp_path)) == {"category without boxes": 1203}
    assert kinds(validate_document(categories, tmp_path)) == {"missing list": 1}


def test_the_embedded_sample_has_no_findings() -> None:
    for split in ("train", "test"):
        assert validate_file(SAMPLE / f"{split}.json", images=SAMPLE / "images").findings == ()


VG, ADE, BCCD = (ROOT / "../shared/real_data" / name for name in ("vg/v1_2", "ade", "bccd"))


@pytest.mark.skipif(not VG.exists(), reason="the real samples are not here")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (
            f"split vg --classes 50 --objects {VG}/objects.json --image-data {VG}/image_data.json "
            f"--relationships {VG}/relationships.json",
            ["train.json", "test.json"],
        ),
        (f"boxes ade {ADE}/full2021 --parts", ["instances.json"]),
        (f"boxes ade {ADE}/challenge_annotations", ["instances.json"]),
        (f"boxes ade {ADE}/datumaro2017_synthetic --parts", ["instances.json"]),
        (f"convert voc {BCCD}", ["instances.json"]),
    ],
    ids=["vg", "ade-2021", "ade-challenge", "ade-2017", "voc"],
)
def test_what_the_commands_make_of_real_data_has_no_errors(
    tmp_path: Path, arguments: str, names: list[str]
) -> None:
    command = [
        sys.executable,
        "-m",
        "kgtool",
        *arguments.split(),
        "--workers",
        "1",
        "--out",
        str(tmp_path / "made"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in names:
        validation = validate_file(tmp_path / "made" / name, images=BCCD if "voc" in arguments else None)
        assert validation.valid, validation.findings
        assert validation.num_records["annotations"] > 0


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kgtool", "validate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_prints_a_table_and_ends_with_3_on_errors_only(tmp_path: Path) -> None:
    document = good_document()
    document["categories"].append({"id": 3, "name": "emu"})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    done = run(path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["valid"]
    assert (report["num_errors"], report["num_warnings"], report["num_notes"]) == (0, 1, 0)
    document["annotations"][0]["category_id"] = 4
    path.write_text(json.dumps(document))
    done = run(path)
    assert done.returncode == 3
    assert "error    dangling id" in done.stdout
    assert "annotations[0], id 1: category_id 4 is no id of categories" in done.stdout
    assert done.stderr.startswith(f"kgtool: {path}: found 1 error (dangling id)")
    assert len(done.stderr.splitlines()) == 1
