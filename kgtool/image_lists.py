"""Lists of images: those that a graph must not know, because a detector is tested on them.

A list is a text file of one image id a line, or a COCO JSON. Visual Genome and COCO share images under
different ids; image_data.json joins them by `coco_id`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kgtool.coco import Image
from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError
from kgtool.files import atomic_path
from kgtool.json_stream import ColumnStream, Vocabulary
from kgtool.visual_genome import ImageDecoder

#: The reason to skip an annotation of an image of a list.
EXCLUDED = "excluded image"

#: More is no id; Python refuses to convert texts of thousands of digits.
_MOST_DIGITS = 40

COCO, VISUAL_GENOME = "COCO", "Visual Genome"

#: COCO names a file by its id in twelve digits; Visual Genome keeps its files in these two folders.
_COCO_NAME = re.compile(r"(?:^|[/_])(\d{12})\.\w+$")
_VG_NAME = re.compile(r"(?:^|/)VG_100K(?:_2)?/")


@dataclass(frozen=True, eq=False)
class ImageList:
    """Ids of images.

    Attributes:
        name: of the file, without its folder.
        ids_N: int64, ascending, each once.
        dataset: whose ids these are, by the file names beside them: `COCO`, `VISUAL_GENOME` or "".
    """

    name: str
    ids_N: npt.NDArray[np.int64]
    dataset: str = ""

    def __len__(self) -> int:
        return len(self.ids_N)

    def contains(self, image_N: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some image ids are in the list; an unknown image, -1, is not."""
        if not len(self):
            return np.zeros(len(image_N), dtype=bool)
        place = np.minimum(np.searchsorted(self.ids_N, image_N), len(self) - 1)
        found: npt.NDArray[np.bool_] = self.ids_N[place] == image_N
        return found

    def text(self) -> str:
        """The list as a text file has it: one id a line, ascending."""
        return "".join(f"{image_id}\n" for image_id in self.ids_N.tolist())

    def record(self) -> dict[str, Any]:
        """For the source of a graph's header: how many images, and the SHA-256 of `text`."""
        return {"images": len(self), "sha256": hashlib.sha256(self.text().encode()).hexdigest()}

    def check_joins(self, dataset: str, place: str) -> None:
        """Check that the images of a data set can have these ids.

        Raises:
            InputError: these are COCO's ids, and the data set is Visual Genome, or the other way round.
        """
        if self.dataset and self.dataset != dataset and dataset in (COCO, VISUAL_GENOME):
            raise InputError(
                f"{self.name}: found {self.dataset}'s image ids; expected {dataset}'s, as in {place}; "
                "--image-data image_data.json turns COCO's into Visual Genome's"
            )


class _Named(msgspec.Struct, gc=False):
    id: int
    file_name: str = ""


class _Images(msgspec.Struct):
    images: list[_Named]


def read_image_ids(path: Path, *, image_data: Path | None = None) -> ImageList:
    """Read a list of images.

    Args:
        path: a text file of one image id a line, or a COCO JSON.
        image_data: image_data.json of Visual Genome. The list then has COCO's ids, and the result the ids of
            the images of Visual Genome with such a `coco_id`.

    Raises:
        InputError: a file cannot be read or is no such list, or has no `coco_id` or already ids of Visual
            Genome where `image_data` is given.
    """
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    images = _of_json(path, text) if text.lstrip()[:1] == b"{" else _of_text(path, text)
    if not len(images):
        raise InputError(f"{path}: found no image; expected one image id a line, or COCO JSON with images")
    if images.ids_N[0] < 0:
        raise InputError(f"{path}: found the image id {images.ids_N[0]}; expected ids of at least 0")
    return images if image_data is None else _joined(images, image_data)


def save_image_ids(images: ImageList, path: Path, *, overwrite: bool = False) -> None:
    """Write a list as text, one id a line, ascending.

    Raises:
        OutputExistsError: the file is there and `overwrite` is false.
    """
    with atomic_path(path, overwrite=overwrite) as part:
        part.write_text(images.text(), encoding="utf-8")


def _of_text(path: Path, text: bytes) -> ImageList:
    ids = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if entry and (not entry.isdigit() or len(entry) > _MOST_DIGITS):
            shown = entry[:40].decode(errors="replace")
            raise InputError(f"{path}, line {number}: found {shown!r}; expected one image id a line")
        if entry:
            ids.append(int(entry))
    return ImageList(path.name, _ids(path, ids))


def _of_json(path: Path, text: bytes) -> ImageList:
    try:
        images = msgspec.json.decode(text, type=_Images).images
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: found {error}; expected COCO JSON with images, or one image id a line"
        ) from None
    return ImageList(path.name, _ids(path, [image.id for image in images]), dataset_of(images))


def dataset_of(images: Sequence[_Named | Image]) -> str:
    """Whose images these are, by the names of all files: `COCO`, `VISUAL_GENOME` or "" for others."""
    coco = [_COCO_NAME.search(image.file_name) for image in images]
    if all(name and int(name[1]) == image.id for name, image in zip(coco, images, strict=True)):
        return COCO
    return VISUAL_GENOME if all(_VG_NAME.search(image.file_name) for image in images) else ""


def _ids(path: Path, ids: list[int]) -> npt.NDArray[np.int64]:
    try:
        return np.unique(np.array(ids, dtype=np.int64))
    except OverflowError:
        raise InputError(f"{path}: found the image id {max(ids, key=abs)}; expected 64 bits") from None


def _joined(images: ImageList, image_data: Path) -> ImageList:
    """The images of Visual Genome that are these of COCO."""
    if images.dataset == VISUAL_GENOME:
        raise InputError(
            f"{images.name}: found Visual Genome's images; expected COCO's with --image-data; leave that out"
        )
    stream = ColumnStream(image_data, DecoderSpec(ImageDecoder, {}), {"urls": Vocabulary(lambda url: url)})
    found = [np.empty(0, dtype=np.int64)]
    num_known = 0
    for batch in stream:
        image, coco_id = batch.columns["image"], batch.columns["coco_id"]
        num_known += int((coco_id >= 0).sum())
        found.append(image[images.contains(coco_id) & (image >= 0)])
    if not num_known:
        raise InputError(
            f"{image_data}: found no coco_id; expected image_data.json of Visual Genome 1.2 or later, in "
            "which 51,498 images have one"
        )
    return ImageList(images.name, np.unique(np.concatenate(found)), VISUAL_GENOME)


def check_some_left(num_excluded: int, num_read: int, place: str) -> None:
    """Check that not everything was left out: what remains would be an empty graph.

    Args:
        num_excluded: annotations of excluded images.
        num_read: annotations.
        place: what was read, for the message.

    Raises:
        InputError: all of them are of excluded images.
    """
    if num_read and num_excluded == num_read:
        raise InputError(
            f"{place}: found all {num_read} annotations to be of excluded images; expected some of others; "
            "give --exclude-images the images of another split"
        )
