"""Two graphs compared: what is said to differ differs, and nothing else does."""

import json

import numpy as np
import pytest
from graph_examples import VALID, plain_graph, relation_graph, with_header
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from kgtool.cli import main
from kgtool.controls import control_graph
from kgtool.graph import make_graph, save_graph
from kgtool.graph_difference import ChangedEdge, compare_graphs

VALUES = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])
matrices = hnp.arrays(np.float32, (6, 6), elements=VALUES)


@pytest.mark.parametrize("name", VALID)
def test_a_graph_does_not_differ_from_itself(name):
    found = compare_graphs(VALID[name], VALID[name])
    assert found.same
    assert (found.only_a, found.only_b, found.header, found.changed) == ((), (), {}, ())
    assert found.num_edges_a == found.num_edges_b == found.num_edges_both
    assert found.rank_correlation in (None, pytest.approx(1))
    assert found.overlap in (None, 1)


@settings(deadline=None)
@given(matrices, st.permutations(range(6)))
def test_the_order_of_classes_does_not_matter(weight, order):
    graph = plain_graph(list("abcdef"), weight, directed=True)
    found = compare_graphs(graph, graph.permuted(order))
    assert found.same_order == (list(order) == sorted(order))
    assert found.changed == ()
    assert (found.only_a, found.only_b) == ((), ())


@settings(deadline=None)
@given(matrices, matrices, st.integers(1, 40))
def test_numbers_are_those_of_slow_code(one, other, top):
    names = list("abcdef")
    a, b = (plain_graph(names, weight, directed=True) for weight in (one, other))
    found = compare_graphs(a, b, top)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    changed = sorted(
        (-abs(float(one[i, j]) - float(other[i, j])), i, j) for i, j in pairs if one[i, j] != other[i, j]
    )
    assert [(edge.source, edge.target) for edge in found.changed] == [
        (names[i], names[j]) for _, i, j in changed[:top]
    ]
    assert found.num_edges_both == sum(one[p] > 0 and other[p] > 0 for p in pairs)
    x, y = ([weight[p] for p in pairs] for weight in (one, other))
    if found.rank_correlation is None:
        assert len(set(x)) == 1 or len(set(y)) == 1
    else:
        assert found.rank_correlation == pytest.approx(spearmanr(x, y).statistic)
    shares = []
    for name in names:
        near = [{target for target, _ in graph.edges(name, top)} for graph in (a, b)]
        if near[0] | near[1]:
            shares.append(len(near[0] & near[1]) / len(near[0] | near[1]))
    assert found.overlap == (pytest.approx(np.mean(shares)) if shares else None)


def test_edges_of_undirected_graphs_count_once():
    found = compare_graphs(plain_graph(), plain_graph(weight=[[0, 0.25], [0.25, 0]]))
    assert (found.num_edges_a, found.num_edges_b, found.num_edges_both) == (1, 1, 1)
    assert found.changed == (ChangedEdge("a", "b", 1.0, 0.25),)


def test_classes_are_matched_by_synset_and_without_one_by_name():
    def graph(classes, synsets):
        weight = np.zeros((len(classes), len(classes)))
        return make_graph(
            classes=classes,
            synsets=synsets,
            weight=weight,
            counts=None,
            kind="k",
            recipe={"name": "n"},
            dataset="",
        )

    a = graph(["dog", "cat", "mouse", "tree"], ["dog.n.01", "", "mouse.n.01", ""])
    b = graph(["cat", "mouse", "hound"], ["cat.n.01", "mouse.n.04", "dog.n.01"])
    found = compare_graphs(a, b)
    assert found.num_common == 2
    assert (found.only_a, found.only_b) == (("mouse", "tree"), ("mouse",))
    assert not found.same_order


def test_headers_are_compared_key_by_key():
    changed = with_header(relation_graph(), colour="red", dataset="other")
    found = compare_graphs(relation_graph(), changed)
    assert found.header == {"colour": (None, "red"), "dataset": ("made by hand", "other")}
    assert found.same


def test_a_shuffled_control_keeps_no_more_neighbours_than_chance_does():
    rng = np.random.default_rng(0)
    weight = np.triu(rng.random((60, 60)), 1)
    graph = plain_graph([f"c{i}" for i in range(60)], weight + weight.T)
    found = compare_graphs(graph, control_graph(graph, "shuffled", 0), top=10)
    assert abs(found.rank_correlation) < 0.1
    assert found.overlap < 0.2


def test_the_command_prints_text_or_json(tmp_path, capsys):
    graph = relation_graph()
    save_graph(graph, tmp_path / "a.npz")
    save_graph(control_graph(graph, "identity"), tmp_path / "b.npz")

    def run(*more):
        with pytest.raises(SystemExit) as end:
            main(["diff", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), *more])
        assert end.value.code == 0
        return capsys.readouterr().out

    text = run()
    assert "two different graphs" in text
    assert "edges: 1 in A, 0 in B, 0 in both" in text
    assert json.loads(run("--json", "--top", "1"))["changed"][0]["target"] == "frisbee"
