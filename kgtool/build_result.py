"""The last steps of every build: counts of classes become a graph, the graph a file and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.classes import ClassTable
from kgtool.graph import ClassGraph, Evidence, check_graph_path, make_graph, save_graph
from kgtool.weights import attribute_distribution, is_directed, normalization_of, weights_from_counts


@dataclass(frozen=True, eq=False)
class Build:
    """A graph and how it came about.

    Attributes:
        graph: the class graph.
        num_edges: how many pairs of different classes have a weight above 0.
        annotations: how many were read: the counted and the skipped.
        counted: how many are in the graph's evidence, whatever their term.
        selected: how many of these have one of the most frequent terms: the sum of the graph's counts.
        skipped: how many did not count, by reason.
        no_evidence: classes that none of the selected mentions.
        messages: what a reader should know, a line each.
    """

    graph: ClassGraph
    num_edges: int
    annotations: int
    counted: int
    selected: int
    skipped: dict[str, int]
    no_evidence: tuple[str, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """Where a graph is written.

    Attributes:
        path: .npz or .parquet.
        overwrite: replace the file if it is there.
    """

    path: Path
    overwrite: bool = False


def check_first(kind: str, recipe: str, output: Output | None) -> None:
    """Check, before hours of reading, what can be checked: the recipe's name and the place of the output.

    Raises:
        InputError: the kind of graph has no such recipe.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    normalization_of(kind, recipe)
    if output is not None:
        check_graph_path(output.path, overwrite=output.overwrite)


def graph_from_evidence(
    kind: str,
    recipe: Mapping[str, Any],
    table: ClassTable,
    evidence: Evidence,
    *,
    dataset: str,
    sources: Sequence[Mapping[str, Any]],
) -> ClassGraph:
    """Make the graph of some evidence: its selected terms give the counts, the recipe gives the weights.

    Args:
        kind: "relation", "attribute" or "cooccurrence".
        recipe: `name`, `num_terms` (0: all) and what else should stand in the header.
        table: the classes that the evidence's codes are positions of.
        evidence: counts by term, all terms.
        dataset: what was read, for people.
        sources: one object a file that was read.
    """
    counts = _selected_counts(kind, evidence, recipe["num_terms"], len(table))
    return make_graph(
        classes=table.names,
        synsets=table.synsets,
        weight=weights_from_counts(kind, recipe["name"], counts),
        counts=counts,
        kind=kind,
        recipe=recipe,
        dataset=dataset,
        sources=sources,
        directed=is_directed(kind, recipe["name"]),
        normalization=normalization_of(kind, recipe["name"]),
        evidence=evidence,
        distribution=attribute_distribution(counts) if kind == "attribute" else None,
    )


def finish_build(
    graph: ClassGraph,
    *,
    annotations: int,
    skipped: dict[str, int],
    messages: Sequence[str],
    output: Output | None,
) -> Build:
    """Write a graph, if it is to be written, and say how it came about.

    Args:
        graph: with counts and evidence.
        annotations: how many were read.
        skipped: how many did not count, by reason.
        messages: what a reader should know.
        output: where to; None writes nothing.
    """
    assert graph.counts is not None
    assert graph.evidence is not None
    if output is not None:
        save_graph(graph, output.path, overwrite=output.overwrite)
    seen = graph.counts.any(axis=1) | (False if graph.kind == "attribute" else graph.counts.any(axis=0))
    either = (graph.weight > 0) | (graph.weight > 0).T
    return Build(
        graph,
        num_edges=int(np.count_nonzero(np.triu(either, 1))),
        annotations=annotations,
        counted=int(graph.evidence.count.sum()),
        selected=int(graph.counts.sum()),
        skipped=skipped,
        no_evidence=tuple(graph.classes[i] for i in np.flatnonzero(~seen)),
        messages=tuple(messages),
    )


def _selected_counts(
    kind: str, evidence: Evidence, num_terms: int, num_classes: int
) -> npt.NDArray[np.int64]:
    """The counts of the selected terms: (C, A) of an attribute graph, (C, C) of all others."""
    num_selected = min(num_terms or len(evidence.terms), len(evidence.terms))
    chosen = evidence.index[:, 1] < num_selected
    counts = np.zeros((num_classes, num_selected if kind == "attribute" else num_classes), dtype=np.int64)
    index = evidence.index[chosen]
    np.add.at(counts, (index[:, 0], index[:, -1]), evidence.count[chosen])
    return counts
