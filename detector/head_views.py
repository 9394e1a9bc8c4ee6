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

    def class_graphs(self) -> Tensor:
        """Return a view of the edges' weights without background, (G, C, C): what is written there counts."""

    def forget(self) -> None:
        """Drop what was kept of earlier evaluation steps, after an edge has been changed."""


@runtime_checkable
class ClassHead(ClassEdges, Protocol):
    """A head that reasons over class graphs."""

    graphs: Tensor  #: buffer, (G, C, C), or (G, K, K) with background first

    def class_attention(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return the weight of each class in each image, (B, C)."""


@runtime_checkable
class SpeakingUpdate(ClassEdges, Protocol):
    """A score update in which regions tell each other their classes; an edge is L - 1, with L the lift."""

    def heard(self, probability_RK: Tensor, regions: Regions) -> Tensor:
        """Return how much region i hears of what region j says, (R, R)."""

    def told(self, probability_RK: Tensor, about: int, through: int) -> Tensor:
        """Return what one pair of classes adds to what each region says about a class, (R,), in log-odds.

        Args:
            probability_RK: of each region, before the update.
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
    edges_CC = owner.class_graphs()[graph]
    kept = edges_CC[first, second].clone(), edges_CC[second, first].clone()
    with torch.no_grad():
        edges_CC[first, second] = edges_CC[second, first] = 0
    owner.forget()
    try:
        yield
    finally:
        with torch.no_grad():
            edges_CC[first, second], edges_CC[second, first] = kept
        owner.forget()
