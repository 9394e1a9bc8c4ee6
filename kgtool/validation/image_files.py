"""Sizes of image files, read from their headers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from kgtool.processes import map_in_order
from kgtool.validation.findings import Findings
from kgtool.validation.rules import leaves_folder
from kgtool.validation.table import Table

if TYPE_CHECKING:
    from PIL import Image

#: Headers read at a time: one takes about a tenth of a millisecond, a process a third of a second to start.
_FILES_AT_A_TIME = 256
_EXIF_ORIENTATION = 0x0112
_TURNED_BY_90 = {5, 6, 7, 8}

#: Width, height and whether EXIF says that it is shown turned; or why it cannot be read, "" for missing.
FileSize = tuple[int, int, bool] | str


def check_image_files(images: Table, folder: Path, findings: Findings, num_workers: int) -> None:
    """Compare the images of a file with the files of a folder; only headers are read.

    Args:
        images: with `file_name`, `width` and `height`.
        folder: what the file names are below.
        findings: told of files that are missing, unreadable or of another size.
        num_workers: at most so many processes.
    """
    names = images.value["file_name"]
    rows = [row for row in images.known_rows("file_name").tolist() if names[row]]
    rows = [row for row in rows if not leaves_folder(names[row])]
    paths = iter([str(folder / names[row]) for row in rows])
    batches = list(iter(lambda: list(islice(paths, _FILES_AT_A_TIME)), []))
    sized = images.known["width"] & images.known["height"]
    found = _flattened(map_in_order(file_sizes, batches, num_workers))
    for row, size in zip(rows, found, strict=True):
        place = f"{images.place(row)}, {names[row]!r}"
        if size == "":
            findings.add("image file missing", f"{place}: no such file in {folder}")
        elif isinstance(size, str):
            findings.add("image file unreadable", f"{place}: {size}")
        elif sized[row]:
            expected = int(images.value["width"][row]), int(images.value["height"][row])
            if size[:2] != expected:
                _tell_size(place, size, expected, findings)


def _tell_size(
    place: str, size: tuple[int, int, bool], expected: tuple[int, int], findings: Findings
) -> None:
    width, height, turned = size
    hint = ""
    if turned and expected == (height, width):
        hint = "; the file's EXIF says that it is shown turned, and here its size is the turned one"
    findings.add(
        "image of another size",
        f"{place}: the file has {width} x {height}, the record {expected[0]} x {expected[1]}{hint}",
    )


def _flattened(batches: Iterator[list[FileSize]]) -> Iterator[FileSize]:
    for batch in batches:
        yield from batch


def file_sizes(paths: Sequence[str]) -> list[FileSize]:
    """Size of each image file, in pixels as stored."""
    return [_file_size(path) for path in paths]


def _file_size(path: str) -> FileSize:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            return width, height, is_turned(image)
    except FileNotFoundError:
        return ""
    except UnidentifiedImageError:
        return "found no image (a broken download, or another kind of file)"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"found a broken image ({error})"


def is_turned(image: "Image.Image") -> bool:
    """Say whether EXIF turns an image by 90 degrees, so that its shown width is its stored height."""
    return "exif" in image.info and image.getexif().get(_EXIF_ORIENTATION) in _TURNED_BY_90
