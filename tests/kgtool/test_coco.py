"""COCO JSON: what is written is read back, the reference reader agrees, and bad files get one line."""

import codecs
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from kgtool.coco import (
    Annotations,
    Category,
    Dataset,
    Image,
    RelationCategory,
    Relations,
    check_dataset,
    load_dataset,
    save_dataset,
)
from kgtool.errors import InputError, OutputExistsError
from kgtool.json_rows import BLOCK_ROWS, iter_rows

REAL_COCO = Path(__file__).parents[2] / "../shared/real_data/coco/instances.json"
WHOLE = st.integers(0, 2**63 - 1) | st.integers(0, 100_000)


def small_dataset(**changes: object) -> Dataset:
    parts: dict[str, object] = {
        "images": (Image(7, "a/7.jpg", 64, 48), Image(9, "b/9.jpg", 32, 32, coco_id=139)),
        "categories": (
            Category(1, "dog.n.01", "dog.n.01", "r", 1, 2),
            Category(2, 'big "cat" é', "", "r", 1, 1),
        ),
        "annotations": Annotations(
            id_N=np.array([3, 1, 2]),
            image_id_N=np.array([7, 7, 9]),
            category_id_N=np.array([1, 2, 1]),
            boxes_xywh_N4=np.array([[0, 0, 10, 5], [1, 2, 3, 4], [0, 0, 32, 32]], dtype=np.int32),
            area_N=np.array([50, 12, 1024]),
            crowd_N=np.array([0, 0, 1]),
        ),
        "rel_categories": (RelationCategory(1, "on"),),
        "relations": Relations(
            id_N=np.array([1]),
            image_id_N=np.array([7]),
            subject_id_N=np.array([3]),
            predicate_id_N=np.array([1]),
            object_id_N=np.array([1]),
        ),
    }
    return Dataset(**{**parts, **changes})  # type: ignore[arg-type]


def changed_rows(**changes: object) -> Annotations:
    rows = small_dataset().annotations
    return Annotations(**{**vars(rows), **changes})  # type: ignore[arg-type]


def with_annotation(**fields: object) -> str:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, **fields}
    return json.dumps({"images": [], "categories": [], "annotations": [annotation]})


