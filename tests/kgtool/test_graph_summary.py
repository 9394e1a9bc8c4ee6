"""What kgtool tells of a graph: size, holes, edges and the evidence behind them."""

import networkx as nx
import numpy as np
import pytest
from graph_examples import VALID, attribute_graph, plain_graph, relation_graph
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.errors import ClassMatchError
from kgtool.graph_summary import Reason, edges_of_class, summarise_graph


def test_a_summary_counts_edges_loops_components_and_isolated_classes():
    summary = summarise_graph(relation_graph(), top=10)
    assert summary.num_classes == 4
    assert summary.num_edges == 1
    assert summary.num_self_loops == 1
    assert summary.density == pytest.approx(1 / 6)
    assert summary.isolated == ("grass", "ice cream")
    assert (summary.num_components, summary.largest_component) == (3, 2)
    assert [(edge.source, edge.target) for edge in summary.strongest] == [("dog", "frisbee")]


def test_a_graph_of_one_class_has_a_summary():
    summary = summarise_graph(VALID["one class"], top=10)
    assert (summary.num_edges, summary.density, summary.isolated) == (0, 0.0, ("only",))
    assert (summary.num_components, summary.largest_component, summary.strongest) == (1, 1, ())


matrices = st.integers(1, 8).flatmap(
    lambda c: hnp.arrays(np.float32, (c, c), elements=st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 1.0]))
)


@given(matrices, st.booleans(), st.integers(1, 9))
def test_a_summary_agrees_with_networkx(weight, directed, top):
    names = [chr(ord("a") + i) for i in range(len(weight))]
    graph = plain_graph(names, weight if directed else np.maximum(weight, weight.T), directed=directed)
    summary = summarise_graph(graph, top)
    full = graph.to_networkx()
    assert summary.num_self_loops == nx.number_of_selfloops(full)
    full.remove_edges_from(list(nx.selfloop_edges(full)))
    assert summary.num_edges == full.number_of_edges()
    assert summary.density == pytest.approx(nx.density(full))
    assert set(summary.isolated) == set(nx.isolates(full))
    parts = list(nx.connected_components(full.to_undirected()))
    assert (summary.num_components, summary.largest_component) == (len(parts), max(map(len, parts)))
    ranked = sorted(full.edges(data="weight"), key=lambda edge: (-edge[2], edge[:2]))
    assert [(e.source, e.target, e.weight) for e in summary.strongest] == ranked[:top]


def test_relation_edges_are_explained_by_the_selected_predicates_both_ways():
    (edge,) = edges_of_class(relation_graph(), "dog", top=10)
    assert edge.target == "frisbee"
    # "on top of" leads from dog to grass 7 times, but is not among the 2 selected predicates
    assert edge.reasons == (Reason("catches", 5, 2), Reason("on", 1, 0))
    (back,) = edges_of_class(relation_graph(), "frisbee", top=10)
    assert back.reasons == (Reason("catches", 2, 5), Reason("on", 0, 1))


def test_attribute_edges_are_explained_by_what_both_classes_share():
    (edge,) = edges_of_class(attribute_graph(), "leaf", top=10)
    # apple: green 4/5, red 1/5; leaf: green 2/4, red 2/4. Shared: green 0.5, red 0.2.
    assert (edge.target, edge.reasons) == ("apple", (Reason("green", 2, 4), Reason("red", 2, 1)))


def test_edges_without_evidence_have_no_reasons():
    (edge,) = edges_of_class(plain_graph(), "a", top=10)
    assert (edge.target, edge.weight, edge.reasons) == ("b", 1.0, ())


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(ClassMatchError, match="did you mean dog"):
        edges_of_class(relation_graph(), "dogs", top=10)
