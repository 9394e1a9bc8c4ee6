"""What heads and score updates show of themselves: attention, who looks at or hears whom, what they add.

A head that weighs classes or regions has one of these methods beside its forward. The heads that add nothing
of the kind have none.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from detector.interfaces import Regions
from detector.stage import Stage


class ClassEdges(Protocol):
    """What has edges between classes that can be taken out."""

    def edge_matrices(self, graph: int) -> list[Tensor]:
        """Return views of the weights of one graph's edges without background, (C, C) each.

        An edge has a place in every one of them. What is written there counts; 0 is no edge.
        """

    def forget(self) -> None:
        """Drop what was kept of earlier evaluation steps, after an edge has been changed."""


@runtime_checkable
class ClassHead(ClassEdges, Protocol):
    """A head that reasons over class graphs."""

    graphs: Tensor  #: buffer, (G, C, C), or (G, K, K) with background first

    def class_graphs(self) -> Tensor:
        """Return a view of the graphs without background, (G, C, C)."""

    def class_attention(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return the weight of each class in each image, (B, C)."""


@runtime_checkable
class SpeakingUpdate(ClassEdges, Protocol):
    """A score update in which regions tell each other their classes.

    It has one graph, 0. A weight is L - 1, with L the lift of the two classes: first anywhere, then, where it
    has such, by position.
    """

    def heard(self, probability_RK: Tensor, regions: Regions, rows_D: Tensor) -> tuple[Tensor, Tensor]:
        """Say how regions hear the others.

        Args:
            probability_RK: of each region, before the update.
            regions: that the update gets.
            rows_D: the regions that hear.

        Returns:
            heard_DR, how much of what each region says; and matrix_DR, int64, by which of the matrices.
        """

    def told(self, probability_RK: Tensor, matrix_DR: Tensor, about: int, through: int) -> Tensor:
        """Return what a pair of classes adds to what each region says about one of them, (D, R), log-odds.

        Args:
            probability_RK: as there.
            matrix_DR: of `heard`.
            about: the class, 0..C-1.
            through: the other of the pair, 0..C-1, which a region says it may be.
        """


@runtime_checkable
class RegionHead(Protocol):
    """A head whose regions look at each other."""

    def region_weights(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return how much region i looks at region j, (R, R); rows sum to 1, other images have 0."""


@runtime_checkable
class EnrichingHead(Protocol):
    """A head that adds to what it sees of a region alone."""

    def feature_parts(self, pooled_RCPP: Tensor, regions: Regions) -> dict[str, Tensor]:
        """Return features by name: first those before anything is added, then what is added, or the result.

        Parts as wide together as the head's own features are the two halves of these.
        """


def find_class_head(stages: Iterable[Stage]) -> ClassHead | None:
    """Return the first head that reasons over class graphs."""
    return next((stage.head for stage in stages if isinstance(stage.head, ClassHead)), None)


@contextmanager
def without_edge(owner: ClassEdges, graph: int, first: int, second: int) -> Iterator[None]:
    """Take an edge between two classes out of a graph, in both directions, for the block."""
    matrices = owner.edge_matrices(graph)
    kept = [(edges_CC[first, second].clone(), edges_CC[second, first].clone()) for edges_CC in matrices]
    with torch.no_grad():
        for edges_CC in matrices:
            edges_CC[first, second] = edges_CC[second, first] = 0
    owner.forget()
    try:
        yield
    finally:
        with torch.no_grad():
            for edges_CC, pair in zip(matrices, kept, strict=True):
                edges_CC[first, second], edges_CC[second, first] = pair
        owner.forget()
