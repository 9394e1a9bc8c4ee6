"""The class graph: its rules, its hash, its order."""

import hashlib
import json

import numpy as np
import pytest
from graph_examples import VALID, attribute_graph, plain_graph, relation_graph, same_graph, with_header
from hypothesis import given
from hypothesis import strategies as st

from kgtool.errors import ClassMatchError, GraphFormatError
from kgtool.graph import Evidence, check_graph, make_graph

names = pytest.mark.parametrize("name", VALID)


@names
def test_valid_examples_keep_every_rule(name):
    check_graph(VALID[name])


@names
def test_reversing_the_classes_twice_gives_the_same_graph(name):
    graph = VALID[name]
    backward = range(len(graph.classes))[::-1]
    check_graph(graph.permuted(backward))
    assert same_graph(graph.permuted(backward).permuted(backward), graph)


@given(st.permutations(range(4)))
def test_permuting_moves_everything_a_class_has(order):
    graph = relation_graph()
    moved = graph.permuted(order)
    check_graph(moved)
    for new, old in enumerate(order):
        assert (moved.classes[new], moved.synsets[new]) == (graph.classes[old], graph.synsets[old])
        for new_other, old_other in enumerate(order):
            assert moved.weight[new, new_other] == graph.weight[old, old_other]
            assert moved.counts[new, new_other] == graph.counts[old, old_other]

    def triples(some):
        rows = zip(some.evidence.index.tolist(), some.evidence.count.tolist(), strict=True)
        return {
            (some.classes[s], some.evidence.terms[t], some.classes[o], count) for (s, t, o), count in rows
        }

    assert triples(moved) == triples(graph)


def test_permuting_an_attribute_graph_leaves_its_attributes_in_place():
    graph = attribute_graph()
    moved = graph.permuted([2, 0, 1])
    assert moved.counts.tolist() == [[0, 0], [4, 1], [2, 2]]
    assert moved.distribution.tolist() == graph.distribution[[2, 0, 1]].tolist()
    check_graph(moved)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 2, 2], [1, 2, 3, 4]])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="each of the 4 positions once"):
        relation_graph().permuted(order)


# --- hash ---


def test_the_hash_does_not_depend_on_sources_names_dataset_or_producer():
    graph = plain_graph()
    assert plain_graph(dataset="other", sources=[{"name": "x.json"}]).graph_hash == graph.graph_hash
    check_graph(with_header(graph, producer="another tool", sources=[], dataset="", note="kept"))


@pytest.mark.parametrize(
    "changed",
    [
        plain_graph(["a", "c"]),
        plain_graph(["b", "a"]),
        plain_graph(weight=[[0, 0.5], [0.5, 0]]),
        plain_graph(kind="similarity"),
        plain_graph(recipe={"name": "path", "steps": 2}),
        plain_graph(counts=[[0, 1], [0, 0]]),
        make_graph(
            classes="ab",
            synsets=["a.n.01", ""],
            weight=[[0, 1], [1, 0]],
            counts=None,
            kind="hypernym",
            recipe={"name": "path"},
            dataset="none",
        ),
    ],
)
def test_the_hash_depends_on_classes_synsets_kind_recipe_weights_and_counts(changed):
    assert changed.graph_hash != plain_graph().graph_hash


def test_the_hash_is_the_same_on_every_machine():
    assert plain_graph().graph_hash == "23a39e2ab898c3a4f6c2cc43b3abaa468311ef58f0dfdda2fe60334a3295f174"


@names
def test_the_hash_is_what_the_format_page_says(name):
    def compact(value):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    graph = VALID[name]
    content = compact([graph.kind, graph.header["recipe"], list(graph.classes), list(graph.synsets)]).encode()

    def add(array_name, array, dtype):
        shape = "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "") + ")"
        return f"\n{array_name} {shape}\n".encode() + array.astype(dtype).tobytes()

    content += add("weight", graph.weight, "<f4")
    if graph.counts is not None:
        content += add("counts", graph.counts, "<i8")
    if graph.distribution is not None:
        content += add("distribution", graph.distribution, "<f4")
    if graph.evidence is not None:
        content += f"\nevidence_terms\n{compact(list(graph.evidence.terms))}".encode()
        content += add("evidence_totals", graph.evidence.totals, "<i8")
        content += add("evidence_index", graph.evidence.index, "<i4")
        content += add("evidence_count", graph.evidence.count, "<i8")
    assert graph.graph_hash == hashlib.sha256(content).hexdigest()


def test_the_hash_depends_on_the_evidence():
    def graph(total):
        index, count = np.array([[0, 0, 1]], np.int32), np.array([1])
        return plain_graph(evidence=Evidence(("on",), np.array([total]), index, count))

    assert len({graph(1).graph_hash, graph(2).graph_hash, plain_graph().graph_hash}) == 3


def test_minus_zero_is_zero():
    assert same_graph(plain_graph(weight=[[-0.0, 1], [1, 0]]), plain_graph())


# --- what a graph can tell ---


def test_edges_come_strongest_first_with_ties_by_name_and_without_the_class_itself():
    weight = [[9, 1, 2, 0, 1], [1, 0, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    graph = plain_graph(["a", "z", "c", "d", "b"], weight)
    assert graph.edges("a") == [("c", 2.0), ("b", 1.0), ("z", 1.0)]
    assert graph.edges("a", top=1) == [("c", 2.0)]
    assert graph.edges("d") == []


def test_an_unknown_class_is_refused_with_near_names():
    with pytest.raises(
        ClassMatchError, match="class 'Ice-cream': not one of the graph's 4; did you mean ice cream"
    ):
        relation_graph().edges("Ice-cream")


def test_networkx_gets_every_edge_once_with_weight_and_count():
    graph = relation_graph()
    result = graph.to_networkx()
    assert set(result.nodes) == set(graph.classes)
    assert result.nodes["dog"]["synset"] == "dog.n.01"
    assert result.graph["graph_hash"] == graph.graph_hash
    assert {frozenset(edge) for edge in result.edges} == {frozenset({"dog", "frisbee"}), frozenset({"grass"})}
    assert result.edges["frisbee", "dog"] == {"weight": float(graph.weight[0, 1]), "count": 8}
    assert result.edges["grass", "grass"]["count"] == 3


def test_networkx_keeps_directions_apart():
    result = VALID["directed"].to_networkx()
    assert result.is_directed()
    assert (result.edges["a", "b"]["weight"], result.edges["b", "a"]["weight"]) == (0.25, 0.5)
    assert "count" not in VALID["as many attributes as classes"].to_networkx().edges["a", "b"]


# --- making ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": [[0, -1], [-1, 0]]}, "expected a finite number, not negative"),
        ({"weight": [[0, 1e39], [1e39, 0]]}, "found inf"),
        ({"weight": [[0, 1, 2]]}, "found shape"),
        ({"weight": [[0, 1], [2, 0]]}, "directed: false"),
        ({"classes": ["a", "a"]}, "found 'a' again"),
        ({"classes": []}, "found 0; expected 1 to"),
        ({"counts": [[1, 2, 3], [1, 2, 3]]}, "counts: found shape"),
        ({"kind": "attribute", "counts": [[1]], "distribution": [[1]]}, r"counts: found shape \(1, 1\)"),
        (
            {"kind": "attribute", "counts": [[1], [1]], "distribution": [[1, 0]] * 2},
            "distribution: found shape",
        ),
    ],
)
def test_a_graph_that_breaks_a_rule_is_not_made(changes, message):
    with pytest.raises(GraphFormatError, match=message):
        plain_graph(**changes)
