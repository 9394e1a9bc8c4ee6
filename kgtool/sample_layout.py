"""Where the objects of a sample picture stand, and how they are related.

Sizes are log-uniform, with an aspect of exp(U(-0.15, 0.15)); a box overlaps no other by more than 30 % of
the smaller of the two. Each object has a relation to its two nearest, under a predicate that means nothing:
one of ten, all equally likely.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kgtool.sample_images import IMAGE_SIZE

ASPECT_LIMIT = 0.15
OVERLAP_LIMIT = 0.3
NUM_NEAREST = 2
#: Predicates with the synsets that Visual Genome gives them; `with` has none there.
PREDICATES = {
    "ON": ("along.r.01",),
    "IN": ("in.r.01",),
    "next to": ("next.r.01",),
    "near": ("about.r.07",),
    "under": ("under.r.01",),
    "behind": ("behind.r.01",),
    "in front of": ("in.r.01",),
    "by": ("by.r.01",),
    "below": ("below.r.01",),
    "with": (),
}


def candidate_boxes(
    sizes: tuple[int, int], rng: np.random.Generator, num_places: int = 50
) -> Iterator[tuple[int, int, int, int]]:
    """Yield places for one object, xyxy; after `num_places` that do not fit it gets another size."""
    while True:
        size = sizes[0] * (sizes[1] / sizes[0]) ** rng.random()
        stretch = np.exp(ASPECT_LIMIT * (rng.random() - 0.5))
        width, height = round(size * stretch), round(size / stretch)
        for across, down in rng.random((num_places, 2)).tolist():
            left, top = int(across * (IMAGE_SIZE - width + 1)), int(down * (IMAGE_SIZE - height + 1))
            yield left, top, left + width, top + height


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Common area of two boxes as a share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / smaller


def place_boxes(num_objects: int, sizes: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Place objects one after the other at random, each where it overlaps the others little enough.

    Args:
        num_objects: how many; a picture has room for the ten or so that a world asks for.
        sizes: smallest and largest size, pixels: the square root of width times height.
        rng: the picture's own generator.

    Returns:
        (num_objects, 4) xyxy, whole pixels inside the picture.
    """
    placed: list[tuple[int, int, int, int]] = []
    for _ in range(num_objects):
        placed.append(
            next(
                box
                for box in candidate_boxes(sizes, rng)
                if all(overlap(box, other) <= OVERLAP_LIMIT for other in placed)
            )
        )
    return np.array(placed, dtype=np.int64)


def relate(boxes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Relate each object to those whose centres are nearest.

    Args:
        boxes: (N, 4) xyxy, at least three.
        rng: the picture's own generator; it draws the predicates.

    Returns:
        (NUM_NEAREST * N, 3) rows of subject, predicate, object, in the order of the subjects.
    """
    others = nearest(boxes)
    predicate = (rng.random(others.size) * len(PREDICATES)).astype(np.int64)
    return np.column_stack([np.repeat(np.arange(len(boxes)), NUM_NEAREST), predicate, others.ravel()])


def nearest(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (N, NUM_NEAREST): for each of N boxes, at least three, those whose centres are nearest."""
    centre = boxes[:, :2] + boxes[:, 2:]
    gap = ((centre[:, None] - centre[None]) ** 2).sum(axis=2)
    np.fill_diagonal(gap, np.iinfo(np.int64).max)
    return np.argsort(gap, axis=1, kind="stable")[:, :NUM_NEAREST]
