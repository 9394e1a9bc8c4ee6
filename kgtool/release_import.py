"""A published, pickled matrix made into a class graph, with what can be told of how it came about."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kgtool.class_names import ClassName
from kgtool.class_order import OrderTest, likely_senses, order_test, wordnet_closeness
from kgtool.classes import is_background
from kgtool.errors import ClassMatchError, InputError
from kgtool.graph import ClassGraph, make_graph
from kgtool.release_counts import RecoveredCounts, recover_counts
from kgtool.release_pickle import Matrix, read_release_pickle
from kgtool.wordnet import Nouns


@dataclass(frozen=True, eq=False)
class ReleaseImport:
    """An imported matrix.

    Attributes:
        graph: with the class names it was given, without background; with counts where they were recovered
            and give the weights again.
        had_background: whether the file had a background row and column in front.
        recovered: the counts behind a relation matrix; None for attributes, or where none fit.
        order: whether classes near in WordNet are related more; None where that cannot be tested.
    """

    graph: ClassGraph
    had_background: bool
    recovered: RecoveredCounts | None
    order: OrderTest | None


def import_release(
    path: Path, names: Sequence[ClassName], nouns: Nouns, *, kind: Literal["relation", "attribute"]
) -> ReleaseImport:
    """Read a pickled matrix as a graph over a class list.

    The file has no names: that its rows are in the order of the list is only a claim, which `order` tests.

    Args:
        path: the pickle; nothing in it is run.
        names: C classes in the order the rows are said to have; a background class is left out.
        nouns: WordNet, for the order; a class without a synset counts as the first sense of its name.
        kind: what the edges mean; counts are looked for behind relations.

    Raises:
        InputError: no pickle of a matrix, or its values cannot be weights.
        ClassMatchError: the matrix has neither C nor C + 1 rows and columns.
    """
    names = [name for name in names if not is_background(name.name)]
    matrix = read_release_pickle(path)
    foreground, had_background = _without_background(path, matrix, len(names))
    directed = not np.array_equal(foreground.astype(np.float32), foreground.astype(np.float32).T)
    recovered = None
    if kind == "relation" and not directed:
        recovered = recover_counts(foreground)
    counts = np.triu(recovered.counts) if recovered is not None and recovered.sliced_first else None
    recipe: dict[str, Any] = {"name": "release" if recovered or kind == "attribute" else "imported"}
    if recovered is not None and not recovered.sliced_first:
        recipe["order"] = "normalise, then slice"
    graph = make_graph(
        classes=[name.name for name in names],
        synsets=_unique([name.synset for name in names]),
        weight=foreground,
        counts=counts,
        kind=kind,
        recipe=recipe,
        dataset=f"imported from {path.name}",
        sources=[{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
        directed=directed,
        normalization="as published",
    )
    senses = likely_senses([name.name for name in names], [name.synset for name in names], nouns)
    order = order_test(foreground, wordnet_closeness(senses, nouns))
    return ReleaseImport(graph, had_background, recovered, order)


def _without_background(path: Path, matrix: Matrix, num_classes: int) -> tuple[Matrix, bool]:
    rows, columns = matrix.shape
    if rows != columns or rows not in (num_classes, num_classes + 1):
        raise ClassMatchError(
            f"{path}: found {rows} rows and {columns} columns; expected {num_classes}, the number of "
            f"classes, or {num_classes + 1} with background; give the class list that the matrix was made for"
        )
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix > np.finfo(np.float32).max).any():
        raise InputError(
            f"{path}: found values that are negative, not finite or beyond float32; expected weights"
        )
    lost = int(((matrix > 0) & (matrix.astype(np.float32) == 0)).sum())
    if lost:
        raise InputError(
            f"{path}: found {lost} weights above 0 that are 0 as float32, so that their edges would be lost; "
            "expected weights; multiply the matrix"
        )
    if rows == num_classes:
        return matrix, False
    if matrix[0, 1:].any() or matrix[1:, 0].any():
        raise InputError(
            f"{path}: found weights in row or column 0; expected zeros there, as background has no edges; "
            "the class list may lack a class"
        )
    return matrix[1:, 1:], True


def _unique(synsets: Sequence[str]) -> list[str]:
    """Each synset where it stands first; a later class with the same goes without."""
    return [synset if synset not in synsets[:at] else "" for at, synset in enumerate(synsets)]
