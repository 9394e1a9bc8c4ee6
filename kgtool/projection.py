"""A graph over one class list turned into a graph over another: counts sliced and added, then normalised.

Which graph classes stand for a class is what `mapping.map_classes` finds in the graph. A class made of
several gets the sum of their counts. The order matters for relations: the release of Reasoning-RCNN sliced
its COCO graph before normalising and its ADE graph after, where weights also depend on classes left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from kgtool.class_names import ClassName
from kgtool.classes import ClassTable, is_background
from kgtool.errors import InputError
from kgtool.graph import ClassGraph, Evidence, make_graph
from kgtool.mapping import MappedClass, map_classes
from kgtool.targets import Target, graph_target
from kgtool.weights import attribute_distribution, is_directed, normalization_of, weights_from_counts
from kgtool.wordnet import Nouns

Order = Literal["counts", "weights"]
Number = TypeVar("Number", np.int64, np.float32)
#: Positions of the graph's classes that make up each class; none where nothing is known.
Groups = Sequence[tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Projection:
    """A projected graph and how it came about.

    Attributes:
        graph: over the new classes; its header's `projection` holds all that follows.
        rows: how each class was found in the graph.
        merged: classes made of several graph classes.
        fallback: classes that took a hypernym's row, with the hypernym.
        no_evidence: classes that nothing in the graph stands for: their rows and columns are empty.
        isolated: classes with evidence, but no edge to another class of the list.
        left_out: classes that mean background: no graph has them.
        messages: what a reader should know, a line each.
    """

    graph: ClassGraph
    rows: tuple[MappedClass, ...]
    merged: tuple[str, ...]
    fallback: dict[str, str]
    no_evidence: tuple[str, ...]
    isolated: tuple[str, ...]
    left_out: tuple[str, ...]
    messages: tuple[str, ...]


def project_graph(
    graph: ClassGraph,
    names: Sequence[ClassName],
    nouns: Nouns,
    *,
    order: Order = "counts",
    fallback_steps: int = 0,
) -> Projection:
    """Project a graph onto a class list.

    A class named background is left out, and told: ADE20K's full list has one. It shows no object, and what
    is behind objects is the detector's own affair; classes are matched by name, so no other one moves.

    Args:
        graph: any class graph.
        names: the new classes, in the order they get.
        nouns: WordNet.
        order: "counts": slice the counts, then normalise. "weights": normalise with all classes of the graph
            (merged ones first put together), then slice; the result has no counts, as they are not what its
            weights were made from.
        fallback_steps: a class without evidence takes the row of a hypernym at most so many steps above; 0
            for none.

    Raises:
        InputError: no class but background, or the graph has no counts and the order or a merged class needs
            them.
        GraphFormatError: the class list cannot be a graph's.
    """
    left_out = tuple(name.name for name in names if is_background(name.name))
    names = [name for name in names if not is_background(name.name)]
    target = graph_target(graph)
    rows = _find_classes(names, nouns, target, fallback_steps)
    groups = [_positions(graph, row) for row in rows]
    table, messages = _table(rows)
    messages[:0] = [
        f"class {name!r}: left out, as it shows no object; no graph has a background" for name in left_out
    ]
    made = _slice_counts(graph, table, groups) if order == "counts" else _slice_weights(graph, table, groups)
    merged = tuple(row.name for row, group in zip(rows, groups, strict=True) if len(group) > 1)
    fallback = {row.name: row.vg_synset[0] for row in rows if row.vg_method.startswith("hypernym")}
    no_evidence = tuple(
        row.name for row, group in zip(rows, groups, strict=True) if not group or _is_empty(graph, group)
    )
    note = {
        "from": graph.graph_hash,
        "order": "slice counts, then normalise" if order == "counts" else "normalise, then slice",
        "classes": {
            row.name: [graph.classes[position] for position in group]
            for row, group in zip(rows, groups, strict=True)
        },
        "fallback": fallback,
        "no_evidence": list(no_evidence),
    }
    if left_out:
        note["left_out"] = list(left_out)
    made = replace(made, header={**made.header, "projection": note})
    isolated = _isolated(made, no_evidence)
    return Projection(made, tuple(rows), merged, fallback, no_evidence, isolated, left_out, tuple(messages))


def _isolated(graph: ClassGraph, no_evidence: Sequence[str]) -> tuple[str, ...]:
    edges = graph.weight > 0
    np.fill_diagonal(edges, False)
    alone = ~(edges.any(axis=0) | edges.any(axis=1))
    return tuple(graph.classes[at] for at in np.flatnonzero(alone) if graph.classes[at] not in no_evidence)


def _find_classes(
    names: Sequence[ClassName], nouns: Nouns, target: Target, fallback_steps: int
) -> list[MappedClass]:
    """Classes among the synsets that something was counted for; what is not there, among the others."""
    if target.count_by_synset is None:
        return map_classes(names, nouns, target, steps=fallback_steps)
    rows = map_classes(names, nouns, target, steps=0)
    counted = frozenset(synset for synset, count in target.count_by_synset.items() if count)
    with_evidence = map_classes(names, nouns, replace(target, synsets=counted), steps=fallback_steps)
    return [found if found.vg_synset else row for found, row in zip(with_evidence, rows, strict=True)]


def _is_empty(graph: ClassGraph, group: tuple[int, ...]) -> bool:
    """Whether nothing was counted for any class of a group."""
    if graph.counts is None:
        return False
    if graph.counts[list(group)].any():
        return False
    return graph.kind == "attribute" or not graph.counts[:, list(group)].any()


def _positions(graph: ClassGraph, row: MappedClass) -> tuple[int, ...]:
    """Graph classes of a row: by synset; a graph class without one also by its name."""
    if row.vg_synset:
        return tuple(graph.synsets.index(synset) for synset in row.vg_synset)
    if row.name in graph.classes and not graph.synsets[graph.index_of(row.name)]:
        return (graph.index_of(row.name),)
    return ()


def _table(rows: Sequence[MappedClass]) -> tuple[ClassTable, list[str]]:
    """Names and synsets of the new classes; of several with one synset the surest has it, else the first."""
    owner: dict[str, MappedClass] = {}
    for row in rows:
        if row.synset and row.confidence > (owner[row.synset].confidence if row.synset in owner else -1):
            owner[row.synset] = row
    synsets, messages = [], []
    for row in rows:
        if row.synset and owner[row.synset] is not row:
            other = owner[row.synset].name
            messages.append(f"class {row.name!r}: goes without its synset {row.synset}, which is {other!r}'s")
            synsets.append("")
        else:
            synsets.append(row.synset)
    return ClassTable(tuple(row.name for row in rows), tuple(synsets)), messages


def _slice_counts(graph: ClassGraph, table: ClassTable, groups: Groups) -> ClassGraph:
    if graph.counts is None:
        raise InputError(
            "the graph has no counts; expected them to slice before normalising; give --order weights"
        )
    kind, recipe = graph.kind, graph.header["recipe"]
    counts = add_groups(graph.counts, groups, both_ends=kind != "attribute")
    return make_graph(
        classes=table.names,
        synsets=table.synsets,
        weight=weights_from_counts(kind, recipe["name"], counts),
        counts=counts,
        kind=kind,
        recipe=recipe,
        dataset=graph.header["dataset"],
        sources=graph.header["sources"],
        directed=is_directed(kind, recipe["name"]),
        normalization=normalization_of(kind, recipe["name"]),
        evidence=None if graph.evidence is None else project_evidence(graph.evidence, groups),
        distribution=attribute_distribution(counts) if kind == "attribute" else None,
    )


def _slice_weights(graph: ClassGraph, table: ClassTable, groups: Groups) -> ClassGraph:
    kind, recipe = graph.kind, graph.header["recipe"]
    if all(len(group) <= 1 for group in groups):
        weight: npt.NDArray[np.floating] = add_groups(graph.weight, groups, both_ends=True)
    elif graph.counts is None:
        raise InputError(
            "the graph has no counts; expected them to merge classes; give a table with one synset a class"
        )
    else:
        used = {position for group in groups for position in group}
        others = [(position,) for position in range(len(graph.classes)) if position not in used]
        counts = add_groups(graph.counts, [*groups, *others], both_ends=kind != "attribute")
        weight = weights_from_counts(kind, recipe["name"], counts)[: len(groups), : len(groups)]
    return make_graph(
        classes=table.names,
        synsets=table.synsets,
        weight=weight,
        counts=None,
        kind=kind,
        recipe={**recipe, "order": "normalise, then slice"},
        dataset=graph.header["dataset"],
        sources=graph.header["sources"],
        directed=graph.header["directed"],
        normalization=graph.header["normalization"],
    )


def add_groups(values: npt.NDArray[Number], groups: Groups, *, both_ends: bool) -> npt.NDArray[Number]:
    """Add up the rows of each group, and with `both_ends` then the columns of each group.

    Shapes: (C, X) to (len(groups), X), or (C, C) to (len(groups), len(groups)).

    Args:
        values: one row a class of the graph.
        groups: positions of the rows to add; an empty group gives zeros.
        both_ends: whether columns are classes, too.
    """
    added = np.zeros((len(groups), values.shape[1]), dtype=values.dtype)
    for row, group in enumerate(groups):
        added[row] = values[list(group)].sum(axis=0)
    return add_groups(added.T, groups, both_ends=False).T if both_ends else added


def project_evidence(evidence: Evidence, groups: Groups) -> Evidence:
    """Evidence of the new classes: rows whose classes are in groups, those that become equal added up.

    Terms and their totals, which are of the whole input, stay.
    """
    index, count = evidence.index, evidence.count
    columns = (0,) if index.shape[1] == 2 else (0, 2)
    for column in columns:
        rows, classes = _expanded(index[:, column], groups)
        index, count = index[rows], count[rows]
        index[:, column] = classes
    sizes = [len(groups), len(evidence.terms), len(groups)][: index.shape[1]]
    if not len(index):
        return Evidence(evidence.terms, evidence.totals, index, count)
    unique, position = np.unique(np.ravel_multi_index(tuple(index.T), sizes), return_inverse=True)
    total = np.zeros(len(unique), dtype=np.int64)
    np.add.at(total, position, count)
    added = np.stack(np.unravel_index(unique, sizes), axis=1).astype(np.int32)
    return Evidence(evidence.terms, evidence.totals, added, total)


def _expanded(
    classes: npt.NDArray[np.int32], groups: Groups
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """For each old class all groups it is in: which rows to take, and the new class of each."""
    pairs = sorted((old, new) for new, group in enumerate(groups) for old in group)
    old, new = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    start = np.searchsorted(old, classes, side="left")
    fan = np.searchsorted(old, classes, side="right") - start
    rows = np.repeat(np.arange(len(classes)), fan)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(fan) - fan, fan)
    return rows, new[start[rows] + within]
