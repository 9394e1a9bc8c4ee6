"""A class graph and its file: what passes from kgtool to a detector.

A graph is ordered class names, their synsets, a dense matrix of edge weights, the integer counts behind it
and a header. docs/graph-format.md is the format; `load_graph` and `save_graph` are the only way in and out.
Classes are named; background is not among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool import __version__
from kgtool import graph_check as rules
from kgtool.classes import near_names
from kgtool.errors import ClassMatchError, GraphFormatError
from kgtool.files import atomic_path, check_writable
from kgtool.graph_arrays import check_names, hash_arrays, json_text, json_value
from kgtool.graph_check import FORMAT, VERSION

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "FORMAT",
    "VERSION",
    "ClassGraph",
    "Evidence",
    "check_graph",
    "check_graph_path",
    "load_graph",
    "make_graph",
    "save_graph",
]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sparse counts behind a graph, of all terms seen, so that graphs can be merged and edges explained.

    Attributes:
        terms: (T,) predicates or attributes, most frequent first, ties by name. The first `num_terms` of
            the recipe are the selected ones.
        totals: (T,) int64 occurrences in the whole input, whatever the classes.
        index: (N, 3) int32 subject class, term, object class; or (N, 2) class, term. Sorted unique rows.
        count: (N,) int64, at least 1.
    """

    terms: tuple[str, ...]
    totals: npt.NDArray[np.int64]
    index: npt.NDArray[np.int32]
    count: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassGraph:
    """Classes, the weights of the edges between them, and what the weights were made from.

    Attributes:
        classes: C unique names, in the data set's order, without background.
        synsets: one a class, such as "dog.n.01", or empty.
        weight: (C, C) float32, finite, not negative; weight[i, j] is the edge from class i to class j.
        counts: int64, (C, C) from class i to class j; of an attribute graph (C, A); None when the weights
            were not made from counts.
        header: format, version, dataset, kind, recipe, directed, normalization, self_loops, sources,
            producer, graph_hash, and any further keys, which are kept.
        evidence: sparse counts by term, or None.
        distribution: (C, A) float32, of an attribute graph: each class's distribution over attributes.
    """

    classes: tuple[str, ...]
    synsets: tuple[str, ...]
    weight: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64] | None
    header: dict[str, Any]
    evidence: Evidence | None = None
    distribution: npt.NDArray[np.float32] | None = None

    @property
    def graph_hash(self) -> str:
        """The header's graph_hash: 64 hexadecimal digits, the same for the same graph on any machine."""
        return str(self.header["graph_hash"])

    @property
    def kind(self) -> str:
        """What the edges mean: relation, attribute, or another word."""
        return str(self.header["kind"])

    def index_of(self, name: str) -> int:
        """Position of a class.

        Raises:
            ClassMatchError: there is no such class; the message has the near names.
        """
        try:
            return self.classes.index(name)
        except ValueError:
            near = near_names(name, self.classes)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the first is {self.classes[0]}"
            raise ClassMatchError(
                f"class {name!r}: not one of the graph's {len(self.classes)}; {hint}"
            ) from None

    def edges(self, name: str, top: int | None = None) -> list[tuple[str, float]]:
        """Strongest edges that leave a class, itself left out: pairs of class and weight.

        Args:
            name: a class of the graph.
            top: at most so many; None for all.

        Returns:
            Largest weight first, ties by name; no edge of weight 0.

        Raises:
            ClassMatchError: there is no such class.
        """
        row = self.index_of(name)
        found = [
            (self.classes[column], float(self.weight[row, column]))
            for column in np.flatnonzero(self.weight[row])
            if column != row
        ]
        return sorted(found, key=lambda edge: (-edge[1], edge[0]))[:top]

    def permuted(self, order: Sequence[int]) -> "ClassGraph":
        """The same graph with its classes in another order.

        Args:
            order: C positions, each once; class i of the result is class order[i] of this graph.
        """
        take = np.asarray(order, dtype=np.int64)
        if not np.array_equal(np.sort(take), np.arange(len(self.classes))):
            raise ValueError(f"order must hold each of the {len(self.classes)} positions once")
        square = np.ix_(take, take)
        rows = self.kind == "attribute"
        return _hashed(
            ClassGraph(
                classes=tuple(self.classes[i] for i in take),
                synsets=tuple(self.synsets[i] for i in take),
                weight=self.weight[square],
                counts=None if self.counts is None else self.counts[take if rows else square],
                header=self.header,
                evidence=None if self.evidence is None else _permuted_evidence(self.evidence, take),
                distribution=None if self.distribution is None else self.distribution[take],
            )
        )

    def to_networkx(self) -> "nx.Graph | nx.DiGraph":
        """The graph for networkx: nodes are class names with `synset`, edges have `weight` and `count`.

        The header is in `graph.graph`. An edge's `count` is the number of annotations from its first class
        to its second (of an undirected graph: in both directions); attribute graphs have none.
        """
        import networkx as nx

        result = nx.DiGraph() if self.header["directed"] else nx.Graph()
        result.graph.update(self.header)
        for name, synset in zip(self.classes, self.synsets, strict=True):
            result.add_node(name, synset=synset)
        counts = None if self.kind == "attribute" else self.counts
        for row, column in np.argwhere(self.weight > 0).tolist():
            if not self.header["directed"] and column < row:
                continue
            attributes: dict[str, Any] = {"weight": float(self.weight[row, column])}
            if counts is not None:
                both = not self.header["directed"] and row != column
                attributes["count"] = int(counts[row, column] + (counts[column, row] if both else 0))
            result.add_edge(self.classes[row], self.classes[column], **attributes)
        return result


