"""Records cut out of a large JSON object, against a parser that reads it whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import change_json, write_data

from detector import coco_file
from detector.annotations import load_annotations
from detector.coco_file import read_coco
from detector.errors import InputError
from detector.record_blocks import NotCutError, iter_blocks

#: Text that looks like the end of a record, an escape, and characters of several bytes.
HARD = ["", "}, {", "}]", '"},{"', "\\", '\\\\"}]', "ü", "🙂", "]", "{"]
TEXTS = st.sampled_from(HARD) | st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
FLAT = st.dictionaries(TEXTS, SCALARS | st.lists(SCALARS, max_size=3), max_size=4)
ANYTHING = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXTS, part, max_size=3), max_leaves=12
)
INDENTS = st.sampled_from([None, 0, 1])


def read(path: Path, text: str, block: int) -> dict[str, Any]:
    """The members of an object, put together from blocks; raises where a block is no JSON."""
    path.write_bytes(text.encode())
    found: dict[str, Any] = {}
    for name, part in iter_blocks(path, block):
        value = json.loads(part)
        found[name] = found[name] + value if name in found else value
    return found


def strings(value: Any) -> list[str]:
    """All strings in a value, keys included."""
    if isinstance(value, dict):
        return [found for pair in value.items() for part in pair for found in strings(part)]
    if isinstance(value, list):
        return [found for part in value for found in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks") / "file.json"


@given(
    st.dictionaries(TEXTS, st.lists(FLAT, max_size=6) | SCALARS | FLAT, min_size=1, max_size=4),
    st.integers(1, 200),
    INDENTS,
    st.booleans(),
)
def test_arrays_of_flat_records_come_back_whole(
    file: Path, document: dict[str, Any], block: int, indent: int | None, ascii_only: bool
) -> None:
    """But for strings that look like the end of a record, which cost a second reading."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    try:
        assert read(file, text, block) == document
    except ValueError:
        assert any(mark in string for string in strings(document) for mark in ("}, {", "}]", "},{"))


@given(st.dictionaries(TEXTS, ANYTHING, max_size=4), st.integers(1, 200), INDENTS)
def test_what_decodes_is_never_something_else(
    file: Path, document: dict[str, Any], block: int, indent: int | None
) -> None:
    try:
        found = read(file, json.dumps(document, indent=indent), block)
    except (NotCutError, ValueError):
        return  # read whole
    assert found == document


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{",
        '{"a": 1',
        '{"a": [{}',
        '{"a": [{}], }',
        '{"a": [{}]} 1',
        "{1: [{}]}",
        '{"a" [{}]}',
    ],
)
@pytest.mark.parametrize("block", [1, 5, 1000])
def test_what_is_no_object_is_not_cut(file: Path, text: str, block: int) -> None:
    with pytest.raises((NotCutError, ValueError)):
        read(file, text, block)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data") / "train.json"


def columns(path: Path) -> dict[str, np.ndarray]:
    found = read_coco(path, masks=True)
    assert found.segmentation_N is not None
    return {**found.boxes, "bytes": found.segmentation_N.bytes_M, "offsets": found.segmentation_N.offsets}


def test_ordinary_files_are_read_in_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coco_file._read_whole(path, masks=True)
    monkeypatch.delattr(coco_file, "_read_whole")
    found = read_coco(path, masks=True)
    assert found.images == whole.images
    assert found.categories == whole.categories
    for name, column in found.boxes.items():
        assert column.dtype == whole.boxes[name].dtype
        assert np.array_equal(column, whole.boxes[name])
        assert column.flags.c_contiguous
    assert found.segmentation_N is not None
    assert whole.segmentation_N is not None
    assert bytes(found.segmentation_N.bytes_M) == bytes(whole.segmentation_N.bytes_M)
    assert np.array_equal(found.segmentation_N.offsets, whole.segmentation_N.offsets)


def test_records_that_hold_records_are_read_all_the_same(path: Path) -> None:
    before = columns(path)

    def add_parts(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["parts"] = [{"name": "leg"}, {"name": "}, {"}]

    change_json(path, add_parts)
    assert {name: column.tolist() for name, column in columns(path).items()} == {
        name: column.tolist() for name, column in before.items()
    }


def test_an_error_in_a_late_block_names_its_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_file, "iter_blocks", lambda path: iter_blocks(path, 50))
    load_annotations(path.parent, "train")
    change_json(path, lambda document: document["annotations"][-1].update(bbox=[1, 2, 3]))
    last = len(json.loads(path.read_text())["annotations"]) - 1
    assert last > 3
    with pytest.raises(InputError, match=rf"at `\$\.annotations\[{last}\]\.bbox`"):
        load_annotations(path.parent, "train")


def test_a_member_that_is_there_twice_counts_as_a_parser_counts_it(path: Path) -> None:
    text = path.read_text()
    path.write_text('{"annotations": [], "images": [], ' + text.lstrip()[1:])
    assert len(read_coco(path).images) == len(json.loads(text)["images"])


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_of_two_members_side_by_side_the_last_counts_as_for_a_parser(
    path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_file, "iter_blocks", lambda path: iter_blocks(path, block))
    document = json.loads(path.read_text())
    boxes = document.pop("annotations")
    head, twice = json.dumps(document)[:-1], [json.dumps(part) for part in (boxes, boxes[:2])]
    path.write_text(f'{head}, "annotations": {twice[0]}, "annotations": {twice[1]}}}')
    assert json.loads(path.read_text())["annotations"] == boxes[:2]
    assert len(columns(path)["bbox"]) == 2
