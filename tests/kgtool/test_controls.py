"""Control graphs: what each keeps and what each takes away, as laws over random graphs."""

import json

import numpy as np
import pytest
from graph_examples import VALID, attribute_graph, plain_graph, relation_graph, same_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.cli import main
from kgtool.controls import CONTROL_KINDS, control_graph
from kgtool.graph import check_graph, load_graph, save_graph

WEIGHTS = st.sampled_from([0.0, 0.0, 0.0, 0.125, 0.25, 0.5, 1.0])


@st.composite
def graphs(draw):
    num_classes = draw(st.integers(1, 9))
    weight = draw(hnp.arrays(np.float32, (num_classes, num_classes), elements=WEIGHTS))
    directed = draw(st.booleans())
    names = [f"class {i}" for i in range(num_classes)]
    return plain_graph(names, weight if directed else np.maximum(weight, weight.T), directed=directed)


def off_diagonal(graph):
    return graph.weight[~np.eye(len(graph.classes), dtype=bool)]


@settings(deadline=None)
@given(graphs(), st.sampled_from(CONTROL_KINDS), st.integers(0, 5))
def test_a_control_is_a_valid_graph_of_the_same_classes_that_says_what_it_is(graph, kind, seed):
    control = control_graph(graph, kind, seed)
    check_graph(control)
    assert (control.classes, control.synsets, control.kind) == (graph.classes, graph.synsets, graph.kind)
    about = control.header["recipe"]["control"]
    assert (about["kind"], about["of"]) == (kind, graph.graph_hash)
    assert ("seed" in about) == (kind not in ("identity", "uniform"))
    assert control.header["directed"] == graph.header["directed"]
    assert same_graph(control, control_graph(graph, kind, seed))


@settings(deadline=None)
@given(graphs(), st.integers(0, 5))
def test_random_and_degree_preserving_keep_the_weights_and_the_diagonal(graph, seed):
    for kind in ("random", "degree-preserving"):
        control = control_graph(graph, kind, seed)
        assert np.array_equal(np.sort(off_diagonal(control)), np.sort(off_diagonal(graph)))
        assert np.array_equal(np.diagonal(control.weight), np.diagonal(graph.weight))


@settings(deadline=None)
@given(graphs(), st.integers(0, 5))
def test_degree_preserving_keeps_the_edges_into_and_out_of_every_class(graph, seed):
    control = control_graph(graph, "degree-preserving", seed)
    for axis in (0, 1):
        assert np.array_equal((control.weight > 0).sum(axis), (graph.weight > 0).sum(axis))


@settings(deadline=None)
@given(graphs(), st.integers(0, 5))
def test_shuffled_is_the_same_graph_under_other_names(graph, seed):
    """Row by row, whatever the order of classes: a class's own weight, its edges out and its edges in."""
    control = control_graph(graph, "shuffled", seed)

    def classes(weight):
        return sorted((weight[i, i], sorted(weight[i]), sorted(weight[:, i])) for i in range(len(weight)))

    assert classes(control.weight) == classes(graph.weight)


@settings(deadline=None)
@given(graphs())
def test_uniform_keeps_the_sum_of_weights_and_identity_keeps_nothing(graph):
    uniform = control_graph(graph, "uniform")
    assert len(np.unique(off_diagonal(uniform))) <= 1
    assert np.allclose(uniform.weight.sum(), graph.weight.sum(), rtol=1e-5)
    assert np.array_equal(control_graph(graph, "identity").weight, np.eye(len(graph.classes)))


def test_shuffled_moves_counts_and_evidence_with_the_classes():
    graph = relation_graph()
    seed = next(s for s in range(99) if control_graph(graph, "shuffled", s).weight[0, 1] == 0)
    control = control_graph(graph, "shuffled", seed)
    assert control.classes == graph.classes
    assert not np.array_equal(control.counts, graph.counts)
    assert sorted(control.counts.ravel()) == sorted(graph.counts.ravel())
    assert sorted(control.evidence.count) == sorted(graph.evidence.count)
    attributes = control_graph(attribute_graph(), "shuffled", 1)
    assert sorted(map(tuple, attributes.counts)) == sorted(map(tuple, attribute_graph().counts))


def test_swaps_reach_every_graph_with_the_same_degrees_about_equally_often():
    """Six classes of one edge each can be joined in 15 ways."""
    weight = np.zeros((6, 6))
    for a, b in ((0, 1), (2, 3), (4, 5)):
        weight[a, b] = weight[b, a] = 1
    graph = plain_graph(list("abcdef"), weight)
    seen = {}
    for seed in range(600):
        key = control_graph(graph, "degree-preserving", seed).weight.tobytes()
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 15
    # 40 are expected of each; a chi-squared of 14 degrees of freedom is above 36 once in a thousand times
    assert sum((number - 40) ** 2 / 40 for number in seen.values()) < 36


def test_where_most_pairs_are_edges_the_holes_are_swapped():
    weight = np.ones((6, 6)) - np.eye(6)
    for a, b in ((0, 1), (2, 3), (4, 5)):
        weight[a, b] = weight[b, a] = 0
    graph = plain_graph(list("abcdef"), weight)
    found = {control_graph(graph, "degree-preserving", seed).weight.tobytes() for seed in range(200)}
    assert len(found) == 15


def test_the_seed_decides_what_chance_decides_and_nothing_else():
    weight = np.triu(np.arange(100).reshape(10, 10), 1)
    graph = plain_graph(list("abcdefghij"), weight + weight.T)
    for kind in CONTROL_KINDS:
        one, other = control_graph(graph, kind, 1), control_graph(graph, kind, 2)
        assert (one.graph_hash == other.graph_hash) == (kind in ("identity", "uniform"))


def test_the_command_writes_a_control(tmp_path, capsys):
    save_graph(VALID["directed"], tmp_path / "g.npz")
    with pytest.raises(SystemExit) as end:
        main(
            [
                "controls",
                str(tmp_path / "g.npz"),
                "--kind",
                "identity",
                "--out",
                str(tmp_path / "c.npz"),
                "--json",
            ]
        )
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["graph_hash"] == load_graph(tmp_path / "c.npz").graph_hash
    assert printed["control"] == {"kind": "identity", "of": VALID["directed"].graph_hash}
