"""A few images for each of many keys: those with the smallest ids, whatever the order they come in.

The key of an edge between two classes is that of the pair, smaller position first; in an attribute graph, an
edge has no annotations of its own, and a key is that of a class and one of the selected attributes.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Positions = TypeVar("Positions", int, npt.NDArray[np.int64])

#: Images of each key.
MOST = 3

#: Rows that may wait before they are sorted in.
_WAITING_ROWS = 1 << 20


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """Up to `MOST` images of each key.

    Attributes:
        key_N: (N,) ascending; see `pair_key`.
        image_N: (N,) image ids, ascending for each key.
    """

    key_N: Ids
    image_N: Ids

    def of(self, key: int) -> list[int]:
        """The images of a key, ascending; none where it has none."""
        first, last = np.searchsorted(self.key_N, [key, key + 1])
        found: list[int] = self.image_N[first:last].tolist()
        return found


class ExampleCollector:
    """Collects images by key, `MOST` of each."""

    def __init__(self) -> None:
        self._rows: list[tuple[Ids, Ids]] = []
        self._waiting = 0
        self._kept = 0

    def add(self, key_N: Ids, image_N: Ids) -> None:
        """Add rows: of which key (N,), in which image (N,)."""
        self._rows.append((key_N, image_N))
        self._waiting += len(key_N)
        if self._waiting > max(_WAITING_ROWS, self._kept):
            self.examples()

    def examples(self) -> ImageExamples:
        """What was collected so far."""
        empty = np.empty(0, dtype=np.int64)
        key = np.concatenate([empty, *(keys for keys, _ in self._rows)])
        image = np.concatenate([empty, *(images for _, images in self._rows)])
        order = np.lexsort((image, key))
        key, image = key[order], image[order]
        fresh = np.ones(len(key), dtype=bool)
        fresh[1:] = (key[1:] != key[:-1]) | (image[1:] != image[:-1])
        key, image = key[fresh], image[fresh]
        first = np.searchsorted(key, key, side="left")
        kept = np.arange(len(key)) - first < MOST
        key, image = key[kept], image[kept]
        self._rows, self._waiting, self._kept = [(key, image)], 0, len(key)
        return ImageExamples(key, image)


def pair_key(first: Positions, second: Positions, size: int) -> Positions:
    """One number for each pair of positions; the second is below `size`."""
    return first * size + second


def unordered(first_N: Ids, second_N: Ids) -> tuple[Ids, Ids]:
    """The smaller and the larger of each pair."""
    return np.minimum(first_N, second_N), np.maximum(first_N, second_N)
