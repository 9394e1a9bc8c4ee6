"""What heads show of themselves: where an image's attention lies, who looks at whom, and what they add.

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


@runtime_checkable
class ClassHead(Protocol):
    """A head that reasons over class graphs."""

    graphs: Tensor  #: buffer, (G, C, C), or (G, K, K) with background first

    def class_graphs(self) -> Tensor:
        """Return a view of the graphs without background, (G, C, C): what is written there counts."""

    def class_attention(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return the weight of each class in each image, (B, C)."""

    def forget(self) -> None:
        """Drop what was kept of earlier evaluation steps, after `graphs` has been changed."""


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
def without_edge(head: ClassHead, graph: int, first: int, second: int) -> Iterator[None]:
    """Take an edge between two classes out of one of a head's graphs, in both directions, for the block."""
    edges_CC = head.class_graphs()[graph]
    kept = edges_CC[first, second].clone(), edges_CC[second, first].clone()
    with torch.no_grad():
        edges_CC[first, second] = edges_CC[second, first] = 0
    head.forget()
    try:
        yield
    finally:
        with torch.no_grad():
            edges_CC[first, second], edges_CC[second, first] = kept
        head.forget()
