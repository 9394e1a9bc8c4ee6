"""Columns of Visual Genome's records in every release, and the synsets of objects."""

import json
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import msgspec
import numpy as np
import pytest
import slow_graphs
from hypothesis import given
from hypothesis import strategies as st

from kgtool.decoding import DecoderSpec
from kgtool.json_stream import ColumnStream, Vocabulary
from kgtool.object_synsets import read_object_synsets
from kgtool.visual_genome import (
    EMPTY,
    AttributeDecoder,
    ImageDecoder,
    ObjectDecoder,
    RelationDecoder,
    first_synset,
    fold_text,
    only_synset,
)

REAL = Path(__file__).parents[3] / "shared" / "real_data" / "vg"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="shared/real_data is not beside the repository"
)


def columns_of(decoder: Any, records: Any) -> dict[str, list[Any]]:
    """Columns of records that went through JSON, codes as the values they stand for."""
    decoded = msgspec.json.decode(json.dumps(records).encode(), type=list[decoder.record_type])
    columns = {name: column.tolist() for name, column in decoder.columns(decoded).items()}
    for name, vocabulary in decoder.codes.items():
        values = list(decoder.vocabularies[vocabulary])
        columns[name] = [values[code] for code in columns[name]]
    return columns


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ON", "on"),
        (" sitting \t on\n", "sitting on"),
        ("attache  dto", "attache dto"),
        ("Straße", "strasse"),
        ("\u00a0wide\u3000blank ", "wide blank"),
        ("   ", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_text_is_compared_without_case_and_with_single_blanks(text: str | None, folded: str) -> None:
    assert fold_text(text) == folded


@given(st.text(st.characters(codec="ascii")))
def test_folding_folded_text_changes_nothing(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text) == fold_text(f" {text.upper()}\t")


@pytest.mark.parametrize(
    ("synsets", "only", "first"),
    [
        ("null", "", ""),
        ("[]", "", ""),
        ('["a"]', "a", "a"),
        ('["b", "a"]', None, "b"),
        ('["a", "a", "a"]', None, "a"),
    ],
)
def test_synsets_are_one_none_or_several(synsets: str, only: str | None, first: str) -> None:
    end = f'{{"synsets": {synsets}}}'
    text = f'[{{"relationships": [{{"subject": {end}, "object": {end}, "synsets": {synsets}}}, {{}}]}}]'
    decoder = RelationDecoder(term_key="synset")
    columns = decoder.columns(msgspec.json.decode(text, type=list[decoder.record_type]))
    values = list(decoder.vocabularies["synsets"])
    assert [only_synset(values[code]) for code in columns["subject"]] == [only, ""]
    assert [only_synset(values[code]) for code in columns["object"]] == [only, ""]
    terms = list(decoder.vocabularies["terms"])
    assert [first_synset(terms[code]) for code in columns["term"]] == [first, ""]


def test_relations_of_releases_1_0_1_2_and_1_4() -> None:
    first = {
        "id": 1,
        "relationships": [{"id": 5, "predicate": "on", "subject": {"id": 3}, "object": {"id": 4}}],
    }
    ends = {"subject": {"object_id": 6, "synsets": ["dog.n.01"], "name": "dog"}}
    ends["object"] = {"object_id": 7, "synsets": [], "names": ["x"], "merged_object_ids": [8]}
    second = {"image_id": 2, "relationships": [{"predicate": "ON", "synsets": ["be.v.01"], **ends}]}
    assert columns_of(
        RelationDecoder(with_ids=True), [first, {"image_id": 9, "relationships": []}, second]
    ) == {
        "rows": [1, 0, 1],
        "subject": [None, "dog.n.01"],
        "term": ["on", "ON"],
        "object": [None, None],
        "image": [1, 9, 2],
        "subject_id": [3, 6],
        "object_id": [4, 7],
    }
    assert columns_of(RelationDecoder(term_key="synset"), [first, second])["term"] == [None, "be.v.01"]


def test_a_null_in_relations_is_something_empty() -> None:
    rows = [None, {"predicate": None, "subject": None}, {"predicate": "on", "object": {"synsets": ["a"]}}]
    records = [{"relationships": rows}, {"relationships": None}]
    assert columns_of(RelationDecoder(with_ids=True), records) == {
        "rows": [3, 0],
        "subject": [None, None, None],
        "term": [None, None, "on"],
        "object": [None, None, "a"],
        "image": [-1, -1],
        "subject_id": [-1, -1, -1],
        "object_id": [-1, -1, -1],
    }


def test_objects_without_attributes_are_passed_over() -> None:
    things = [None, {"attributes": None}, {"attributes": []}, {"synsets": ["a"]}]
    things.append({"object_id": 4, "synsets": ["a"], "attributes": ["Red ", None, "Red "]})
    records = [{"image_id": 1, "attributes": things}, {"id": 2, "attributes": None}]
    assert columns_of(AttributeDecoder(with_ids=True), records) == {
        "rows": [1, 0],
        "object": ["a"],
        "mentions": [3],
        "term": ["Red ", None, "Red "],
        "image": [1, 2],
        "object_id": [4],
    }


def test_objects_come_with_merged_ids_and_boxes() -> None:
    things = [
        None,
        {"object_id": 3, "merged_object_ids": [8, 9], "x": -1, "y": 2.5, "w": 0, "h": 7},
        {"id": 4},
    ]
    found = columns_of(ObjectDecoder(with_boxes=True), [{"image_id": 1, "objects": things}])
    assert found["rows"] == [2]
    assert found["object_id"] == [3, 4]
    assert found["merged"] == [2, 0]
    assert found["merged_id"] == [8, 9]
    boxes = np.array([found[side] for side in "xywh"]).T
    np.testing.assert_array_equal(boxes, [[-1, 2.5, 0, 7], [np.nan] * 4])


def test_images_of_both_releases() -> None:
    old = {"id": 1, "width": 800, "height": 600, "url": "a/b.jpg", "coco_id": None}
    assert columns_of(ImageDecoder(), [old, {"image_id": 2, "coco_id": 5}]) == {
        "image": [1, 2],
        "width": [800, -1],
        "height": [600, -1],
        "coco_id": [-1, 5],
        "url": ["a/b.jpg", None],
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
def test_the_synset_of_an_object_is_found_by_its_ids(version: str, seed: int, tmp_path: Path) -> None:
    records = dirty.objects(seed, version=version) + dirty.objects(seed + 100, version=version)  # ids again
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(records))
    synsets = Vocabulary(only_synset, first=("", None))
    known = read_object_synsets(path, synsets)
    names = synsets.names()
    slow = slow_graphs.known_objects(records)
    wanted = [
        *slow,
        *((image, number) for image in range(-1, 32) for number in (-1, 0, 2**40, image * 100 + 5)),
    ]
    image, number = np.array(wanted, dtype=np.int64).T
    found = [names[code] for code in known.codes(image, number)]
    assert found == [slow.get(key, "") for key in wanted]
    assert {
        names[code]: known.count[code] for code in np.flatnonzero(known.count)
    } == slow_graphs.object_counts(records)
    total = sum(len([row for row in record["objects"] or [] if row]) for record in records)
    assert known.source["objects"] == total
    assert known.source["skipped"] == {"not exactly one synset": total - known.count.sum()}


def test_no_object_is_known_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text("[]")
    known = read_object_synsets(path, Vocabulary(only_synset, first=("", None)))
    assert known.codes(np.array([1]), np.array([1])).tolist() == [EMPTY]


@needs_real_data
@pytest.mark.parametrize(
    ("name", "factory", "rows"),
    [
        ("v1_0/relationships.json", RelationDecoder, "relationships"),
        ("v1_2/relationships.json", RelationDecoder, "relationships"),
        ("v1_4/relationships.json", RelationDecoder, "relationships"),
        ("v1_0/attributes.json", AttributeDecoder, "attributes"),
        ("v1_2/attributes.json", AttributeDecoder, "attributes"),
        ("v1_0/objects.json", ObjectDecoder, "objects"),
        ("v1_2/objects.json", ObjectDecoder, "objects"),
        ("v1_4/objects.json", ObjectDecoder, "objects"),
        ("v1_0/image_data.json", ImageDecoder, ""),
        ("v1_2/image_data.json", ImageDecoder, ""),
    ],
)
def test_published_files_are_read_whole(name: str, factory: Any, rows: str) -> None:
    records = json.loads((REAL / name).read_text())
    options = {"with_ids": True} if rows in ("relationships", "attributes") else {}
    vocabularies = {key: Vocabulary(str) for key in factory(**options).vocabularies}
    image: list[int] = []
    number = 0
    for batch in ColumnStream(REAL / name, DecoderSpec(factory, options), vocabularies, block_size=100_000):
        image += batch.columns["image"].tolist()
        number += int(batch.columns["rows"].sum()) if rows else 0
    assert image == [record.get("image_id", record.get("id")) for record in records]
    if rows:
        kept = [
            row for record in records for row in record[rows] if rows != "attributes" or row.get("attributes")
        ]
        assert number == len(kept)
