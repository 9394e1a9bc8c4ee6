"""Masks as COCO writes them: polygons or run lengths, and NumPy arrays in between. pycocotools converts."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

#: A run-length encoded mask: size (height, width) and counts, a text.
RunLengths = dict[str, Any]

#: A polygon has three corners or more, two numbers each.
LEAST_NUMBERS = 6


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_DECODER = msgspec.json.Decoder(list[list[float]] | _Rle)


def to_run_lengths(segmentation: bytes, height: int, width: int) -> RunLengths | None:
    """Convert one `segmentation` of COCO JSON, as it stands in the file, to compressed run lengths.

    Polygons of fewer than three corners are left out.

    Args:
        segmentation: JSON text: a list of polygons (x, y, x, y, ... px), or run lengths, compressed or not.
        height: of the image, px.
        width: of the image, px.

    Returns:
        the mask; None when no polygon remains.

    Raises:
        ValueError: it is neither, or of another size; the message says what was found.
    """
    from pycocotools import mask as coco_mask

    try:
        found = _DECODER.decode(segmentation)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if isinstance(found, _Rle):
        if found.size != (height, width):
            raise ValueError(f"run lengths for {found.size}, expected {(height, width)}")
        plain = {"size": list(found.size), "counts": found.counts}
        runs = coco_mask.frPyObjects(plain, height, width) if isinstance(found.counts, list) else plain
    else:
        polygons = [polygon for polygon in found if len(polygon) >= LEAST_NUMBERS]
        if not polygons:
            return None
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return _with_text(runs)


def decode_mask(runs: RunLengths) -> np.ndarray:
    """Return the mask, (H, W) uint8 of 0 and 1."""
    from pycocotools import mask as coco_mask

    decoded: np.ndarray = coco_mask.decode({**runs, "counts": runs["counts"].encode("ascii")})
    return decoded


def encode_masks(masks_NHW: np.ndarray) -> list[RunLengths]:
    """Encode masks of true and false as run lengths."""
    from pycocotools import mask as coco_mask

    return [_with_text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))) for mask in masks_NHW]


def _with_text(runs: Mapping[str, Any]) -> RunLengths:
    """Counts as text, which JSON can hold."""
    counts = runs["counts"]
    size = [int(side) for side in runs["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
