"""The wall: a class graph enters the detector by class name, never by position.

Two conventions live in this file and nowhere else: how classes of a graph meet classes of the data, and that
background is class 0 (so class i of the data is label i + 1).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import ClassMatchError
from detector.positions import OPPOSITE, POSITIONS, PositionCounts
from kgtool.graph import ClassGraph, load_graph

#: Label of "no object" inside the detector. Graphs, COCO files and `num_classes` do not know it.
BACKGROUND = 0

#: Rows or columns of an array over K = C + 1 classes that are not background.
FOREGROUND = slice(BACKGROUND + 1, None)

#: How many missing or dropped classes a message names.
NAMED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class Knowledge:
    """A class graph in the order of the data's classes.

    Attributes:
        graph_CC: float32 edge weights, without background.
        graph_hash: identity of the graph in its file.
        messages: what was left out, for the log.
        counts_CC: float64 whole numbers, symmetric: how often two classes of the data were seen together, the
            diagonal as it was counted. None where the file has no counts, or has them of attributes.
        positions: the same by where the first class stood, from the evidence whose predicate is one of
            `POSITIONS`, in both directions. None where no predicate is.
    """

    graph_CC: Tensor
    graph_hash: str
    messages: tuple[str, ...] = ()
    counts_CC: Tensor | None = None
    positions: PositionCounts | None = None


def load_knowledge(graph_path: Path, class_names: Sequence[str], class_synsets: Sequence[str]) -> Knowledge:
    """Load a class graph and bring it into the order of the data's classes.

    Args:
        graph_path: class-graph file (docs/graph-format.md).
        class_names: C names, in the data's order.
        class_synsets: C synsets, `""` where unknown.

    Returns:
        the graph, and a message about graph classes that the data does not have.

    Raises:
        ClassMatchError: the graph lacks a class of the data (see `match_classes`).
        KgtoolError: the file is missing or is not a class graph.
    """
    graph = load_graph(graph_path)
    order = match_classes(
        class_names, class_synsets, graph.classes, graph.synsets, graph_name=str(graph_path)
    )
    weight = np.ascontiguousarray(graph.weight[np.ix_(order, order)], dtype=np.float32)
    kept = set(order)
    dropped = [name for position, name in enumerate(graph.classes) if position not in kept]
    messages = (_dropped_message(graph_path, dropped),) if dropped else ()
    counts_CC = None
    if graph.counts is not None and graph.kind != "attribute":
        counts_CC = torch.from_numpy(_pair_counts(graph.counts)[np.ix_(order, order)])
    positions = _position_counts(graph, order)
    return Knowledge(torch.from_numpy(weight), graph.graph_hash, messages, counts_CC, positions)


def match_classes(
    names: Sequence[str],
    synsets: Sequence[str],
    graph_names: Sequence[str],
    graph_synsets: Sequence[str],
    *,
    graph_name: str = "graph",
) -> list[int]:
    """Find every class of the data in a graph.

    A class of the data and a class of the graph are the same when their synsets are; where one of them has no
    synset, when their names are. A class named as a synset (`dog.n.01`) has that synset.

    Args:
        names: class names of the data, C.
        synsets: their synsets, `""` where unknown.
        graph_names: unique class names of the graph.
        graph_synsets: their synsets, `""` where unknown.
        graph_name: what to call the graph in a message.

    Returns:
        for each class of the data its position in the graph; no position twice.

    Raises:
        ClassMatchError: a class is not in the graph, or two classes are one there. The message names up to
            five and what is near them.
    """
    wanted = [_synset_of(*pair) for pair in zip(names, synsets, strict=True)]
    known = [_synset_of(*pair) for pair in zip(graph_names, graph_synsets, strict=True)]
    position_by_synset = {synset: position for position, synset in enumerate(known) if synset}
    position_by_name = {name: position for position, name in enumerate(graph_names)}
    order: list[int] = []
    missing: list[str] = []
    for name, synset in zip(names, wanted, strict=True):
        by_name = position_by_name.get(name)
        if synset in position_by_synset:
            order.append(position_by_synset[synset])
        elif by_name is not None and not (synset and known[by_name]):
            order.append(by_name)
        elif by_name is not None:
            missing.append(f'"{name}" ({synset}; the graph\'s "{name}" is {known[by_name]})')
        else:
            missing.append(_with_near_names(name, graph_names))
    if missing:
        raise ClassMatchError(
            f"{graph_name}: found {len(order)} of the data's {len(names)} classes, not {_first(missing)}; "
            "expected all of them; build the graph with --classes set to the data's own train.json"
        )
    _check_no_position_twice(order, names, graph_names, graph_name)
    return order


def with_background(graph_CC: Tensor, fill: float = 0.0) -> Tensor:
    """Add background to a class graph as its first row and column.

    Args:
        graph_CC: edge weights between classes.
        fill: weight of every edge from and to background, itself included. 0, as in the released graphs of
            Reasoning-RCNN, lets background neither send nor receive.

    Returns:
        graph_KK, K = C + 1.
    """
    num_classes = len(graph_CC)
    graph_KK = graph_CC.new_full((num_classes + 1, num_classes + 1), fill)
    graph_KK[FOREGROUND, FOREGROUND] = graph_CC
    return graph_KK


def lift_of(counts_CC: Tensor, smoothing: float) -> Tensor:
    """Return L: how much more often two classes are together than if they were independent.

    Args:
        counts_CC: R, symmetric, 0 or more, diagonal kept.
        smoothing: k, pairs that every two classes get as seen and as expected; above 0.

    Returns:
        lift_CC, float64, symmetric, above 0; 1 where nothing is known.
    """
    counts_CC = counts_CC.to(torch.float64)
    total_C = counts_CC.sum(dim=1)
    expected_CC = torch.outer(total_C, total_C) / total_C.sum().clamp(min=1)
    return (counts_CC + smoothing) / (expected_CC + smoothing)


def _pair_counts(counts_CC: np.ndarray) -> np.ndarray:
    """Add both directions of relations; counts that are symmetric have both already."""
    both_CC = counts_CC if (counts_CC == counts_CC.T).all() else counts_CC + counts_CC.T
    return both_CC.astype(np.float64)


def _position_counts(graph: ClassGraph, order: Sequence[int]) -> PositionCounts | None:
    """Gather the evidence whose predicate is a position, both ways; what has both already is not doubled."""
    evidence = graph.evidence
    if evidence is None or evidence.index.shape[1] != 3:
        return None
    number = {name: position for position, name in enumerate(POSITIONS)}
    position_T = np.array([number.get(term, -1) for term in evidence.terms], dtype=np.int64)
    place = np.full(len(graph.classes), -1, dtype=np.int64)
    place[list(order)] = np.arange(len(order))
    subject, term, other = evidence.index.T
    rows_3N = np.stack([position_T[term], place[subject], place[other]])
    kept = (rows_3N >= 0).all(axis=0)
    if not kept.any():
        return None
    rows_3N, count_N = rows_3N[:, kept], evidence.count[kept].astype(np.float64)
    mirrored_3N = np.stack([np.array([number[name] for name in OPPOSITE])[rows_3N[0]], *rows_3N[:0:-1]])
    index, counts = [], []
    for position in range(len(POSITIONS)):
        own, back = rows_3N[0] == position, mirrored_3N[0] == position
        index.append(rows_3N[:, own])
        counts.append(count_N[own])
        if not _same_rows((rows_3N[:, own], count_N[own]), (mirrored_3N[:, back], count_N[back])):
            index.append(mirrored_3N[:, back])
            counts.append(count_N[back])
    count_N = np.concatenate(counts)
    return PositionCounts(len(order), torch.from_numpy(np.hstack(index)), torch.from_numpy(count_N))


def _same_rows(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> bool:
    """Say whether two lists of index columns and their counts are the same in some order."""
    first, second = (np.vstack(pair)[:, np.lexsort(pair[0])] for pair in (one, two))
    return np.array_equal(first, second)


def _synset_of(name: str, synset: str) -> str:
    if synset:
        return synset
    return name if re.fullmatch(r".+\.[nvars]\.\d+", name) else ""


def _with_near_names(name: str, graph_names: Sequence[str]) -> str:
    near = get_close_matches(name, graph_names, n=2)
    return f'"{name}"' + (f" (near: {', '.join(near)})" if near else "")


def _first(items: Sequence[str]) -> str:
    more = len(items) - NAMED_AT_MOST
    return ", ".join(items[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _check_no_position_twice(
    order: Sequence[int], names: Sequence[str], graph_names: Sequence[str], graph_name: str
) -> None:
    name_by_position: dict[int, str] = {}
    for name, position in zip(names, order, strict=True):
        if position in name_by_position:
            raise ClassMatchError(
                f'{graph_name}: found one class, "{graph_names[position]}", for two classes of the data, '
                f'"{name_by_position[position]}" and "{name}"; expected one each; correct the data\'s synsets'
            )
        name_by_position[position] = name


def _dropped_message(graph_path: Path, dropped: Sequence[str]) -> str:
    return f"{graph_path}: {len(dropped)} classes that the data does not have are left out: {_first(dropped)}"
