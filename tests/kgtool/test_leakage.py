"""Validation images behind a graph are found, in every form of its sources, and known to be left out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool.annotations import ReadOptions
from kgtool.build import build_attribute_graph, build_relation_graph
from kgtool.build_result import Build, Output
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.cooccurrence import build_cooccurrence_graph
from kgtool.errors import InputError
from kgtool.image_lists import ImageList, read_image_ids
from kgtool.leakage import Leakage, find_graph_leaks, find_leaks, find_leaks_in
from kgtool.merge import merge_graphs
from kgtool.triple_writing import TripleOptions, write_triples

REAL = Path(__file__).parents[3] / "shared" / "real_data"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="shared/real_data is not beside the repository"
)
CLASSES = ClassTable(tuple(dirty.SYNSETS), tuple(dirty.SYNSETS))
fast = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
kinds = pytest.mark.parametrize("kind", ["relation", "attribute"])


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def records(kind: str, seed: int) -> list[dict[str, Any]]:
    return (dirty.relationships if kind == "relation" else dirty.attributes)(seed)


def build(kind: str, source: Path | str, **options: Any) -> Build:
    function = build_relation_graph if kind == "relation" else build_attribute_graph
    return function(source, classes=CLASSES, **options)


def images(*ids: int, dataset: str = "") -> ImageList:
    return ImageList("val.txt", np.array(sorted(ids), dtype=np.int64), dataset)


def without(*ids: int) -> ReadOptions:
    return ReadOptions(excluded=images(*ids))


def slow_counts(found: list[dict[str, Any]]) -> Counter[int]:
    """Annotations of each image, by loops."""
    counts: Counter[int] = Counter()
    for record in found:
        counts[record["image_id"]] += len(record.get("relationships") or [])
        for row in record.get("attributes") or []:
            counts[record["image_id"]] += len((row or {}).get("attributes") or [])
    return +counts


def expected_leakage(counts: Counter[int], validation: set[int]) -> Leakage:
    leaked = sorted(set(counts) & validation)
    return Leakage(len(counts), sum(counts.values()), tuple(leaked), sum(counts[n] for n in leaked))


@kinds
@fast
@given(seed=st.integers(0, 99), validation=st.sets(st.integers(1, 40), min_size=1))
def test_leaks_are_those_that_loops_find(kind: str, seed: int, validation: set[int], tmp_path: Path) -> None:
    found = records(kind, seed)
    source = write(tmp_path / "r.json", found)
    expected = expected_leakage(slow_counts(found), validation)
    assert find_leaks(source, images(*validation)) == expected
    assert expected.annotations == build(kind, source).annotations


@kinds
def test_triples_of_any_form_leak_the_same(kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records(kind, 4))
    write_triples(source, tmp_path / "t", triples=TripleOptions(kind=kind), shard_rows=20)
    [part, *_] = sorted((tmp_path / "t").iterdir())
    expected = find_leaks(source, images(1, 2, 3, 99))
    assert expected.leaked_ids
    assert find_leaks(tmp_path / "t", images(1, 2, 3, 99), kind=kind) == expected
    assert find_leaks_in(tmp_path / "t", images(1, 2, 3, 99), kind=kind) == expected
    assert find_leaks_in(part, images(1, 2, 3, 99), kind=kind).annotations == 20


def test_counted_text_counts_and_unknown_images_are_told(tmp_path: Path) -> None:
    rows = "image_id,subject,predicate,object,count\n1,a,on,b,5\n2,a,on,b,0\n,a,on,b,3\n4,a,on,b,\n"
    found = find_leaks(write(tmp_path / "t.csv", rows), images(1, 2))
    assert found == Leakage(2, 9, (1,), 5, of_unknown_image=3)
    none = write(tmp_path / "u.csv", "subject,predicate,object\na,on,b\n")
    with pytest.raises(InputError, match=r"u\.csv: found no column image_id"):
        find_leaks(none, images(1))


@pytest.mark.parametrize("ids", [["1", "5"], [1.0, 5.5], np.array([2**63 + 1, 5], dtype=np.uint64)])
def test_image_ids_that_are_no_whole_numbers_are_told(ids: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"image_id": ids, "subject": ["a"] * 2, "predicate": ["on"] * 2, "object": ["b"] * 2}), path
    )
    with pytest.raises(InputError, match=r"column image_id: found .*; expected whole numbers"):
        find_leaks(path, images(1))


def test_boxes_of_a_coco_file_leak(tmp_path: Path) -> None:
    boxes = [(1, 1), (2, 1), (3, 2)]
    document = {
        "images": [{"id": n, "file_name": f"{n:012}.jpg", "width": 9, "height": 9} for n in (1, 2, 3)],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 1, "bbox": [0, 0, 2, 2]} for n, image in boxes
        ],
    }
    source = write(tmp_path / "i.json", document)
    expected = Leakage(2, 3, (1,), 2)
    assert find_leaks(source, images(1, 3)) == expected
    graph = build_cooccurrence_graph(source).graph
    assert find_graph_leaks(graph, images(1, 3), sources=[source]) == expected
    graph = build_cooccurrence_graph(source, options=without(1, 3)).graph
    assert find_graph_leaks(graph, images(1, 3)).leaked_ids == ()
    with pytest.raises(InputError, match="found Visual Genome's image ids; expected COCO's"):
        find_leaks(source, images(1, dataset="Visual Genome"))


@kinds
def test_a_graph_without_exclusion_needs_its_source(kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records(kind, 3))
    other = write(tmp_path / "other.json", records(kind, 4))
    graph = build(kind, source).graph
    sha256 = graph.header["sources"][0]["sha256"]
    with pytest.raises(
        InputError, match=rf"built from r\.json \(SHA-256 {sha256}\); expected that with --source"
    ):
        find_graph_leaks(graph, images(1, 2))
    with pytest.raises(InputError, match="expected that with --source"):
        find_graph_leaks(graph, images(1, 2), sources=[other])
    with pytest.raises(InputError, match=r"other\.json: found no source of the graph"):
        find_graph_leaks(graph, images(1, 2), sources=[source, other])
    assert find_graph_leaks(graph, images(1, 2), sources=[source]) == find_leaks(source, images(1, 2))


@kinds
def test_a_graph_built_without_the_images_is_known_by_its_header_alone(kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records(kind, 3))
    clean = Leakage(None, None, (), 0)
    graph = build(kind, source, options=without(1, 2, 3)).graph
    assert find_graph_leaks(graph, images(1, 2, 3)) == clean
    assert find_graph_leaks(graph, images(1, 2), excluded=[images(1, 2, 3)]) == clean  # more were left out
    with pytest.raises(
        InputError, match=r"r\.json counted without 3 images, .* give it with --exclude-images"
    ):
        find_graph_leaks(graph, images(1, 2))
    with pytest.raises(InputError, match="give it with --exclude-images"):
        find_graph_leaks(graph, images(1, 2), excluded=[images(1, 2, 4)])


@kinds
def test_a_graph_that_left_too_few_images_out_leaks_the_rest(kind: str, tmp_path: Path) -> None:
    found = records(kind, 3)
    source = write(tmp_path / "r.json", found)
    counts = slow_counts(found)
    kept = Counter({image: n for image, n in counts.items() if image not in (1, 2)})
    graph = build(kind, source, options=without(1, 2)).graph
    leaks = find_graph_leaks(graph, images(1, 2, 5), sources=[source], excluded=[images(1, 2)])
    assert leaks == expected_leakage(kept, {1, 2, 5})
    assert leaks.leaked_ids == (5,)


def test_graphs_of_triples_are_known_by_the_json_too(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records("relation", 3))
    write_triples(source, tmp_path / "t")
    write_triples(source, tmp_path / "u", options=without(1, 2))
    for place in ("t", "u"):
        plain = build("relation", tmp_path / place).graph
        lists = [images(1, 2)] if place == "u" else []
        expected = find_leaks(tmp_path / place, images(1, 5))
        for known in (tmp_path / place, source):
            assert find_graph_leaks(plain, images(1, 5), sources=[known], excluded=lists) == expected
    both = build("relation", tmp_path / "u", options=without(5)).graph
    assert find_graph_leaks(both, images(1, 2, 5), excluded=[images(1, 2), images(5)]).leaked_ids == ()


def test_an_image_left_out_of_one_of_two_files_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    for name, seed, options in (("a", 3, without(4)), ("b", 4, ReadOptions())):
        write_triples(
            write(tmp_path / f"{name}.json", records("relation", seed)), tmp_path / name, options=options
        )
        (tmp_path / name / "part-00000.parquet").rename(tmp_path / "both" / f"{name}.parquet")
    graph = build("relation", tmp_path / "both").graph
    leaks = find_graph_leaks(graph, images(4), sources=[tmp_path / "both"], excluded=[images(4)])
    assert leaks.leaked_ids == (4,)
    assert leaks.leaked_annotations == slow_counts(records("relation", 4))[4] > 0


def test_every_source_of_a_merged_graph_is_asked_for(tmp_path: Path) -> None:
    found = records("relation", 3)
    paths = [write(tmp_path / "a.json", found[:15]), write(tmp_path / "b.json", found[15:])]
    merged = merge_graphs(
        [build("relation", paths[0], options=without(1)).graph, build("relation", paths[1]).graph]
    )
    with pytest.raises(InputError, match=r"built from b\.json"):
        find_graph_leaks(merged, images(1, 20), sources=paths[:1], excluded=[images(1)])
    leaks = find_graph_leaks(merged, images(1, 20), sources=paths, excluded=[images(1)])
    assert leaks.leaked_ids == tuple(image for image in (20,) if slow_counts(found)[image])


def test_annotations_take_no_sources_and_other_files_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records("relation", 3))
    with pytest.raises(InputError, match="expected a graph with --source or --exclude-images"):
        find_leaks_in(source, images(1), sources=[source])
    with pytest.raises(InputError, match="found no relationships, attributes or objects"):
        find_leaks(write(tmp_path / "d.json", [{"image_id": 1, "url": "x"}]), images(1))
    with pytest.raises(InputError, match="found COCO's image ids; expected Visual Genome's"):
        find_leaks(source, images(1, dataset="COCO"))


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_the_command_reports_writes_the_list_and_fails_on_request(suffix: str, tmp_path: Path) -> None:
    source = write(tmp_path / "r.json", records("relation", 3))
    image_data = [{"image_id": n, "coco_id": 100 + n, "width": 9, "height": 9} for n in range(1, 31)]
    coco = {"images": [{"id": 100 + n, "file_name": f"{100 + n:012}.jpg"} for n in (2, 3, 500)]}
    against = ["--against", str(write(tmp_path / "val.json", coco))]
    against += ["--image-data", str(write(tmp_path / "image_data.json", image_data))]
    exclude, graph = tmp_path / "exclude.txt", tmp_path / f"g.{suffix}"
    result = CliRunner().invoke(group, ["leak", str(source), *against, "--out", str(exclude), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["validation_images"], report["leaked_images"]) == (2, 2)
    assert report["share_of_images"] == 2 / report["images"]
    assert exclude.read_text() == "2\n3\n"
    build("relation", source, output=Output(graph))
    command = ["leak", str(graph), *against]
    failing = CliRunner().invoke(group, [*command, "--source", str(source), "--fail"])
    assert failing.exception.exit_code == 6
    assert f"2 of {report['images']} images" in failing.stdout
    clean = ReadOptions(excluded=read_image_ids(exclude))
    build("relation", source, options=clean, output=Output(graph, overwrite=True))
    result = CliRunner().invoke(group, [*command, "--fail"])
    assert result.exit_code == 0, result.output
    assert "none of them; they were left out, as the header says" in result.stdout
    again = CliRunner().invoke(group, [*command, "--out", str(exclude)])
    assert again.exception.exit_code == 1  # nothing is overwritten silently


@needs_real_data
def test_real_files_of_visual_genome_and_coco(tmp_path: Path) -> None:
    folder = REAL / "vg" / "v1_2"
    source = folder / "relationships.json"
    coco = json.loads((REAL / "coco" / "instances.json").read_text())
    ids = [image["id"] for image in coco["images"]]
    image_data = json.loads((folder / "image_data.json").read_text())
    for image, coco_id in zip(image_data[10:20], ids[:10], strict=True):
        image["coco_id"] = coco_id  # the slice has none of COCO's images
    validation = read_image_ids(
        REAL / "coco" / "instances.json", image_data=write(tmp_path / "image_data.json", image_data)
    )
    assert validation.ids_N.tolist() == [image["image_id"] for image in image_data[10:20]]
    leaks = find_leaks(source, validation)
    assert leaks == expected_leakage(
        slow_counts(json.loads(source.read_text())), set(validation.ids_N.tolist())
    )
    made = build_relation_graph(source, classes=100, options=ReadOptions(excluded=validation))
    assert made.skipped["excluded image"] == leaks.leaked_annotations > 0
    assert find_graph_leaks(made.graph, validation).leaked_ids == ()
