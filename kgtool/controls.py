"""Control graphs: what a class graph is compared with before anyone says that its knowledge helps.

Each control has the classes of a graph and takes something away from it. A detector that is as good with the
control does not use what was taken away. The header's recipe gets `control`: the kind, the hash of the graph
it was made from, and the seed where chance decides; it is part of the control's own hash.

| control | what is left of the graph | what is gone |
|---|---|---|
| identity | nothing: each class has itself | every edge |
| uniform | the mean weight of all pairs, for each pair | which classes an edge joins |
| random | the weights, the number of edges | where they are, and how many a class has |
| degree-preserving | the weights, and how many edges each class has | which classes an edge joins |
| shuffled | everything, counts and evidence too | which class is which |
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from kgtool.graph import ClassGraph, make_graph

ControlKind = Literal["identity", "uniform", "random", "shuffled", "degree-preserving"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)

Weight = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]

#: Edge swaps that are tried for each edge: networks are usually mixed after about ten.
_TRIES_PER_EDGE = 10


def control_graph(graph: ClassGraph, kind: ControlKind, seed: int = 0) -> ClassGraph:
    """Make a control of a graph: its classes in their order, with other edges.

    The diagonal stays as it is, except that `identity` has ones and `shuffled` moves it with the classes.
    Only `shuffled` keeps counts, distribution and evidence; those of the others would not fit the weights.

    Args:
        graph: any class graph.
        kind: see the table above.
        seed: decides `random`, `shuffled` and `degree-preserving`; the same seed gives the same graph.
    """
    control: dict[str, Any] = {"kind": kind, "of": graph.graph_hash}
    if kind not in _FIXED:
        control["seed"] = seed
    recipe = {**graph.header["recipe"], "control": control}
    rng = np.random.default_rng(seed)
    if kind == "shuffled":
        return _shuffled(graph, recipe, rng)
    weight = _FIXED[kind](graph) if kind in _FIXED else _DRAWN[kind](graph, rng)
    return make_graph(
        classes=graph.classes,
        synsets=graph.synsets,
        weight=weight,
        counts=None,
        kind=graph.kind,
        recipe=recipe,
        dataset=graph.header["dataset"],
        sources=graph.header["sources"],
        directed=graph.header["directed"],
        normalization=f"control: {kind}",
    )


def _identity(graph: ClassGraph) -> Weight:
    return np.eye(len(graph.classes), dtype=np.float32)


def _uniform(graph: ClassGraph) -> Weight:
    num_classes = len(graph.classes)
    off_diagonal = ~np.eye(num_classes, dtype=bool)
    weight = graph.weight.copy()
    if num_classes > 1:
        weight[off_diagonal] = weight[off_diagonal].mean(dtype=np.float64)
    return weight


def _random(graph: ClassGraph, rng: np.random.Generator) -> Weight:
    rows, columns = _pairs(graph)
    return _placed(graph, rows, columns, rng.permutation(graph.weight[rows, columns]))


def _degree_preserving(graph: ClassGraph, rng: np.random.Generator) -> Weight:
    """Edge swaps, then the weights in random order on the edges.

    The swaps are the switching chain of Rao, Jana and Bandyopadhyay (1996): two edges a-b, c-d drawn at
    random become a-d, c-b, unless that would make a self loop or an edge that is there; a refused swap
    counts as a try, so that no graph with these degrees is favoured. A directed graph keeps in- and
    out-degrees. Where most pairs are edges, the pairs without one are swapped, which is the same and
    faster. A graph with all edges has no other with its degrees: there only the weights move.
    """
    rows, columns = _pairs(graph)
    is_edge = graph.weight[rows, columns] > 0
    weights = rng.permutation(graph.weight[rows[is_edge], columns[is_edge]])
    swap_edges = 2 * np.count_nonzero(is_edge) <= len(is_edge)
    chosen = is_edge == swap_edges
    swapped = _swapped(
        rows[chosen], columns[chosen], len(graph.classes), rng, directed=graph.header["directed"]
    )
    marks = np.zeros(graph.weight.shape, dtype=bool)
    marks[swapped] = True
    rows_with = marks[rows, columns] == swap_edges
    return _placed(graph, rows[rows_with], columns[rows_with], weights)


def _swapped(
    rows: Positions, columns: Positions, num_classes: int, rng: np.random.Generator, *, directed: bool
) -> tuple[Positions, Positions]:
    """Ends of edges after random swaps; of an undirected graph the smaller end first."""
    first, second = rows.tolist(), columns.tolist()
    if len(first) < 2:
        return rows, columns

    present = set((rows * num_classes + columns).tolist())
    for _ in range(_TRIES_PER_EDGE):
        draws = rng.integers(len(first), size=(len(first), 2)).tolist()
        turns = rng.integers(1 if directed else 2, size=len(first)).tolist()
        for (i, j), turn in zip(draws, turns, strict=True):
            a, b, c, d = first[i], second[i], first[j], second[j]
            if turn:  # an undirected edge has no first end: both ways of joining four ends are as likely
                c, d = d, c
            e, f, g, h = (a, d, c, b) if directed else (min(a, d), max(a, d), min(b, c), max(b, c))
            one, other = e * num_classes + f, g * num_classes + h
            if e == f or g == h or one in present or other in present or one == other:
                continue
            present.remove(first[i] * num_classes + second[i])
            present.remove(first[j] * num_classes + second[j])
            present.add(one)
            present.add(other)
            first[i], second[i], first[j], second[j] = e, f, g, h
    keys = np.sort(np.fromiter(present, dtype=np.int64, count=len(present)))
    return keys // num_classes, keys % num_classes


def _shuffled(graph: ClassGraph, recipe: dict[str, Any], rng: np.random.Generator) -> ClassGraph:
    """The graph with its classes in a random order, under the names in the order they had."""
    moved = graph.permuted(rng.permutation(len(graph.classes)).tolist())
    return make_graph(
        classes=graph.classes,
        synsets=graph.synsets,
        weight=moved.weight,
        counts=moved.counts,
        kind=graph.kind,
        recipe=recipe,
        dataset=graph.header["dataset"],
        sources=graph.header["sources"],
        directed=graph.header["directed"],
        normalization=graph.header["normalization"],
        evidence=moved.evidence,
        distribution=moved.distribution,
    )


def _pairs(graph: ClassGraph) -> tuple[Positions, Positions]:
    """Rows and columns of all pairs of two classes; of an undirected graph each pair once."""
    num_classes = len(graph.classes)
    if graph.header["directed"]:
        rows, columns = np.nonzero(~np.eye(num_classes, dtype=bool))
        return rows, columns
    return np.triu_indices(num_classes, k=1)


def _placed(graph: ClassGraph, rows: Positions, columns: Positions, values: Weight) -> Weight:
    """The graph's diagonal, and values at pairs; of an undirected graph in both directions."""
    weight = np.diag(np.diagonal(graph.weight))
    weight[rows, columns] = values
    if not graph.header["directed"]:
        weight[columns, rows] = values
    return weight


_FIXED: dict[str, Callable[[ClassGraph], Weight]] = {"identity": _identity, "uniform": _uniform}
_DRAWN: dict[str, Callable[[ClassGraph, np.random.Generator], Weight]] = {
    "random": _random,
    "degree-preserving": _degree_preserving,
}
