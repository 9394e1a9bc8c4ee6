"""The strongest neighbours of each class."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.graph import ClassGraph


def top_neighbours(weight_CC: npt.NDArray[Any], top: int) -> list[npt.NDArray[np.intp]]:
    """For each class the other classes with its `top` largest weights, largest first, ties by position.

    Args:
        weight_CC: (C, C); weights of 0 are no edges, the diagonal is left out.
        top: at most so many a class.
    """
    found = []
    for at, row in enumerate(weight_CC):
        near = np.flatnonzero(row)
        near = near[near != at]
        if len(near) > top:  # only those that can be among the first, ties included
            least = np.partition(row[near], len(near) - top)[len(near) - top]
            near = near[row[near] >= least]
        found.append(near[np.argsort(-row[near], kind="stable")][:top])
    return found


def keep_top(graph: ClassGraph, top: int) -> npt.NDArray[np.float32]:
    """The weights of a graph without edges that are among the `top` strongest of neither end.

    Returns:
        (C, C) with the diagonal as it is; symmetric where the graph is.
    """
    kept_CC = np.eye(len(graph.classes), dtype=bool)
    for at, near in enumerate(top_neighbours(graph.weight, top)):
        kept_CC[at, near] = True
    if not graph.header["directed"]:
        kept_CC |= kept_CC.T
    return np.where(kept_CC, graph.weight, np.float32(0))
