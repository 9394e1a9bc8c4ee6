"""Masks of annotations, looked at as text: polygons, and run lengths."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from kgtool.column_buffer import ColumnBuffer
from kgtool.json_errors import UNREADABLE, explain
from kgtool.validation.findings import Findings
from kgtool.validation.table import NO_MASK, Table


class _RunLengths(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


_EMPTY = {b"", b"[]", b"{}", b"null"}
_Mask = list[list[float]] | _RunLengths | None


class MaskCheck:
    """Looks at the segmentation of each annotation; an empty one is as good as none.

    Args:
        findings: told of what is malformed.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._sizes = ColumnBuffer(row=np.int64, height=np.int64, width=np.int64)
        self._has_mask = ColumnBuffer(row=np.int64)

    def add(self, start: int, masks: Sequence[msgspec.Raw]) -> None:
        """Look at a batch, the segmentations of annotations `start` and following, as text."""
        there = [(row, mask) for row, mask in enumerate(masks, start) if mask is not NO_MASK]
        rows = [row for row, mask in there if bytes(mask) not in _EMPTY]
        if not rows:
            return
        texts = [masks[row - start] for row in rows]
        try:
            decoded: list[Any] = msgspec.json.decode(b"[" + b",".join(texts) + b"]", type=list[_Mask])
        except UNREADABLE:
            decoded = [self._decode(row, text) for row, text in zip(rows, texts, strict=True)]
        sizes = []
        for row, mask in zip(rows, decoded, strict=True):
            if isinstance(mask, _RunLengths):
                sizes.append((row, *mask.size))
                self._check_runs(row, mask)
            elif mask:
                self._check_polygons(row, mask)
        for name, column in zip(
            ("row", "height", "width"), np.array(sizes, dtype=np.int64).reshape(-1, 3).T, strict=True
        ):
            self._sizes.append(name, column)
        self._has_mask.append("row", np.array(rows, dtype=np.int64))

    def _decode(self, row: int, text: msgspec.Raw) -> Any:
        try:
            return msgspec.json.decode(text, type=_Mask)
        except UNREADABLE as error:
            place, reason = explain(error, bytes(text))
            inner = f".{place}" if place and not place.startswith("[") else place
            self._tell(row, f"{reason}", inner)
            return None

    def _check_polygons(self, row: int, polygons: list[list[float]]) -> None:
        for number, polygon in enumerate(polygons):
            if len(polygon) % 2 or len(polygon) < 6:
                self._tell(row, f"found a polygon of {len(polygon)} numbers", f"[{number}]")
                return

    def _check_runs(self, row: int, mask: _RunLengths) -> None:
        height, width = mask.size
        if isinstance(mask.counts, list) and (sum(mask.counts) != height * width or min(mask.counts) < 0):
            self._tell(
                row, f"found runs of {sum(mask.counts)} pixels in all for a mask of {height} x {width}"
            )
        elif not mask.counts:
            self._tell(row, "found no run lengths")

    def _tell(self, row: int, found: str, inner: str = "") -> None:
        self._findings.add("malformed segmentation", f"annotations[{row}].segmentation{inner}: {found}")

    def rows_with_mask(self) -> np.ndarray:
        """The annotations that have a mask, well-formed or not."""
        return self._has_mask.column("row")

    def check_sizes(self, annotations: Table, height_N: np.ndarray, width_N: np.ndarray) -> None:
        """Compare the sizes that run lengths have with those of the images.

        Args:
            annotations: for the places.
            height_N: of each annotation's image; 0 where not known.
            width_N: as height.
        """
        rows, heights, widths = (self._sizes.column(name) for name in ("row", "height", "width"))
        wrong = np.flatnonzero(
            (height_N[rows] > 0) & ((heights != height_N[rows]) | (widths != width_N[rows]))
        )
        size_by_row = {int(rows[at]): (int(heights[at]), int(widths[at])) for at in wrong}

        def describe(row: int) -> str:
            height, width = size_by_row[row]
            return (
                f"{annotations.place(row)}: found a mask of height {height}, width {width}; "
                f"its image has {height_N[row]}, {width_N[row]}"
            )

        self._findings.add_rows("malformed segmentation", rows[wrong], describe)
