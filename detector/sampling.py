"""Which images make up each step of an epoch: a function of seed and epoch alone.

Nothing is remembered between epochs, so a run that is resumed in the middle of one, or is spread over several
processes, sees the images that it would have seen otherwise.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from detector.annotations import Annotations

Sampling = Literal["uniform", "repeat_factor", "class_balanced"]


def repeat_factors(annotations: Annotations, images: np.ndarray, threshold: float) -> np.ndarray:
    """How often each image comes in an epoch, (I,) float64 of 1 or more (Gupta et al., "LVIS", 2019, 3.3).

    A class in a share f of the images has max(1, sqrt(threshold / f)); an image has the largest of its
    classes' factors.

    Args:
        annotations: the split.
        images: positions of the images that are trained on.
        threshold: share of images below which a class is repeated.
    """
    image_M, class_M = _image_classes(annotations, images)
    share_C = np.bincount(class_M, minlength=annotations.num_classes) / max(len(images), 1)
    factor_C = np.sqrt(threshold / np.maximum(share_C, np.finfo(np.float64).tiny))
    factor_I = np.ones(len(images))
    np.maximum.at(factor_I, image_M, factor_C[class_M])
    return factor_I


def epoch_length(annotations: Annotations, images: np.ndarray, sampling: Sampling, threshold: float) -> int:
    """How many images an epoch shows, repeated ones counted as often as they come."""
    if sampling == "repeat_factor":
        return round(float(repeat_factors(annotations, images, threshold).sum()))
    return len(images)


def epoch_order(
    annotations: Annotations,
    images: np.ndarray,
    sampling: Sampling,
    threshold: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the order of an epoch: positions in `images`, `epoch_length` of them.

    "uniform" is every image once. "repeat_factor" shows an image as often as its factor says, the fraction
    left to chance. "class_balanced" draws a class, then one of its images, each with the same chance.
    """
    if sampling == "class_balanced":
        image_M, class_M = _image_classes(annotations, images)
        size_C = np.bincount(class_M, minlength=annotations.num_classes)
        first_C = np.cumsum(size_C) - size_C
        by_class_M = image_M[np.argsort(class_M, kind="stable")]
        drawn = rng.choice(np.flatnonzero(size_C), size=len(images))
        chosen: np.ndarray = by_class_M[first_C[drawn] + rng.integers(0, size_C[drawn])]
        return chosen
    order = rng.permutation(len(images))
    if sampling == "repeat_factor":
        # Systematic sampling: the counts have the factors as expectation, and a sum that does not vary.
        factor_I = repeat_factors(annotations, images, threshold)[order]
        total = round(float(factor_I.sum()))
        ends = np.floor(np.cumsum(factor_I) * (total / factor_I.sum()) + rng.random() * (1 - 1e-9) + 1e-9)
        ends[-1] = total
        counts = np.diff(np.minimum(ends, total), prepend=0).astype(np.int64)
        order = rng.permutation(np.repeat(order, counts))
    return order


def batches_of(order: np.ndarray, batch_size: int, wide_I: np.ndarray | None = None) -> list[np.ndarray]:
    """Cut an order into batches; the last may be smaller.

    Args:
        order: positions.
        batch_size: images in a batch.
        wide_I: by position whether an image is wider than high; then images of one shape go together, which
            saves padding, as far as that goes without more batches.
    """
    if wide_I is None:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    whole: list[tuple[int, np.ndarray]] = []
    left = []
    for wide in (False, True):
        places = np.flatnonzero(wide_I[order] == wide)
        end = len(places) - len(places) % batch_size
        whole += [(int(part[0]), order[part]) for part in batches_of(places[:end], batch_size)]
        left.append(places[end:])
    rest = np.concatenate(left)
    whole += [(int(part[0]), order[part]) for part in batches_of(rest, batch_size)]
    return [batch for _, batch in sorted(whole, key=lambda pair: (len(pair[1]) < batch_size, pair[0]))]


def parts_of(batch: np.ndarray, rank: int, processes: int, accumulate: int) -> Sequence[np.ndarray]:
    """What one process sees of a batch, in `accumulate` parts (fewer where there are fewer images).

    Every process gets equally many images: where they do not come out even, the first ones come again.
    """
    share = np.resize(batch, math.ceil(len(batch) / processes) * processes)[rank::processes]
    return np.array_split(share, min(accumulate, len(share)))


def _image_classes(annotations: Annotations, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of an image (its place in `images`) and a class that it shows, once: two (M,) arrays."""
    place_I = np.full(annotations.num_images, -1, dtype=np.int64)
    place_I[images] = np.arange(len(images))
    image_N = place_I[np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))]
    shown = annotations.usable_N & (image_N >= 0)
    pairs = np.unique(image_N[shown] * annotations.num_classes + annotations.class_N[shown])
    return pairs // annotations.num_classes, pairs % annotations.num_classes
