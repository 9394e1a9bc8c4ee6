"""Rare, common and frequent classes, as LVIS groups them (Gupta et al., "LVIS", 2019, section 3)."""

from collections.abc import Iterable
from typing import Any

#: By the number of images to train on: rare, common, frequent.
FREQUENCIES = ("r", "c", "f")

#: The most images of a rare class, and of a common one.
RARE_IMAGES, COMMON_IMAGES = 10, 100


def frequencies_of(image_counts: Iterable[int]) -> tuple[str, ...]:
    """Return the group of each class, from its number of images to train on."""
    return tuple(FREQUENCIES[(count > RARE_IMAGES) + (count > COMMON_IMAGES)] for count in image_counts)


def stated_frequency(frequency: Any, image_count: Any) -> str:
    """Return the group that a category of a COCO JSON states, by itself or by its number of images.

    Args:
        frequency: LVIS's "r", "c" or "f"; anything else says nothing.
        image_count: number of images to train on; anything else says nothing.

    Returns:
        "" where it states neither.
    """
    if frequency in FREQUENCIES:
        return str(frequency)
    return frequencies_of([image_count])[0] if type(image_count) is int else ""