def open_with_pycocotools(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_a_saved_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    dataset = small_dataset()
    save_dataset(dataset, tmp_path / "a.json")
    again = load_dataset(tmp_path / "a.json")
    assert again.images == dataset.images
    assert again.categories == dataset.categories
    assert again.rel_categories == dataset.rel_categories
    assert again.relations is not None
    assert dataset.relations is not None
    for ours, theirs in ((dataset.annotations, again.annotations), (dataset.relations, again.relations)):
        for name, column in vars(ours).items():
            np.testing.assert_array_equal(column, getattr(theirs, name), err_msg=name)


def test_saving_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    save_dataset(small_dataset(), tmp_path / "a.json")
    save_dataset(load_dataset(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    save_dataset(small_dataset(), tmp_path / "a.json")
    text = (tmp_path / "a.json").read_bytes()
    (tmp_path / "marked.json").write_bytes(codecs.BOM_UTF8 + text)
    save_dataset(load_dataset(tmp_path / "marked.json", with_extra=True), tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == text


def test_what_else_annotations_say_is_carried_where_it_is_asked_for(tmp_path: Path) -> None:
    extra_N = np.array(
        [b'"segmentation":{"size":[48,64],"counts":"abc"},"note":"a \\n b"', b"", b'"x":[1,2]']
    )
    rows = changed_rows(extra_N=extra_N.astype(object))
    save_dataset(small_dataset(annotations=rows), tmp_path / "a.json")
    records = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert records[0]["segmentation"] == {"size": [48, 64], "counts": "abc"}
    assert records[0]["note"] == "a \n b"
    assert records[0]["bbox"] == [0, 0, 10, 5]
    assert set(records[1]) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
    assert records[2]["x"] == [1, 2]
    again = load_dataset(tmp_path / "a.json", with_extra=True)
    assert again.annotations.extra_N is not None
    assert again.annotations.extra_N.tolist() == extra_N.tolist()
    assert again.annotations.take(np.array([2, 0])).extra_N.tolist() == extra_N[[2, 0]].tolist()  # type: ignore[union-attr]
    assert load_dataset(tmp_path / "a.json").annotations.extra_N is None


def test_extra_members_of_many_annotations_stay_with_their_own(tmp_path: Path) -> None:
    num_rows = BLOCK_ROWS + 3
    rows = Annotations(
        id_N=np.arange(1, num_rows + 1),
        image_id_N=np.full(num_rows, 7),
        category_id_N=np.full(num_rows, 1),
        boxes_xywh_N4=np.ones((num_rows, 4), dtype=np.int32),
        area_N=np.ones(num_rows),
        crowd_N=np.zeros(num_rows, dtype=np.int64),
        extra_N=np.array([b'"again":%d' % number for number in range(1, num_rows + 1)], dtype=object),
    )
    save_dataset(small_dataset(annotations=rows, relations=None, rel_categories=()), tmp_path / "a.json")
    records = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert [record["again"] for record in records] == [record["id"] for record in records]


def test_masks_of_a_printed_file_are_written_on_one_line(tmp_path: Path) -> None:
    save_dataset(small_dataset(), tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    document["annotations"][0]["segmentation"] = [[1, 2, 3.5, 4, 5, 6]]
    (tmp_path / "b.json").write_text(json.dumps(document, indent=4))
    save_dataset(load_dataset(tmp_path / "b.json", with_extra=True), tmp_path / "c.json")
    assert '"segmentation":[[1,2,3.5,4,5,6]]}' in (tmp_path / "c.json").read_text()
    again = json.loads((tmp_path / "c.json").read_text())
    assert again["annotations"] == document["annotations"]


def test_pycocotools_reads_the_same_boxes(tmp_path: Path) -> None:
    save_dataset(small_dataset(), tmp_path / "a.json")
    coco = open_with_pycocotools(tmp_path / "a.json")
    assert sorted(coco.getImgIds()) == [7, 9]
    assert [annotation["bbox"] for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[7]))] == [
        [0, 0, 10, 5],
        [1, 2, 3, 4],
    ]
    assert coco.loadCats([2])[0]["name"] == 'big "cat" é'
    assert coco.loadImgs([9])[0]["coco_id"] == 139
    assert "coco_id" not in coco.loadImgs([7])[0]


def test_an_empty_data_set_is_valid_json(tmp_path: Path) -> None:
    rows = small_dataset().annotations.take(np.zeros(3, dtype=bool))
    empty = small_dataset(annotations=rows, images=(), relations=None, rel_categories=())
    save_dataset(empty, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["annotations"] == []
    assert len(load_dataset(tmp_path / "a.json").annotations) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": (Image(7, "a", 1, 1), Image(7, "b", 1, 1))}, "images: found id 7 twice"),
        ({"categories": (Category(1, "a"), Category(2, "a"))}, "the name 'a' 2 times"),
        ({"categories": (Category(1, "a"),)}, r"annotations: category_id: found 2 \(1 such rows\)"),
        ({"annotations": changed_rows(id_N=np.array([1, 1, 2]))}, "annotations: found id 1 twice"),
        ({"annotations": changed_rows(image_id_N=np.array([7, 7, 8]))}, "image_id: found 8"),
        (
            {
                "annotations": changed_rows(
                    boxes_xywh_N4=np.array([[0, 0, 1, 1], [0, 0, -1, 1], [0, 0, 1, 1]])
                )
            },
            r"annotation 1: found bbox \[0, 0, -1, 1\]",
        ),
        ({"rel_categories": ()}, "predicate_id: found 1"),
    ],
)
def test_ids_that_repeat_or_point_nowhere_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        save_dataset(small_dataset(**changes), tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: found the end of the file in the middle; expected the whole"),
        ('{"images": [],\n"categories": [', "line 2, column 16: found the end of the file in the middle"),
        ("<html>", r"line 1, column 1: found text that is not JSON \(invalid character\); expected JSON"),
        (
            "[]",
            r"found a list \[...\]; expected an object {...} in a COCO JSON file; `kgtool validate .*` lists",
        ),
        ('{"images": [], "categories": []}', "found no 'annotations'; expected one"),
        (with_annotation(), r"annotations\[0\]: found no 'bbox'; expected one"),
        (
            with_annotation(bbox=[1, 2, 3]),
            r"annotations\[0\].bbox: found a list of another length; expected 4",
        ),
        (
            with_annotation(bbox=[1, 2, 3, "4"]),
            r"annotations\[0\].bbox\[3\]: found a text; expected a number",
        ),
        (
            with_annotation(id="1"),
            r"annotations\[0\].id: found a text; expected a whole number in a COCO JSON",
        ),
        (with_annotation(area="1"), r"annotations\[0\].area: found a text; expected a number or null"),
        (with_annotation(id=2**64, bbox=[1, 2, 3, 4]), "found a whole number of more than 64 bits"),
        (
            '{"images": [{"id": 1, "file_name": "caf\udce9"}]}',
            "line 1, column 40: found bytes that are no UTF-8",
        ),
    ],
)
def test_a_file_that_is_no_coco_json_gets_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


def lvis_images() -> list[dict[str, object]]:
    """As LVIS 1 has them, whose validation set has images of COCO's train2017 too."""
    urls = {9: "train2017/000000000009.jpg", 25: "val2017/000000000025.jpg"}
    place = "http://images.cocodataset.org/"
    return [{"id": i, "coco_url": place + url, "width": 64, "height": 48} for i, url in urls.items()]


def test_images_of_lvis_are_called_by_their_url(tmp_path: Path) -> None:
    path = tmp_path / "lvis_v1_val.json"
    path.write_text(json.dumps({"images": lvis_images(), "annotations": [], "categories": []}))
    images = load_dataset(path).images
    assert [image.file_name for image in images] == ["train2017/000000000009.jpg", "val2017/000000000025.jpg"]
    save_dataset(load_dataset(path), tmp_path / "written.json")
    assert load_dataset(tmp_path / "written.json").images == images


@pytest.mark.parametrize("url", [{}, {"coco_url": None}, {"coco_url": ""}, {"coco_url": 3}])
def test_an_image_without_name_and_url_is_refused_with_its_place(tmp_path: Path, url: dict) -> None:
    images = [*lvis_images(), {"id": 3, "width": 64, "height": 48, **url}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    with pytest.raises(InputError, match=r"images\[2\]: found no 'file_name'; expected one"):
        load_dataset(path)
    images[2]["file_name"] = "own.jpg"  # whatever else it says
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    assert load_dataset(path).images[2].file_name == "own.jpg"


def test_a_missing_file_and_a_file_in_the_way_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(tmp_path / "a.json")
    save_dataset(small_dataset(), tmp_path / "a.json")
    with pytest.raises(OutputExistsError):
        save_dataset(small_dataset(), tmp_path / "a.json")


@pytest.mark.skipif(not REAL_COCO.exists(), reason="the COCO sample is not here")
def test_the_real_coco_sample_agrees_with_pycocotools(tmp_path: Path) -> None:
    dataset = load_dataset(REAL_COCO)
    save_dataset(dataset, tmp_path / "a.json")
    theirs, ours = open_with_pycocotools(REAL_COCO), open_with_pycocotools(tmp_path / "a.json")
    assert len(dataset.annotations) == len(theirs.anns) == 678
    for key, annotation in theirs.anns.items():
        written = ours.anns[key]
        for name in ("image_id", "category_id", "bbox", "iscrowd", "area"):
            assert written[name] == annotation[name], (key, name)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.tuples(WHOLE, WHOLE), max_size=60))
def test_numbers_from_the_table_are_the_numbers_of_python(rows: list[tuple[int, int]]) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 2)
    text = b"".join(iter_rows("{%d,%d}", list(columns.T), separator="\n"))
    assert text.decode() == "\n".join(f"{{{first},{second}}}" for first, second in rows)


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_floats_and_negative_numbers_are_written_exactly(values: list[float]) -> None:
    text = b"".join(iter_rows('{"50%":%d}', [np.array(values)], separator=","))
    assert [row["50%"] for row in json.loads(f"[{text.decode()}]")] == values


def test_rows_over_several_blocks_keep_their_order() -> None:
    count = 2 * BLOCK_ROWS
    for size in (count - 1, count, count + 1):
        text = b"".join(iter_rows("%d", [np.arange(size)]))
        assert text.decode().split(",\n") == [str(value) for value in range(size)]


def test_what_was_checked_is_what_is_loaded(tmp_path: Path) -> None:
    """A file with every id right passes; with a relation to a box that is not there it does not."""
    check_dataset(small_dataset(), place="here")
    save_dataset(small_dataset(), tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    document["rel_annotations"][0]["object_id"] = 77
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="rel_annotations: object_id: found 77"):
        load_dataset(tmp_path / "a.json")