def make_graph(
    *,
    classes: Sequence[str],
    synsets: Sequence[str],
    weight: npt.ArrayLike,
    counts: npt.ArrayLike | None,
    kind: str,
    recipe: Mapping[str, Any],
    dataset: str,
    sources: Sequence[Mapping[str, Any]] = (),
    directed: bool = False,
    normalization: str = "none",
    evidence: Evidence | None = None,
    distribution: npt.ArrayLike | None = None,
) -> ClassGraph:
    """Make a checked graph with its header and hash.

    Args:
        classes: C unique names, without background.
        synsets: one a class, or empty.
        weight: (C, C), rounded to float32.
        counts: (C, C), or (C, A) for kind "attribute"; None when there are none.
        kind: "relation", "attribute", or another word for what the edges mean.
        recipe: JSON object with `name`, and `num_terms` where terms were selected (0: all).
        dataset: what the graph was made from, for people.
        sources: one object a file: name, sha256, records read, records skipped by reason.
        directed: whether weight[i, j] may differ from weight[j, i].
        normalization: how counts became weights, for people.
        evidence: sparse counts by term.
        distribution: (C, A), rounded to float32.

    Raises:
        GraphFormatError: a rule of docs/graph-format.md is broken.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": dataset,
        "kind": kind,
        "recipe": dict(recipe),
        "directed": directed,
        "normalization": normalization,
        "sources": [dict(source) for source in sources],
        "producer": f"kgtool {__version__}",
    }
    matrix = _float32(weight)
    header["self_loops"] = bool(np.diagonal(matrix).any()) if matrix.ndim == 2 else False
    graph = _hashed(
        ClassGraph(
            classes=tuple(classes),
            synsets=tuple(synsets),
            weight=matrix,
            counts=None if counts is None else np.array(counts, dtype=np.int64, order="C"),
            header=header,
            evidence=evidence,
            distribution=None if distribution is None else _float32(distribution),
        )
    )
    check_graph(graph)
    return graph


def check_graph(graph: ClassGraph) -> None:
    """Check every rule of docs/graph-format.md, the hash included.

    Raises:
        GraphFormatError: one line with what was found and what was expected.
    """
    num_classes = len(graph.classes)
    rules.check_header(graph.header)
    rules.check_classes(graph.classes, graph.synsets)
    rules.check_weight(graph.weight, num_classes, graph.header)
    if graph.counts is not None:
        rules.check_counts(graph.counts, num_classes, graph.kind)
    if graph.distribution is not None:
        rules.check_distribution(graph.distribution, graph.counts, num_classes, graph.kind)
    if graph.evidence is not None:
        known = graph.evidence
        rules.check_evidence(known.terms, known.totals, known.index, known.count, num_classes, graph.kind)
        if graph.counts is not None:
            recipe = graph.header["recipe"]
            rules.check_evidence_sums(known.index, known.count, graph.counts, recipe, graph.kind)
    expected = hash_arrays(graph.header, _to_arrays(graph))
    if graph.graph_hash != expected:
        raise GraphFormatError(
            f"header: found graph_hash {graph.graph_hash[:12]}...; expected {expected[:12]}... "
            "from the content; the file was changed after it was made: build it again"
        )


def check_graph_path(path: Path, *, overwrite: bool = False) -> None:
    """Check, before any long work, that a graph may be written to `path`.

    Raises:
        GraphFormatError: the suffix is neither .npz nor .parquet.
        OutputExistsError: the file is there and `overwrite` is false.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise GraphFormatError(f"{path}: found the suffix {path.suffix!r}; expected .npz or .parquet")
    check_writable(path, overwrite=overwrite)


