"""Mask images: from the values of pixels to a box, an area and a run-length code for each value.

All three come from one list, the runs of equal pixels. Runs go down the columns, from left to right, as in
COCO's run-length code (RLE; pycocotools, maskApi.c), and go on from the foot of a column to the head of the
next. An image is looked through once, whatever the number of its masks: the usual way, a comparison of the
whole image with each value, takes longer with every mask. It is looked through in bands of rows that fit
into a processor's cache. What then takes time is to decode the PNG.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import InputError

Values = npt.NDArray[np.unsignedinteger[Any]]
Runs = npt.NDArray[np.int64]

#: The value of a black pixel: the highest byte is 255 for every colour.
BLACK = 0xFF000000
_BAND_PIXELS = 1 << 16


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of one image as columns, one row a value, in ascending order of the values.

    Attributes:
        size: height and width of the image in pixels.
        value_N: what the pixels of each mask hold.
        boxes_xywh_N4: int32; left, top, width and height of the smallest box around each mask, in pixels.
        area_N: int64; pixels of each mask.
        start_R: first pixel of each run, counted down the columns; the runs of mask 0, then of mask 1, ...
        stop_R: one past the last pixel of each run.
        ends_N: one past the last run of each mask.
    """

    size: tuple[int, int]
    value_N: Values
    boxes_xywh_N4: npt.NDArray[np.int32]
    area_N: npt.NDArray[np.int64]
    start_R: Runs
    stop_R: Runs
    ends_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.value_N)

    def without_first(self, count: int) -> "Masks":
        """All masks but the first so many."""
        if not count:
            return self
        runs = int(self.ends_N[count - 1])
        columns = self.value_N[count:], self.boxes_xywh_N4[count:], self.area_N[count:]
        return Masks(self.size, *columns, self.start_R[runs:], self.stop_R[runs:], self.ends_N[count:] - runs)

    def numbered(self) -> npt.NDArray[np.uint32]:
        """An image (H, W) of the masks' numbers, from 1; 0 where there is none."""
        lengths = self.stop_R - self.start_R
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        pixels = np.zeros(self.size[0] * self.size[1], dtype=np.uint32)
        pixels[np.repeat(self.start_R, lengths) + offsets] = np.repeat(
            np.arange(1, len(self) + 1), self.area_N
        )
        return pixels.reshape(self.size, order="F")

    def rle(self) -> list[str]:
        """The run-length code of each mask, compressed as in COCO JSON: `segmentation.counts`."""
        if not len(self):
            return []
        num_pixels = self.size[0] * self.size[1]
        begin_N = np.concatenate([[0], self.ends_N[:-1]])
        before_R = self.start_R - np.concatenate([[0], self.stop_R[:-1]])
        before_R[begin_N] = self.start_R[begin_N]
        rest_N = num_pixels - self.stop_R[self.ends_N - 1]
        counts_T = np.stack([before_R, self.stop_R - self.start_R], axis=1).ravel()
        counts_T = np.insert(counts_T, 2 * self.ends_N, rest_N)
        ends_N = 2 * self.ends_N + np.arange(1, len(self) + 1)
        kept_T = np.ones(len(counts_T), dtype=bool)
        kept_T[ends_N - 1] = rest_N > 0  # no count of no pixels at the end
        return compress_counts(counts_T[kept_T], np.cumsum(kept_T)[ends_N - 1])


class ColourImage:
    """A decoded RGB image; a pixel is read as a number: red, green and blue from the lowest byte, then 255.

    Attributes:
        size: height and width in pixels.
    """

    def __init__(self, image: Any) -> None:
        self.size: tuple[int, int] = (image.height, image.width)
        self._image = image

    def rows(self, top: int, stop: int) -> npt.NDArray[np.uint32]:
        """The pixels of some rows, (stop - top, W); bands of rows are cheaper than the whole at once."""
        band = self._image.crop((0, top, self.size[1], stop))
        return np.frombuffer(band.tobytes("raw", "RGBX"), "<u4").reshape(stop - top, self.size[1])

    def blue(self) -> npt.NDArray[np.uint8]:
        """The blue values (H, W)."""
        return np.frombuffer(self._image.tobytes("raw", "B"), np.uint8).reshape(self.size)


def read_colours(path: Path) -> ColourImage:
    """Read an RGB PNG.

    Raises:
        InputError: there is no such file, or it is not a whole RGB PNG.
    """
    return ColourImage(_open_png(path, ("RGB",), "an RGB PNG, whose colours are classes and instances"))


def read_indices(path: Path) -> npt.NDArray[np.uint8]:
    """Read an index PNG: one byte a pixel, grey or with a palette.

    Shapes:
        Returns (H, W).

    Raises:
        InputError: there is no such file, or it is not a whole PNG of one byte a pixel.
    """
    return np.asarray(_open_png(path, ("L", "P"), "an index PNG, one byte a pixel"))


def _open_png(path: Path, modes: Sequence[str], expected: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in modes:
                raise InputError(f"{path}: found {image.format}, mode {image.mode}; expected {expected}")
            image.load()
            return image
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {expected}") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: found no image; expected {expected}") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be decoded ({reason}); expected {expected}") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; expected {expected}") from None


def find_masks(values_HW: Values, *, background: int = 0) -> Masks:
    """Find the mask of each value in an image.

    Args:
        values_HW: (H, W) unsigned integers, at least one pixel.
        background: the value that is no mask.
    """
    height, width = values_HW.shape
    return _masks_of_runs(
        (height, width), *_find_runs(lambda top, stop: values_HW[top:stop], height), background
    )


