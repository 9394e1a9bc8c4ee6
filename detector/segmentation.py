"""Masks as COCO writes them, polygons or run lengths, and NumPy arrays in between."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

#: A run-length encoded mask: size (height, width) and counts, COCO's compressed text.
RunLengths = dict[str, Any]

#: A polygon has three corners or more, two numbers each.
LEAST_NUMBERS = 6


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_DECODER = msgspec.json.Decoder(list[list[float]] | _Rle)


def has_mask(segmentation: bytes, height: int, width: int) -> bool:
    """Check one `segmentation` of COCO JSON, as it stands in the file; false when no whole polygon is in it.

    Args:
        segmentation: JSON text: a list of polygons (x, y, x, y, ... px), or run lengths, compressed or not.
        height: of the image, px.
        width: of the image, px.

    Raises:
        ValueError: it is neither, or of another size; the message says what was found.
    """
    return bool(_parse(segmentation, height, width))


def to_run_lengths(segmentation: bytes, height: int, width: int) -> RunLengths | None:
    """Convert one `segmentation` of COCO JSON, as it stands in the file, to compressed run lengths.

    Polygons of fewer than three corners are left out.

    Args:
        segmentation: see `has_mask`.
        height: of the image, px.
        width: of the image, px.

    Returns:
        the mask; None when no polygon remains.

    Raises:
        ValueError: see `has_mask`.
    """
    from pycocotools import mask as coco_mask

    found = _parse(segmentation, height, width)
    if not found:
        return None
    if isinstance(found, _Rle):
        plain = {"size": found.size, "counts": found.counts}
        return _with_text(coco_mask.frPyObjects(plain, height, width))
    return _with_text(coco_mask.merge(coco_mask.frPyObjects(found, height, width)))


def decode_mask(runs: RunLengths) -> np.ndarray:
    """Return the mask, (H, W) uint8 of 0 and 1; run lengths go down the columns and begin with zeros."""
    height, width = runs["size"]
    counts = _decompress(runs["counts"])
    values = (np.arange(len(counts)) % 2).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def encode_masks(masks_NHW: np.ndarray) -> list[RunLengths]:
    """Encode masks of true and false as run lengths."""
    from pycocotools import mask as coco_mask

    return [_with_text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))) for mask in masks_NHW]


def _parse(segmentation: bytes, height: int, width: int) -> list[list[float]] | _Rle:
    """Read and check; what comes back is whole polygons, or run lengths as numbers."""
    try:
        found = _DECODER.decode(segmentation)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if isinstance(found, _Rle):
        return _checked_rle(found, height, width)
    far = 2 * max(height, width)
    for polygon in found:
        if len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers, expected pairs")
        if polygon and max(max(polygon), -min(polygon)) > far:
            raise ValueError(f"a polygon with a corner more than {far} px away")
    return [polygon for polygon in found if len(polygon) >= LEAST_NUMBERS]


def _checked_rle(rle: _Rle, height: int, width: int) -> _Rle:
    if rle.size != (height, width):
        raise ValueError(f"run lengths for {rle.size}, expected {(height, width)}")
    counts = _decompress(rle.counts) if isinstance(rle.counts, str) else rle.counts
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels, expected {height * width}")
    return _Rle(rle.size, counts)


def _with_text(runs: Mapping[str, Any]) -> RunLengths:
    """Counts as text, which JSON can hold."""
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def _decompress(text: str) -> list[int]:
    """Run lengths of COCO's text: 5 bits a letter, low ones first; from the fourth on, changes by two runs.

    Ours because pycocotools does not check: it reads on past the end of a text that is cut off.
    """
    counts: list[int] = []
    place = value = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"run lengths with the letter {letter!r}")
        value |= (bits & 31) << (5 * place)
        place += 1
        if not bits & 32:
            if bits & 16:
                value -= 1 << (5 * place)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            place = value = 0
    if place:
        raise ValueError("run lengths that end in the middle of a number")
    return counts