def save_graph(graph: ClassGraph, path: Path, *, overwrite: bool = False) -> None:
    """Write a graph as NPZ or Parquet, by the suffix of `path`; the same graph gives the same bytes.

    Raises:
        GraphFormatError: the graph breaks a rule, or the suffix is neither .npz nor .parquet.
        OutputExistsError: the file is there and `overwrite` is false.
    """
    check_graph_path(path, overwrite=overwrite)
    check_graph(graph)
    with atomic_path(path, overwrite=overwrite) as part:
        if path.suffix == ".npz":
            from kgtool.graph_npz import write_arrays
        else:
            from kgtool.graph_parquet import write_arrays
        write_arrays(part, _to_arrays(graph))


def load_graph(path: Path) -> ClassGraph:
    """Read a graph from NPZ or Parquet, told apart by their first bytes, and check it.

    Raises:
        GraphFormatError: one line that says what is wrong with the file.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic == b"PK\x03\x04":
            from kgtool.graph_npz import read_arrays
        elif magic == b"PAR1":
            from kgtool.graph_parquet import read_arrays
        else:
            raise GraphFormatError("found neither an NPZ nor a Parquet file; expected a graph made by kgtool")
        graph = _from_arrays(read_arrays(path))
        check_graph(graph)
    except GraphFormatError as error:
        raise GraphFormatError(f"{path}: {error}") from None
    except OSError as error:
        raise GraphFormatError(f"{path}: cannot be read ({error.strerror or error})") from None
    return graph


def _float32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and the check says so
        result = np.array(values, dtype=np.float32, order="C")
    return result + np.float32(0)  # -0.0 becomes 0.0, which is equal but has other bytes


def _hashed(graph: ClassGraph) -> ClassGraph:
    return replace(graph, header={**graph.header, "graph_hash": hash_arrays(graph.header, _to_arrays(graph))})


def _permuted_evidence(evidence: Evidence, take: npt.NDArray[np.int64]) -> Evidence:
    position = np.argsort(take).astype(np.int32)  # where each old class is now
    index = evidence.index.copy()
    for column in (0, 2)[: index.shape[1] - 1]:
        index[:, column] = position[index[:, column]]
    order = np.lexsort(index.T[::-1])
    return Evidence(evidence.terms, evidence.totals, index[order], evidence.count[order])


def _to_arrays(graph: ClassGraph) -> dict[str, npt.NDArray[Any]]:
    """The graph as the named arrays of docs/graph-format.md."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "meta": np.array(json_text(graph.header)),
        "classes": np.array(graph.classes),
        "synsets": np.array(graph.synsets),
        "weight": graph.weight,
    }
    if graph.counts is not None:
        arrays["counts"] = graph.counts
    if graph.distribution is not None:
        arrays["distribution"] = graph.distribution
    if graph.evidence is not None:
        arrays["evidence_terms"] = np.array(json_text(graph.evidence.terms))
        arrays["evidence_totals"] = graph.evidence.totals
        arrays["evidence_index"] = graph.evidence.index
        arrays["evidence_count"] = graph.evidence.count
    return arrays


def _from_arrays(arrays: dict[str, npt.NDArray[Any]]) -> ClassGraph:
    if "meta" in arrays:  # first of all, so that another version is called another version
        rules.check_format(json_value(arrays, "meta", dict))
    check_names(arrays)
    evidence = None
    if "evidence_terms" in arrays:
        evidence = Evidence(
            terms=tuple(json_value(arrays, "evidence_terms", list)),
            totals=arrays["evidence_totals"],
            index=arrays["evidence_index"],
            count=arrays["evidence_count"],
        )
    return ClassGraph(
        classes=tuple(arrays["classes"].tolist()),
        synsets=tuple(arrays["synsets"].tolist()),
        weight=arrays["weight"],
        counts=arrays.get("counts"),
        header=json_value(arrays, "meta", dict),
        evidence=evidence,
        distribution=arrays.get("distribution"),
    )
