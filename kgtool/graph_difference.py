"""What differs between two class graphs: classes, headers, edges, neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.graph import ClassGraph
from kgtool.neighbours import top_neighbours


@dataclass(frozen=True)
class ChangedEdge:
    """An edge between two common classes with its weight in each graph; 0 where it is not."""

    source: str
    target: str
    weight_a: float
    weight_b: float


@dataclass(frozen=True)
class GraphDifference:
    """How graph B differs from graph A; all from `same_order` on is of the classes in both.

    Attributes:
        same: whether the two have the same hash: classes, weights, counts and evidence.
        only_a: classes in A alone.
        only_b: classes in B alone.
        num_common: classes in both.
        header: keys whose values differ, with A's and B's; None where a header has no such key. Without
            graph_hash, and of sources the names and hashes.
        same_order: whether they stand in the same order.
        num_edges_a: edges in A between two of them; of two undirected graphs each pair once.
        num_edges_b: the same in B.
        num_edges_both: pairs with an edge in both.
        rank_correlation: Spearman's, of the weights of all pairs; None where a graph has only one weight.
        overlap: mean Jaccard index of a class's strongest neighbours in A and in B, 0 to 1; over the classes
            that have one in either; None where none has.
        top: neighbours compared.
        changed: the edges whose weights differ most, largest difference first.
    """

    same: bool
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    num_common: int
    header: dict[str, tuple[Any, Any]]
    same_order: bool
    num_edges_a: int
    num_edges_b: int
    num_edges_both: int
    rank_correlation: float | None
    overlap: float | None
    top: int
    changed: tuple[ChangedEdge, ...]


def compare_graphs(a: ClassGraph, b: ClassGraph, top: int = 10) -> GraphDifference:
    """Compare two graphs class by class.

    A class of A and one of B are the same when their synsets are; where one of them has none, when their
    names are. Names in the result are A's.

    Args:
        a: any class graph.
        b: another.
        top: edges listed, and neighbours of each class compared.
    """
    pairs = _common_classes(a, b)
    in_a, in_b = (np.array(side, dtype=np.intp) for side in (list(pairs), list(pairs.values())))
    of_b = set(pairs.values())
    names = [a.classes[at] for at in in_a]
    weights_a, weights_b = _off_diagonal(a, in_a), _off_diagonal(b, in_b)
    directed = bool(a.header["directed"] or b.header["directed"])
    square = ~np.eye(len(names), dtype=bool)
    asked = square if directed else np.triu(square)
    values_a, values_b = weights_a[asked], weights_b[asked]
    return GraphDifference(
        same=a.graph_hash == b.graph_hash,
        only_a=tuple(name for at, name in enumerate(a.classes) if at not in pairs),
        only_b=tuple(name for at, name in enumerate(b.classes) if at not in of_b),
        num_common=len(names),
        header=_header_difference(a, b),
        same_order=bool((np.diff(in_b) > 0).all()),
        num_edges_a=int(np.count_nonzero(values_a)),
        num_edges_b=int(np.count_nonzero(values_b)),
        num_edges_both=int(np.count_nonzero((values_a > 0) & (values_b > 0))),
        rank_correlation=_rank_correlation(values_a, values_b),
        overlap=_overlap(weights_a, weights_b, top),
        top=top,
        changed=_most_changed(names, np.where(asked, weights_a, 0), np.where(asked, weights_b, 0), top),
    )


def _common_classes(a: ClassGraph, b: ClassGraph) -> dict[int, int]:
    """Position in A to position in B, in A's order."""
    by_synset = {synset: at for at, synset in enumerate(b.synsets) if synset}
    by_name = {name: at for at, name in enumerate(b.classes)}
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for at, (name, synset) in enumerate(zip(a.classes, a.synsets, strict=True)):
        other = by_synset.get(synset)
        if other is None and name in by_name and not (synset and b.synsets[by_name[name]]):
            other = by_name[name]
        if other is not None and other not in taken:
            pairs[at] = other
            taken.add(other)
    return pairs


def _off_diagonal(graph: ClassGraph, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    weight = graph.weight[np.ix_(positions, positions)]
    np.fill_diagonal(weight, 0)
    return weight


def _header_difference(a: ClassGraph, b: ClassGraph) -> dict[str, tuple[Any, Any]]:
    headers = []
    for graph in (a, b):
        sources = [{key: source.get(key) for key in ("name", "sha256")} for source in graph.header["sources"]]
        headers.append({**graph.header, "sources": sources})
    keys = sorted((headers[0].keys() | headers[1].keys()) - {"graph_hash"})
    values = {key: (headers[0].get(key), headers[1].get(key)) for key in keys}
    return {key: pair for key, pair in values.items() if pair[0] != pair[1]}


def _rank_correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float | None:
    from scipy.stats import rankdata

    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return None
    ranks_a, ranks_b = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    return float(ranks_a @ ranks_b / np.sqrt((ranks_a @ ranks_a) * (ranks_b @ ranks_b)))


def _overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], top: int) -> float | None:
    shares = []
    for near_a, near_b in zip(top_neighbours(a, top), top_neighbours(b, top), strict=True):
        both, either = np.intersect1d(near_a, near_b), np.union1d(near_a, near_b)
        if len(either):
            shares.append(len(both) / len(either))
    return float(np.mean(shares)) if shares else None


def _most_changed(
    names: list[str], a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], top: int
) -> tuple[ChangedEdge, ...]:
    change = np.abs(a.astype(np.float64) - b)
    pairs = np.argwhere(change > 0)
    if len(pairs) > top:
        size = change[tuple(pairs.T)]
        pairs = pairs[size >= np.partition(size, len(size) - top)[len(size) - top]]
    order = sorted(pairs.tolist(), key=lambda pair: (-change[pair[0], pair[1]], pair))
    return tuple(ChangedEdge(names[i], names[j], float(a[i, j]), float(b[i, j])) for i, j in order[:top])
