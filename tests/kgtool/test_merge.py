"""Merged graphs are the graph of the whole."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import dirty_visual_genome as dirty
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgtool.build import Build, build_attribute_graph, build_relation_graph
from kgtool.classes import ClassTable
from kgtool.cli import group
from kgtool.errors import ClassMatchError, InputError, OutputExistsError
from kgtool.graph import load_graph, make_graph, save_graph
from kgtool.merge import merge_graphs

CLASSES = ClassTable(tuple(name.split(".")[0] for name in dirty.SYNSETS), tuple(dirty.SYNSETS))
fast = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def build(kind: str, folder: Path, name: str, records: Any, **options: Any) -> Build:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    function = build_relation_graph if kind == "relation" else build_attribute_graph
    return function(path, **{"classes": CLASSES, "num_terms": 4, **options})


def dirty_records(kind: str, seed: int, images: int = 12) -> list[dict[str, Any]]:
    return (dirty.relationships if kind == "relation" else dirty.attributes)(seed, images=images)


@fast
@given(
    kind=st.sampled_from(["relation", "attribute"]),
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    num_terms=st.sampled_from([0, 1, 4]),
)
def test_shards_built_apart_merge_to_the_graph_of_the_whole(
    kind: str, seed: int, cuts: list[int], num_terms: int, tmp_path: Path
) -> None:
    """The limit on terms is applied to the merged totals: each shard alone selects other terms."""
    records = dirty_records(kind, seed)
    bounds = [0, *sorted(cuts), len(records)]
    parts = [records[low:high] for low, high in pairwise(bounds)]
    parts = [part for part in parts if part]
    shards = [build(kind, tmp_path, f"part{n}", part, num_terms=num_terms) for n, part in enumerate(parts)]
    whole = build(kind, tmp_path, "whole", records, num_terms=num_terms)
    random.Random(seed).shuffle(shards)
    merged = merge_graphs([shard.graph for shard in shards])
    assert merged.graph_hash == whole.graph.graph_hash
    for array in ("weight", "counts"):
        assert np.array_equal(getattr(merged, array), getattr(whole.graph, array))
    assert merged.header["recipe"] == whole.graph.header["recipe"]
    assert sum(source["annotations"] for source in merged.header["sources"]) == whole.annotations
    for reason, number in whole.skipped.items():
        assert number == sum(source["skipped"][reason] for source in merged.header["sources"])


def test_merging_in_another_order_and_in_steps_gives_the_same_graph(tmp_path: Path) -> None:
    a, b, c = (build("relation", tmp_path, str(seed), dirty.relationships(seed)).graph for seed in (1, 2, 3))
    once = merge_graphs([a, b, c])
    assert merge_graphs([merge_graphs([c, a]), b]).graph_hash == once.graph_hash
    assert merge_graphs([merge_graphs([c, a]), b]).header == once.header


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    a, b = (build("relation", tmp_path, str(seed), dirty.relationships(seed)).graph for seed in (1, 2))
    order = random.Random(0).sample(range(len(CLASSES)), len(CLASSES))
    assert merge_graphs([a, b.permuted(order)]).graph_hash == merge_graphs([a, b]).graph_hash
    assert merge_graphs([a.permuted(order), b]).graph_hash == merge_graphs([a, b]).permuted(order).graph_hash


def test_other_classes_are_an_error_with_what_differs(tmp_path: Path) -> None:
    records = dirty.relationships(1)
    a = build("relation", tmp_path, "a", records).graph
    fewer = ClassTable(CLASSES.names[:-1], CLASSES.synsets[:-1])
    b = build("relation", tmp_path, "b", records, classes=fewer).graph
    with pytest.raises(ClassMatchError, match=r"graph 2: found no class 'couch'.*\(1 missing, 0 more\)"):
        merge_graphs([a, b])
    with pytest.raises(ClassMatchError, match=r"graph 2: found the class 'couch'"):
        merge_graphs([b, a])
    other = ClassTable(CLASSES.names, (*CLASSES.synsets[:-1], "sofa.n.01"))
    c = build("relation", tmp_path, "c", records, classes=other).graph
    with pytest.raises(ClassMatchError, match=r"class 'couch': found synset 'sofa\.n\.01'"):
        merge_graphs([a, c])


def test_other_recipes_kinds_and_graphs_without_counts_are_errors(tmp_path: Path) -> None:
    a = build("relation", tmp_path, "a", dirty.relationships(1)).graph
    b = build("relation", tmp_path, "b", dirty.relationships(2), num_terms=5).graph
    with pytest.raises(InputError, match=r"graph 2: found recipe .*5.*same options"):
        merge_graphs([a, b])
    c = build("attribute", tmp_path, "c", dirty.attributes(2)).graph
    with pytest.raises(InputError, match=r"found kind attribute; expected relation"):
        merge_graphs([a, c])
    bare = make_graph(
        classes=a.classes,
        synsets=a.synsets,
        weight=a.weight,
        counts=None,
        kind="relation",
        recipe=a.header["recipe"],
        dataset="",
    )
    with pytest.raises(InputError, match=r"graph 2: found no counts by term"):
        merge_graphs([a, bare])


def test_a_source_is_not_counted_twice(tmp_path: Path) -> None:
    a = build("relation", tmp_path, "a", dirty.relationships(1)).graph
    b = build("relation", tmp_path, "b", dirty.relationships(2)).graph
    with pytest.raises(InputError, match=r"graph 3: found the source a\.json, as in graph 1"):
        merge_graphs([a, b, a])
    with pytest.raises(InputError, match=r"graph 2: found the source a\.json, as in graph 1"):
        merge_graphs([merge_graphs([a, b]), a])


def test_objects_that_shards_share_are_no_source_counted_twice(tmp_path: Path) -> None:
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps(dirty.objects(1)))
    records = dirty.relationships(1)
    shards = [
        build("relation", tmp_path, name, part, objects=objects).graph
        for name, part in (("a", records[:9]), ("b", records[9:]))
    ]
    merged = merge_graphs(shards)
    whole = build("relation", tmp_path, "whole", records, objects=objects).graph
    assert merged.graph_hash == whole.graph_hash
    assert [source["name"] for source in merged.header["sources"]] == ["a.json", "b.json", "objects.json"]


def test_the_command_writes_the_merged_graph(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        paths.append(str(tmp_path / f"{seed}.npz"))
        save_graph(build("relation", tmp_path, str(seed), dirty.relationships(seed)).graph, Path(paths[-1]))
    out = tmp_path / "whole.npz"
    done = CliRunner().invoke(group, ["merge", *paths, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["graph_hash"] == load_graph(out).graph_hash
    first = out.read_bytes()
    again = CliRunner().invoke(group, ["merge", *paths, "--out", str(out)])
    assert isinstance(again.exception, OutputExistsError)
    again = CliRunner().invoke(group, ["merge", *reversed(paths), "--out", str(out), "--overwrite"])
    assert again.exit_code == 0
    assert out.read_bytes() == first  # whatever the order of the shards
