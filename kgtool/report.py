"""A graph looked over before anyone trains with it: holes, hubs, smoothness, evidence, synsets, class order.

These are the facts; `kgtool.verdict` judges them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.class_order import OrderTest, likely_senses, order_test, wordnet_closeness
from kgtool.classes import folded_name, is_synset
from kgtool.coco import Dataset
from kgtool.graph import ClassGraph
from kgtool.graph_summary import Edge, summarise_graph
from kgtool.splits import frequency, image_counts
from kgtool.wordnet import Nouns

DEFAULT_THIN = 3
NUM_HOPS = 4
_NUM_HUBS = 10
_NUM_STRONGEST = 10


@dataclass(frozen=True)
class Hub:
    """A class with many edges: how many, and the share of all weight that ends at it, 0 to 1."""

    name: str
    degree: int
    share: float


@dataclass(frozen=True)
class Band:
    """Classes of a data set that are about as frequent, and what the graph has of them.

    Attributes:
        frequency: LVIS's: "r", at most 10 images; "c", at most 100; "f", more; what the data set says of a
            class, where it says none of these the number of its images.
        num_classes: classes of the data set in this band.
        connected: of these, in the graph with an edge to another class.
        isolated: in the graph without one.
        missing: not in the graph.
    """

    frequency: str
    num_classes: int
    connected: int
    isolated: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ThinEdges:
    """Edges that rest on few annotations; in an attribute graph, the attributes of one end do.

    Attributes:
        limit: on fewer than so many.
        num_edges: how many edges.
        classes: those that have no other edges.
    """

    limit: int
    num_edges: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """The pair of classes that most annotations relate: how many, and how many relate two classes at all."""

    first: str
    second: str
    count: int
    total: int


@dataclass(frozen=True)
class GraphReport:
    """Everything `kgtool report` tells; pairs of an undirected graph count once, self loops apart.

    Attributes:
        num_classes: C.
        num_edges: edges between two classes.
        density: edges over possible edges, 0 to 1.
        components: sizes of the sets of classes that edges connect, largest first.
        isolated: classes without an edge to another.
        degrees: least, lower quartile, median, upper quartile and greatest number of edges of a class.
        weights: the same five of the weights of edges; empty without edges.
        strongest: the strongest edges between two classes, with evidence.
        hubs: classes with most edges.
        smoothness: mean cosine of the rows of E^k, k = 1 to 4, for row-normalised E: where it is near 1,
            all classes get nearly the same from k hops. Empty with fewer than two connected classes.
        num_synsets: classes with a synset.
        doubtful: classes whose name is no lemma of their synset, each with it.
        thin: edges with little evidence; None where the graph has no counts.
        most_counted: None where the graph has no counts of pairs, or no pair.
        order: whether classes near in WordNet are related more; None where that cannot be tested.
        coverage: the data set's classes by frequency; empty without a data set.
    """

    num_classes: int
    num_edges: int
    density: float
    components: tuple[int, ...]
    isolated: tuple[str, ...]
    degrees: tuple[int, ...]
    weights: tuple[float, ...]
    strongest: tuple[Edge, ...]
    hubs: tuple[Hub, ...]
    smoothness: tuple[float, ...]
    num_synsets: int
    doubtful: dict[str, str]
    thin: ThinEdges | None
    most_counted: Pair | None
    order: OrderTest | None
    coverage: tuple[Band, ...]


def report_graph(
    graph: ClassGraph, nouns: Nouns, *, data: Dataset | None = None, thin: int = DEFAULT_THIN
) -> GraphReport:
    """Look a graph over.

    Args:
        graph: any class graph.
        nouns: WordNet, for doubtful synsets and the order of classes.
        data: a data set that the graph is meant for; adds coverage.
        thin: an edge that rests on fewer annotations is thin.
    """
    summary = summarise_graph(graph, _NUM_STRONGEST)
    others_CC = graph.weight.copy()
    np.fill_diagonal(others_CC, 0)
    edge_CC = others_CC > 0
    degree_C = (edge_CC | edge_CC.T).sum(axis=1)
    senses = likely_senses(graph.classes, synsets_of(graph), nouns)
    values = others_CC if graph.header["directed"] else np.triu(others_CC)
    return GraphReport(
        num_classes=summary.num_classes,
        num_edges=summary.num_edges,
        density=summary.density,
        components=_component_sizes(edge_CC),
        isolated=summary.isolated,
        degrees=tuple(int(value) for value in _five(degree_C)),
        weights=tuple(float(value) for value in _five(values[values > 0])),
        strongest=summary.strongest,
        hubs=_hubs(graph, others_CC, degree_C),
        smoothness=smoothness(graph.weight[np.ix_(degree_C > 0, degree_C > 0)]),
        num_synsets=sum(map(bool, synsets_of(graph))),
        doubtful=doubtful_synsets(graph, nouns),
        thin=_thin_edges(graph, edge_CC, thin),
        most_counted=_most_counted(graph),
        order=order_test(graph.weight, wordnet_closeness(senses, nouns)),
        coverage=() if data is None else _coverage(graph, degree_C, data),
    )


def smoothness(weight_CC: npt.NDArray[np.floating], num_hops: int = NUM_HOPS) -> tuple[float, ...]:
    """Mean cosine of two rows of P^k, k = 1 to `num_hops`, where P is the matrix with rows that sum to 1.

    Row i of P^k says whose features class i gets after k hops, and for class features without a common
    direction the cosine of two classes' results is that of their rows. Near 1 all classes get the same:
    the over-smoothing of Li, Han and Wu, AAAI 2018.

    Args:
        weight_CC: (C, C) not negative, self loops as the graph has them.
        num_hops: powers to look at.

    Returns:
        One number in [0, 1] a hop; none with fewer than two classes.
    """
    num_classes = len(weight_CC)
    if num_classes < 2:
        return ()
    sums_C1 = weight_CC.sum(axis=1, keepdims=True, dtype=np.float64)
    step_CC = np.divide(weight_CC, sums_C1, out=np.zeros(weight_CC.shape), where=sums_C1 > 0)
    reach_CC, found = step_CC, []
    for hop in range(num_hops):
        reach_CC = reach_CC @ step_CC if hop else step_CC
        length_C1 = np.linalg.norm(reach_CC, axis=1, keepdims=True)
        unit_CC = np.divide(reach_CC, length_C1, out=np.zeros_like(reach_CC), where=length_C1 > 0)
        own = float((unit_CC**2).sum())
        every = float((unit_CC.sum(axis=0) ** 2).sum())
        found.append(min(1.0, max(0.0, (every - own) / (num_classes * (num_classes - 1)))))
    return tuple(found)


def synsets_of(graph: ClassGraph) -> tuple[str, ...]:
    """The synset of each class; a class named as a synset has that one."""
    return tuple(map(_synset_of, graph.classes, graph.synsets))


def _synset_of(name: str, synset: str) -> str:
    return synset or (name if is_synset(name) else "")


def doubtful_synsets(graph: ClassGraph, nouns: Nouns) -> dict[str, str]:
    """Classes whose name is no lemma of their synset, nor the plural of one; with the synset.

    A class named as its synset, and a synset that is no noun of this WordNet, are not doubted.
    """
    found = {}
    for name, synset in zip(graph.classes, graph.synsets, strict=True):
        if not synset or name == synset or synset not in nouns:
            continue
        word = folded_name(name)
        lemmas = {lemma.lower().replace("-", "_") for lemma in nouns.synset(synset).lemmas}
        if not lemmas & {word, *nouns.singulars(word)}:
            found[name] = synset
    return found


def _component_sizes(edge_CC: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, component_C = connected_components(csr_array(edge_CC), connection="weak")
    return tuple(sorted(np.bincount(component_C).tolist(), reverse=True))


def _five(values: npt.NDArray[Any]) -> list[float]:
    if not len(values):
        return []
    cuts: list[float] = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return cuts


def _hubs(
    graph: ClassGraph, others_CC: npt.NDArray[np.float32], degree_C: npt.NDArray[np.intp]
) -> tuple[Hub, ...]:
    touching_C = others_CC.sum(axis=0, dtype=np.float64) + others_CC.sum(axis=1, dtype=np.float64)
    total = touching_C.sum() / 2 or 1.0
    order = sorted(range(len(degree_C)), key=lambda at: (-degree_C[at], -touching_C[at], graph.classes[at]))
    return tuple(
        Hub(graph.classes[at], int(degree_C[at]), float(touching_C[at] / total))
        for at in order[:_NUM_HUBS]
        if degree_C[at]
    )


def _thin_edges(graph: ClassGraph, edge_CC: npt.NDArray[np.bool_], limit: int) -> ThinEdges | None:
    if graph.counts is None:
        return None
    if graph.kind == "attribute":
        seen_C = graph.counts.sum(axis=1)
        support_CC = np.minimum.outer(seen_C, seen_C)
    else:
        support_CC = graph.counts if graph.header["directed"] else graph.counts + graph.counts.T
    thin_CC = edge_CC & (support_CC < limit)
    number = np.count_nonzero(thin_CC)
    on_thin_alone_C = edge_CC.any(axis=1) & ~(edge_CC & ~thin_CC).any(axis=1)
    names = tuple(graph.classes[at] for at in np.flatnonzero(on_thin_alone_C))
    return ThinEdges(limit, int(number if graph.header["directed"] else number // 2), names)


def _most_counted(graph: ClassGraph) -> Pair | None:
    if graph.counts is None or graph.kind == "attribute":
        return None
    pairs_CC = np.triu(graph.counts + graph.counts.T, k=1)
    if not pairs_CC.any():
        return None
    i, j = np.unravel_index(int(np.argmax(pairs_CC)), pairs_CC.shape)
    return Pair(graph.classes[i], graph.classes[j], int(pairs_CC[i, j]), int(pairs_CC.sum()))


def _coverage(graph: ClassGraph, degree_C: npt.NDArray[np.intp], data: Dataset) -> tuple[Band, ...]:
    bands: dict[str, tuple[list[str], list[str], list[str]]] = {band: ([], [], []) for band in "fcr"}
    names = [category.name for category in data.categories]
    synsets = [category.synset for category in data.categories]
    places = find_classes(names, synsets, graph)
    for category, at, images in zip(data.categories, places, image_counts(data).tolist(), strict=True):
        place = 2 if at is None else 0 if degree_C[at] else 1
        band = category.frequency if category.frequency in bands else frequency(images)
        bands[band][place].append(category.name)
    return tuple(
        Band(band, sum(map(len, names)), len(names[0]), tuple(names[1]), tuple(names[2]))
        for band, names in bands.items()
        if any(names)
    )


def find_classes(names: Sequence[str], synsets: Sequence[str], graph: ClassGraph) -> list[int | None]:
    """Find classes of a data set in a graph, by the rule of a detector that is given both.

    A class is the one with its synset; where it or the one of its name has no synset, that of its name. A
    class named as a synset has that synset.

    Args:
        names: of the data set's classes.
        synsets: of these, "" where unknown.
        graph: any class graph.

    Returns:
        the position of each in the graph; None where it is not there.
    """
    known = synsets_of(graph)
    by_name = {name: at for at, name in enumerate(graph.classes)}
    by_synset = {synset: at for at, synset in enumerate(known) if synset}
    found: list[int | None] = []
    for name, given in zip(names, synsets, strict=True):
        synset = _synset_of(name, given)
        at = by_synset.get(synset)
        if at is None and name in by_name and not (synset and known[by_name[name]]):
            at = by_name[name]
        found.append(at)
    return found
