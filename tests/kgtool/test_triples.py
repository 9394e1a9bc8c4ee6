"""Triples: what is written is what was read, and every form of the same data gives the same graph."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slow_graphs
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool.annotations import ReadOptions
from kgtool.build import Build, build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.errors import InputError, MissingResourceError, OutputExistsError
from kgtool.graph import load_graph
from kgtool.merge import merge_graphs
from kgtool.triple_writing import TripleOptions, write_triples
from kgtool.triples import METADATA_KEY, find_shards

CLASSES = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
fast = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dirty_records(kind: str, seed: int, **options: Any) -> list[dict[str, Any]]:
    return (dirty.relationships if kind == "relation" else dirty.attributes)(seed, **options)


def build(kind: str, source: Path | str, **options: Any) -> Build:
    function = build_relation_graph if kind == "relation" else build_attribute_graph
    return function(source, **{"classes": CLASSES, **options})


def write(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def slow_rows(records: list[dict[str, Any]], kind: str, known: Any = None) -> list[dict[str, Any]]:
    """Rows of triples, by loops: image id, then texts; None for no single synset and for no term."""
    rows = []
    for record in records:
        for row in slow_graphs.rows_of([record], kind, "text", known):
            texts = [
                row[1] or None if n == 1 else end[0] if len(end) == 1 else None for n, end in enumerate(row)
            ]
            rows.append([record.get("image_id", record.get("id")), *texts])
    return rows


def test_release_1_0_is_written_by_name(tmp_path: Path) -> None:
    records = dirty.relationships(5, version="1.0")
    write_triples(
        write(tmp_path / "r.json", records), tmp_path / "triples", triples=TripleOptions(ends="name")
    )
    rows = iter(pq.read_table(tmp_path / "triples").to_pylist())
    for record in records:
        for row in record["relationships"] or []:
            found = next(rows)
            for end in ("subject", "object"):
                thing = (row or {}).get(end) or {}
                name = thing.get("name") or (thing.get("names") or [""])[0]
                assert found[end] == (slow_graphs.fold(name) or None)
            assert found["predicate"] == (slow_graphs.fold((row or {}).get("predicate")) or None)
    assert next(rows, None) is None
    names = ClassTable(("On", "wearing"), ("", ""))
    made = build("relation", tmp_path / "triples", classes=names)
    assert made.counted > 0
    assert made.skipped["no name"] > 0


@pytest.mark.parametrize("kind", ["relation", "attribute"])
@pytest.mark.parametrize("with_objects", [False, True])
def test_every_annotation_is_one_row(kind: str, with_objects: bool, tmp_path: Path) -> None:
    records, things = dirty_records(kind, 3), dirty.objects(3)
    objects = write(tmp_path / "objects.json", things) if with_objects else None
    report = write_triples(
        write(tmp_path / "records.json", records),
        tmp_path / "triples",
        triples=TripleOptions(kind=kind, objects=objects),
        shard_rows=50,
    )
    table = pq.read_table(tmp_path / "triples")
    expected = slow_rows(records, kind, slow_graphs.known_objects(things) if with_objects else None)
    assert [list(row.values()) for row in table.to_pylist()] == expected
    columns = ["subject", "predicate", "object"] if kind == "relation" else ["subject", "attribute"]
    assert table.column_names == ["image_id", *columns]
    assert all(pa.types.is_dictionary(table.schema.field(name).type) for name in columns)
    assert report.triples == len(expected)
    assert report.shards == -(-len(expected) // 50) == len(list((tmp_path / "triples").iterdir()))
    for place, name in enumerate(columns, start=1):
        assert report.without[name] == sum(row[place] is None for row in expected)


def test_a_footer_says_what_the_shards_were_made_from(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", dirty.relationships(1))
    write_triples(source, tmp_path / "triples", shard_rows=100)
    for number, path in enumerate(sorted((tmp_path / "triples").iterdir())):
        with pq.ParquetFile(path) as file:
            footer = json.loads(file.metadata.metadata[METADATA_KEY])
            assert file.metadata.row_group(0).column(1).compression == "ZSTD"
        assert (footer["format"], footer["version"]) == ("kgtool.triples", "1.0")
        assert (footer["kind"], footer["ends"], footer["term_key"]) == ("relation", "synset", "text")
        assert footer["shard"] == number
        assert footer["sources"][0]["name"] == "r.json"
        assert len(footer["sources"][0]["sha256"]) == 64


def test_the_same_source_gives_the_same_bytes_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kgtool import json_stream

    source = write(tmp_path / "r.json", dirty.relationships(2, images=300))
    monkeypatch.setattr(json_stream, "SMALL_FILE", 0)
    for name, workers in (("one", 1), ("three", 3)):
        write_triples(source, tmp_path / name, options=ReadOptions(num_workers=workers), shard_rows=400)
    ones, threes = (sorted((tmp_path / name).iterdir()) for name in ("one", "three"))
    assert [path.read_bytes() for path in ones] == [path.read_bytes() for path in threes]
    assert len(ones) > 1


@fast
@given(kind=st.sampled_from(["relation", "attribute"]), seed=st.integers(0, 10**6), rows=st.integers(1, 60))
def test_triples_in_every_form_give_the_graph_of_the_json(
    kind: str, seed: int, rows: int, tmp_path: Path
) -> None:
    records = dirty_records(kind, seed, images=12)
    source = write(tmp_path / "records.json", records)
    expected = build(kind, source, num_terms=4)
    triples = TripleOptions(kind=kind)
    write_triples(source, tmp_path / "triples", triples=triples, shard_rows=rows, overwrite=True)
    texts = text_forms(tmp_path, pq.read_table(tmp_path / "triples"))
    for form in (tmp_path / "triples", tmp_path / "triples" / "*.parquet", *texts):
        found = build(kind, form, num_terms=4)
        assert found.graph.graph_hash == expected.graph.graph_hash, form
        assert found.annotations == expected.annotations == found.counted + sum(found.skipped.values())
        assert (found.counted, found.selected) == (expected.counted, expected.selected)
        assert found.no_evidence == expected.no_evidence


def text_forms(folder: Path, table: pa.Table) -> list[Path]:
    """The rows of a table as CSV, TSV and JSON lines, shuffled, plain and compressed."""
    import csv

    rows = table.to_pylist()
    random.Random(0).shuffle(rows)
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(reversed(table.column_names)), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "t.jsonl").write_text(lines, encoding="utf-8")
    with gzip.open(folder / "t.ndjson.gz", "wt", encoding="utf-8") as file:
        file.write(lines + "\n")
    return [folder / name for name in ("t.csv", "t.tsv", "t.jsonl", "t.ndjson.gz")]


def test_counted_rows_count_as_so_many(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("subject,predicate,object\n" + "dog,ON,cat\n" * 3 + "cat, on ,dog\n")
    (tmp_path / "counted.tsv").write_text(
        "count\tobject\tpredicate\tsubject\n3\tcat\ton\tdog\n1\tdog\ton\tcat\n"
    )
    (tmp_path / "counted.jsonl").write_text(
        '{"subject": "dog", "predicate": "on", "object": "cat", "count": 3}\n'
        '{"subject": "cat", "predicate": "On", "object": "dog"}'
    )
    table = ClassTable(("cat", "dog"), ("", ""))
    graphs = [
        build("relation", tmp_path / name, classes=table).graph
        for name in ("raw.csv", "counted.tsv", "counted.jsonl")
    ]
    assert graphs[0].counts.tolist() == [[0, 1], [3, 0]]
    assert graphs[0].evidence.terms == ("on",)
    assert len({graph.graph_hash for graph in graphs}) == 1


def test_a_number_of_classes_takes_the_most_frequent_ends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "subject,predicate,object\ndog,on,mat\ndog,near,cat\ncat,on,mat\ndog,on,cup\n"
    )
    graph = build("relation", tmp_path / "t.csv", classes=3).graph
    assert graph.classes == ("dog", "cat", "mat")
    assert graph.synsets == ("", "", "")
    records = dirty.relationships(4)
    source = write(tmp_path / "r.json", records)
    write_triples(source, tmp_path / "triples")
    expected = build("relation", source, classes=6)
    assert build("relation", tmp_path / "triples", classes=6).graph.graph_hash == expected.graph.graph_hash


def test_classes_without_synset_find_theirs_in_the_triples(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", dirty.relationships(4))
    write_triples(source, tmp_path / "triples")
    table = ClassTable(("dog", "man", "unicorn"), ("", "", ""))
    expected = build("relation", source, classes=table)
    found = build("relation", tmp_path / "triples", classes=table)
    assert found.graph.graph_hash == expected.graph.graph_hash
    assert found.messages == expected.messages


@fast
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_shards_counted_apart_merge_to_the_whole(data: st.DataObject, seed: int, tmp_path: Path) -> None:
    """Any two halves of the shards; and neither half may be merged with the whole, or with the JSON."""
    source = write(tmp_path / "r.json", dirty.relationships(seed, images=20))
    write_triples(source, tmp_path / "triples", shard_rows=9, overwrite=True)
    paths = sorted((tmp_path / "triples").iterdir())
    chosen = data.draw(st.sets(st.sampled_from(range(len(paths))), min_size=1, max_size=len(paths) - 1))
    halves = []
    for number in range(2):
        folder = tmp_path / f"half{number}"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for place, path in enumerate(paths):
            if (place in chosen) == bool(number):
                (folder / path.name).write_bytes(path.read_bytes())
        halves.append(build("relation", folder, num_terms=3).graph)
    whole = build("relation", source, num_terms=3).graph
    assert merge_graphs(halves).graph_hash == whole.graph_hash
    for other in (whole, build("relation", tmp_path / "triples", num_terms=3).graph):
        for half in halves:
            with pytest.raises(InputError, match="expected each source in one graph only"):
                merge_graphs([other, half])


def test_classes_in_another_order_permute_the_graph_and_nothing_else(tmp_path: Path) -> None:
    write_triples(write(tmp_path / "r.json", dirty.relationships(8)), tmp_path / "triples")
    order = random.Random(1).sample(range(len(CLASSES)), len(CLASSES))
    other = ClassTable(tuple(CLASSES.names[i] for i in order), tuple(CLASSES.synsets[i] for i in order))
    first = build("relation", tmp_path / "triples").graph
    second = build("relation", tmp_path / "triples", classes=other).graph
    assert first.permuted(order).graph_hash == second.graph_hash


def test_a_url_that_fsspec_knows_is_read_through_pyarrow(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    source = write(tmp_path / "r.json", dirty.relationships(6))
    write_triples(source, tmp_path / "triples", shard_rows=60)
    remote = fsspec.filesystem("memory")
    remote.put(str(tmp_path / "triples"), "/kgtool-test/triples", recursive=True)
    expected = build("relation", source).graph.graph_hash
    try:
        for url in ("memory://kgtool-test/triples", "memory://kgtool-test/triples/*.parquet"):
            assert build("relation", url).graph.graph_hash == expected
        with pytest.raises(InputError, match="found no Parquet file"):
            build("relation", "memory://kgtool-test/nothing")
    finally:
        remote.rm("/kgtool-test", recursive=True)
    with pytest.raises((InputError, MissingResourceError), match="nosuch://"):
        build("relation", "nosuch://bucket/triples")


def test_parquet_of_another_tool_is_read_as_well(tmp_path: Path) -> None:
    rows = {
        "Image": ["a", "b"],
        "subject": ["dog", ""],
        "predicate": [" Chasing", "on"],
        "object": ["cat", "mat"],
        "count": np.array([2, 5], dtype=np.uint8),
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    made = build("relation", tmp_path / "t.parquet", classes=ClassTable(("cat", "dog"), ("cat.n.01", "")))
    assert made.graph.counts.tolist() == [[0, 0], [2, 0]]
    assert made.graph.evidence.terms == ("on", "chasing")
    assert made.skipped == {"empty predicate": 0, "no name": 5, "class not in list": 0}
    assert made.graph.header["sources"][0]["made_from"][0]["name"] == "t.parquet"


def test_counts_of_another_tool_may_be_null_or_0_but_not_negative(tmp_path: Path) -> None:
    rows = {"subject": ["dog"] * 3, "predicate": ["on", "by", "at"], "object": ["cat"] * 3}
    table = ClassTable(("cat", "dog"), ("", ""))
    pq.write_table(pa.table({**rows, "count": pa.array([None, 0, 4])}), tmp_path / "t.parquet")
    graph = build("relation", tmp_path / "t.parquet", classes=table).graph
    assert graph.counts.tolist() == [[0, 0], [5, 0]]
    assert graph.evidence.terms == ("at", "on")
    pq.write_table(pa.table({**rows, "count": [3, -1, 4]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet, count: found a negative number"):
        build("relation", tmp_path / "t.parquet", classes=table)


def test_lines_of_json_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    """Records of Visual Genome one a line, and triples with further keys of any kind."""
    records = dirty.relationships(2)
    (tmp_path / "vg.jsonl").write_text("\n".join(map(json.dumps, records)))
    expected = build("relation", write(tmp_path / "r.json", records)).graph.graph_hash
    assert build("relation", tmp_path / "vg.jsonl").graph.graph_hash == expected
    line = {"score": 0.5, "box": [1, 2], "subject": "dog", "predicate": "on", "object": "cat"}
    (tmp_path / "t.jsonl").write_text(json.dumps(line))
    made = build("relation", tmp_path / "t.jsonl", classes=ClassTable(("cat", "dog"), ("", "")))
    assert made.graph.counts.tolist() == [[0, 0], [1, 0]]


def test_relations_of_a_coco_file_are_triples(tmp_path: Path) -> None:
    boxes = [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 1)]
    document = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in (1, 2)],
        "categories": [
            {"id": 1, "name": "dog", "synset": "dog.n.01"},
            {"id": 2, "name": "mat", "synset": "mat.n.01"},
        ],
        "annotations": [
            {"id": a, "image_id": i, "category_id": c, "bbox": [0, 0, 1, 1]} for a, i, c in boxes
        ],
        "rel_categories": [{"id": 7, "name": "on"}],
        "rel_annotations": [
            {"id": 1, "image_id": 1, "subject_id": 1, "predicate_id": 7, "object_id": 2},
            {"id": 2, "image_id": 2, "subject_id": 4, "predicate_id": 7, "object_id": 3},
        ],
    }
    source = write(tmp_path / "instances.json", document)
    made = build("relation", source, classes=ClassTable(("mat.n.01", "dog"), ("mat.n.01", "dog.n.01")))
    assert made.graph.counts.tolist() == [[0, 0], [2, 0]]
    del document["rel_annotations"]
    with pytest.raises(InputError, match=r"without rel_annotations.*build-cooccurrence"):
        build("relation", write(source, document))


BAD_TEXT = {
    "a column is missing": (
        "t.csv",
        "subject,object\na,b\n",
        r"t\.csv, line 1: found the columns subject, object",
    ),
    "a line is short": ("t.csv", "subject,predicate,object\na,on,b\na,on\n", r"t\.csv: .*; expected subject"),
    "a count is no number": (
        "t.tsv",
        "subject\tpredicate\tobject\tcount\na\ton\tb\tx\n",
        r"t\.tsv: .*expected",
    ),
    "a count is negative": ("t.csv", "subject,predicate,object,count\na,on,b,-1\n", "negative number"),
    "a line is no JSON": (
        "t.jsonl",
        '{"subject": "a", "predicate": "b"}\n{"subject"\n',
        r"t\.jsonl, line 2: ",
    ),
    "a line is another kind": (
        "t.jsonl",
        '{"subject": "a"}\n\n{"subject": 3}\n',
        r"t\.jsonl, line 3: .*expected",
    ),
    "bytes are not UTF-8": (
        "t.csv",
        b"subject,predicate,object\n\xff\xfe,on,b\n",
        "expected subject, predicate",
    ),
    "the file is empty": ("t.csv", "", "expected subject, predicate"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_bad_text_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    name, content, message = BAD_TEXT[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as raised:
        build("relation", tmp_path / name)
    assert "\n" not in str(raised.value)


def test_bad_shards_are_one_line_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no Parquet file"):
        build("relation", tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        build("relation", tmp_path)
    pq.write_table(pa.table({"subject": ["a"], "object": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(
        InputError, match=r"found the columns subject, object; expected subject, predicate, obj"
    ):
        build("relation", tmp_path)
    pq.write_table(pa.table({"subject": [1], "predicate": ["on"], "object": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column subject: found int64; expected text"):
        build("relation", tmp_path)
    source = write(tmp_path / "r.json", dirty.relationships(1))
    write_triples(source, tmp_path / "triples", shard_rows=40)
    with pytest.raises(InputError, match="expected subject, attribute"):
        build("attribute", tmp_path / "triples")
    with pytest.raises(InputError, match="found predicates by text; expected by synset"):
        build("relation", tmp_path / "triples", term_key="synset")
    with pytest.raises(InputError, match="expected no --objects"):
        build("relation", tmp_path / "triples", objects=source)
    shard = tmp_path / "triples" / "part-00000.parquet"
    (shard.parent / "again.parquet").write_bytes(shard.read_bytes())
    with pytest.raises(InputError, match="found the same shard twice"):
        build("relation", tmp_path / "triples")
    pq.write_table(pq.read_table(shard).replace_schema_metadata(None), shard.parent / "again.parquet")
    with pytest.raises(InputError, match="shards of 2 kinds"):
        find_shards(str(tmp_path / "triples"))


def test_strict_makes_dirt_in_triples_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subject,predicate,object\ndog,on,cat\ndog,,cat\n")
    table = ClassTable(("dog",), ("",))
    with pytest.raises(InputError, match=r"t\.csv: found 1 triples to skip \(empty predicate\)"):
        build("relation", tmp_path / "t.csv", classes=table, options=ReadOptions(strict=True))


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", dirty.relationships(1))
    source.write_text(source.read_text()[:-40])
    with pytest.raises(InputError):
        write_triples(source, tmp_path / "triples")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    write_triples(write(source, dirty.relationships(1)), tmp_path / "triples")
    with pytest.raises(OutputExistsError):
        write_triples(source, tmp_path / "triples")


def test_a_file_without_annotations_gives_shards_without_rows(tmp_path: Path) -> None:
    report = write_triples(write(tmp_path / "r.json", []), tmp_path / "triples")
    assert (report.triples, report.shards) == (0, 1)
    made = build("relation", tmp_path / "triples")
    assert made.annotations == 0
    assert not made.graph.weight.any()


def test_the_command_writes_triples_and_build_relation_takes_them(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", dirty.relationships(1))
    folder, out = tmp_path / "triples", tmp_path / "g.npz"
    done = CliRunner().invoke(group, ["triples", str(source), "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["triples"] == pq.read_table(folder).num_rows
    done = CliRunner().invoke(group, ["build-relation", str(folder), "--classes", "5", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert load_graph(out).graph_hash == build("relation", source, classes=5).graph.graph_hash
