"""What a person wants to know of a graph: its size, its holes, its strongest edges and why they are there."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgtool.graph import ClassGraph, Evidence

#: How many terms explain one edge.
_NUM_REASONS = 5


@dataclass(frozen=True)
class Reason:
    """One term behind an edge.

    Attributes:
        term: the predicate or attribute.
        count: annotations from source to target with this predicate; or of this attribute on the source.
        other_count: annotations from target to source; or of this attribute on the target.
    """

    term: str
    count: int
    other_count: int


@dataclass(frozen=True)
class Edge:
    """An edge with the terms that made it, strongest first; no terms where the graph keeps no evidence."""

    source: str
    target: str
    weight: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class GraphSummary:
    """Size and connectivity of a graph. Pairs of an undirected graph count once, self loops apart.

    Attributes:
        num_classes: C.
        num_edges: edges between two classes.
        num_self_loops: classes with an edge to themselves.
        density: edges over possible edges, 0 to 1.
        isolated: classes without an edge to or from another.
        num_components: sets of classes that edges connect, in whichever direction.
        largest_component: number of classes in the largest.
        strongest: the strongest edges between two classes.
    """

    num_classes: int
    num_edges: int
    num_self_loops: int
    density: float
    isolated: tuple[str, ...]
    num_components: int
    largest_component: int
    strongest: tuple[Edge, ...]


def summarise_graph(graph: ClassGraph, top: int) -> GraphSummary:
    """Size, isolated classes, components and the `top` strongest edges of a graph."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    num_classes = len(graph.classes)
    others_CC = graph.weight.copy()
    np.fill_diagonal(others_CC, 0)
    num_components, component_C = connected_components(csr_array(others_CC), connection="weak")
    connected_C = others_CC.any(axis=0) | others_CC.any(axis=1)
    num_possible = num_classes * (num_classes - 1)
    if not graph.header["directed"]:
        others_CC = np.triu(others_CC)
        num_possible //= 2
    num_edges = int(np.count_nonzero(others_CC))
    return GraphSummary(
        num_classes=num_classes,
        num_edges=num_edges,
        num_self_loops=int(np.count_nonzero(np.diagonal(graph.weight))),
        density=num_edges / num_possible if num_possible else 0.0,
        isolated=tuple(graph.classes[i] for i in np.flatnonzero(~connected_C)),
        num_components=int(num_components),
        largest_component=int(np.bincount(component_C).max()),
        strongest=tuple(_strongest(graph, others_CC, top)),
    )


def edges_of_class(graph: ClassGraph, name: str, top: int) -> tuple[Edge, ...]:
    """The `top` strongest edges that leave a class, with the terms behind each.

    Raises:
        ClassMatchError: there is no such class.
    """
    return tuple(
        Edge(name, target, weight, edge_reasons(graph, graph.index_of(name), graph.index_of(target)))
        for target, weight in graph.edges(name, top)
    )


def _strongest(graph: ClassGraph, others_CC: npt.NDArray[np.float32], top: int) -> list[Edge]:
    positive = others_CC[others_CC > 0]
    if len(positive) > top:
        least = np.partition(positive, len(positive) - top)[len(positive) - top]
        pairs = np.argwhere(others_CC >= least)
    else:
        pairs = np.argwhere(others_CC > 0)
    found = [(float(others_CC[i, j]), graph.classes[i], graph.classes[j], i, j) for i, j in pairs.tolist()]
    found.sort(key=lambda edge: (-edge[0], edge[1:]))
    return [
        Edge(source, target, weight, edge_reasons(graph, i, j))
        for weight, source, target, i, j in found[:top]
    ]


def edge_reasons(graph: ClassGraph, i: int, j: int) -> tuple[Reason, ...]:
    """The five terms most behind one edge; none where the graph keeps no evidence.

    Predicates are ranked by how often they relate the two classes, attributes by what the two share.

    Args:
        graph: any class graph.
        i: position of the edge's first class.
        j: position of its second.
    """
    evidence = graph.evidence
    if evidence is None:
        return ()
    num_terms = _num_selected(graph, evidence)
    if graph.kind == "attribute":
        forward, backward = _terms_of(evidence, i, num_terms), _terms_of(evidence, j, num_terms)
        num_i, num_j = sum(forward.values()), sum(backward.values())
        shared = forward.keys() & backward.keys()
        worth = {term: min(forward[term] / num_i, backward[term] / num_j) for term in shared}
    else:
        forward, backward = _terms_of(evidence, i, num_terms, j), _terms_of(evidence, j, num_terms, i)
        worth = {term: float(forward.get(term, 0) + backward.get(term, 0)) for term in forward | backward}
    chosen = sorted(worth, key=lambda term: (-worth[term], term))[:_NUM_REASONS]
    return tuple(Reason(evidence.terms[term], forward.get(term, 0), backward.get(term, 0)) for term in chosen)


def selected_terms(graph: ClassGraph) -> tuple[str, ...]:
    """The predicates or attributes that count, most frequent first; none without evidence."""
    return () if graph.evidence is None else graph.evidence.terms[: _num_selected(graph, graph.evidence)]


def _num_selected(graph: ClassGraph, evidence: Evidence) -> int:
    return int(graph.header["recipe"].get("num_terms", 0) or len(evidence.terms))


def _terms_of(evidence: Evidence, row: int, num_terms: int, column: int | None = None) -> dict[int, int]:
    """Count by selected term of a class, or of a pair of classes."""
    # The index is sorted. NumPy's search would copy the whole column for each class.
    first, last = (bisect_left(evidence.index, at, key=lambda entry: entry[0]) for at in (row, row + 1))
    index, count = evidence.index[first:last], evidence.count[first:last]
    chosen = index[:, 1] < num_terms
    if column is not None:
        chosen &= index[:, 2] == column
    return dict(zip(index[chosen, 1].tolist(), count[chosen].tolist(), strict=True))