def find_colour_masks(image: ColourImage) -> Masks:
    """Find the mask of each colour but black; the values are those of `ColourImage.rows`."""
    return _masks_of_runs(image.size, *_find_runs(image.rows, image.size[0]), BLACK)


def _find_runs(rows: Callable[[int, int], Values], height: int) -> tuple[Runs, Values]:
    """First pixels of the runs, ascending, and their values.

    A run starts where a pixel differs from the one above it. Memory lies along the rows, so that whole rows
    are compared, a band of them at a time, and what is found is then sorted by columns.
    """
    starts, values = [], []
    first = last = rows(0, 1)[0].copy()
    num_rows = max(1, _BAND_PIXELS // len(first))
    for top in range(1, height, num_rows):
        band = rows(top - 1, min(top + num_rows, height))
        row, column = np.divmod(np.flatnonzero(band[1:] != band[:-1]), len(first))
        starts.append(column * height + row + top)
        values.append(band[row + 1, column])
        last = band[-1]
    heads = np.flatnonzero(first[1:] != last[:-1]) + 1  # differs from the foot of the column before
    start_R = np.concatenate([[0], heads * height, *starts])
    value_R = np.concatenate([first[:1], first[heads], *values])
    order = np.argsort(start_R)
    return start_R[order], value_R[order]


def _masks_of_runs(size: tuple[int, int], start_R: Runs, value_R: Values, background: int) -> Masks:
    stop_R = np.append(start_R[1:], size[0] * size[1])
    shown = np.flatnonzero(value_R != background)
    value_N, mask_R = np.unique(value_R[shown], return_inverse=True)
    if len(value_N) < 1 << 16:
        mask_R = mask_R.astype(np.uint16)  # sorted by radix, ten times as fast
    order = np.argsort(mask_R, kind="stable")
    start_R, stop_R = start_R[shown][order], stop_R[shown][order]
    ends_N = np.cumsum(np.bincount(mask_R, minlength=len(value_N)), dtype=np.int64)
    boxes, area_N = _measure(start_R, stop_R, ends_N, size[0])
    return Masks(size, value_N, boxes, area_N, start_R, stop_R, ends_N)


def _measure(
    start_R: Runs, stop_R: Runs, ends_N: npt.NDArray[np.int64], height: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Boxes (N, 4) and areas (N,) of masks from their runs."""
    if not len(ends_N):
        return np.zeros((0, 4), dtype=np.int32), np.zeros(0, dtype=np.int64)
    begin_N = np.concatenate([[0], ends_N[:-1]])
    first_R, top_R = np.divmod(start_R, height)
    last_R, bottom_R = np.divmod(stop_R - 1, height)
    several = first_R < last_R  # a run over two columns touches the foot of one and the head of the next
    top_R[several], bottom_R[several] = 0, height - 1
    left, right = first_R[begin_N], last_R[ends_N - 1]
    top, bottom = np.minimum.reduceat(top_R, begin_N), np.maximum.reduceat(bottom_R, begin_N)
    boxes = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1).astype(np.int32)
    return boxes, np.add.reduceat(stop_R - start_R, begin_N)


def compress_counts(counts_T: npt.NDArray[np.int64], ends_N: npt.NDArray[np.int64]) -> list[str]:
    """Write the counts of many run-length codes as COCO does.

    From its fourth on, a count is written as the difference to the count two before it. A number is written
    from its lowest five bits up, one character for five bits, the sixth bit saying that more follow; the
    last character's fifth bit is the sign (maskApi.c, rleToString).

    Args:
        counts_T: the counts of all codes, one code after the other.
        ends_N: one past the last count of each code; no code is empty.
    """
    begin_N = np.concatenate([[0], ends_N[:-1]])
    place_T = np.arange(len(counts_T)) - np.repeat(begin_N, ends_N - begin_N)
    later = np.flatnonzero(place_T > 2)
    rest_T = counts_T.copy()
    rest_T[later] -= counts_T[later - 2]
    characters = []
    goes_on_T = np.ones(len(rest_T), dtype=bool)
    while goes_on_T.any():
        bits_T = rest_T & 31
        rest_T = rest_T >> 5
        more_T = goes_on_T & (rest_T != np.where(bits_T & 16, -1, 0))
        characters.append(np.where(goes_on_T, bits_T + 48 + 32 * more_T, 0).astype(np.uint8))
        goes_on_T = more_T
    text_TL = np.stack(characters, axis=1)
    lengths = np.cumsum((text_TL > 0).sum(axis=1))[ends_N - 1].tolist()
    text = text_TL.tobytes().translate(None, b"\0").decode("ascii")
    return [text[start:stop] for start, stop in zip([0, *lengths[:-1]], lengths, strict=True)]


def split_components(values_HW: Values) -> tuple[npt.NDArray[np.uint32], Values]:
    """Number the connected components of an index image from 1; 0 stays 0.

    Pixels of one value that touch at an edge or at a corner are connected.

    Args:
        values_HW: (H, W) unsigned integers; 0 is background.

    Returns:
        The numbers (H, W), and the value of each component, number 1 first.
    """
    from scipy import ndimage

    numbers_HW = np.zeros(values_HW.shape, dtype=np.uint32)
    value_L: list[Any] = []
    masks = find_masks(values_HW)
    for value, (left, top, width, height) in zip(masks.value_N, masks.boxes_xywh_N4.tolist(), strict=True):
        place = np.s_[top : top + height, left : left + width]
        found, num_found = ndimage.label(values_HW[place] == value, structure=np.ones((3, 3), dtype=bool))
        inside = found > 0
        numbers_HW[place][inside] = found[inside] + len(value_L)
        value_L += [value] * num_found
    return numbers_HW, np.array(value_L, dtype=values_HW.dtype)
