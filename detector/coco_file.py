"""COCO JSON decoded record by record: what is alive at once is columns, not millions of objects."""

import codecs
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np

from detector.errors import InputError

T = TypeVar("T")

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

#: A box of the file: what `CocoFile.boxes_N` has of each.
BOX_DTYPE = np.dtype(
    [
        ("image_id", np.int64),
        ("category_id", np.int64),
        ("bbox", np.float64, (4,)),
        ("area", np.float64),
        ("crowd", np.bool_),
    ]
)


class ImageRecord(msgspec.Struct, kw_only=True, gc=False):
    """One of `images`; in LVIS 1 its file is named by the last two parts of `coco_url` alone."""

    id: Id
    file_name: str = ""
    coco_url: Any = None
    width: Side
    height: Side

    def __post_init__(self) -> None:
        if not self.file_name and isinstance(self.coco_url, str):
            self.file_name = "/".join(self.coco_url.rstrip("/").rsplit("/", 2)[-2:])
        if not self.file_name:
            raise ValueError("Object missing required field `file_name`")
        self.coco_url = None  # most files have both; it would be the longest text of all


class CategoryRecord(msgspec.Struct, gc=False):
    """One of `categories`."""

    id: Id
    name: str
    synset: str | None = None
    frequency: Any = None
    image_count: Any = None


class _Group(msgspec.Struct, gc=False):
    name: str
    supercategory: str | None = None


class _Groups(msgspec.Struct, gc=False):
    categories: list[_Group]


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0


class _Segmentation(msgspec.Struct, gc=False):
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _Document(msgspec.Struct, gc=False):
    images: list[ImageRecord]
    annotations: list[msgspec.Raw]
    categories: list[CategoryRecord]


@dataclass(frozen=True, eq=False)
class Texts:
    """Many short texts as one array, which worker processes can share; `texts[i]` is the i-th, as bytes."""

    bytes_M: np.ndarray  #: (M,) uint8, one text after the other
    offsets: np.ndarray  #: (N + 1,) int64; text i is `bytes_M[offsets[i]:offsets[i + 1]]`

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.bytes_M[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def select(self, index_K: np.ndarray) -> "Texts":
        """Keep the texts at some positions, in that order."""
        return join_texts(self[index] for index in index_K)


def join_texts(texts: Iterator[bytes]) -> Texts:
    """Put texts one after the other."""
    joined, ends = bytearray(), [0]
    for text in texts:
        joined += text
        ends.append(len(joined))
    return Texts(np.frombuffer(joined, dtype=np.uint8), np.array(ends, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class CocoFile:
    """What a file says, in its own order and not yet checked against itself.

    Attributes:
        images: as in the file.
        categories: as in the file.
        boxes_N: (N,) of `BOX_DTYPE`; where the file has no area, width times height.
        segmentation_N: JSON text of each mask, "null" where there is none; None: not asked for.
    """

    images: list[ImageRecord]
    categories: list[CategoryRecord]
    boxes_N: np.ndarray
    segmentation_N: Texts | None


def read_coco(path: Path, *, masks: bool = False) -> CocoFile:
    """Decode a COCO JSON file; what a detector does not need of it is skipped.

    Args:
        path: the file.
        masks: keep the segmentations too.

    Raises:
        InputError: it cannot be read or is not COCO JSON; the message names the place in it.
    """
    try:
        document = msgspec.json.decode(_view(path), type=_Document)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_coco(path, str(error)) from error
    records, count = document.annotations, len(document.annotations)
    rows = (_row(record) for record in _Records(path, records, _Annotation))
    boxes_N = np.fromiter(rows, dtype=BOX_DTYPE, count=count)
    segmentation_N = None
    if masks:
        found = _Records(path, records, _Segmentation)
        segmentation_N = join_texts(bytes(record.segmentation) for record in found)
    return CocoFile(document.images, document.categories, boxes_N, segmentation_N)


def read_supercategories(path: Path) -> dict[str, str]:
    """Read the supercategory of each category by name, "" where it has none.

    Raises:
        InputError: see `read_coco`.
    """
    try:
        groups = msgspec.json.decode(_view(path), type=_Groups).categories
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_coco(path, str(error)) from error
    return {group.name: group.supercategory or "" for group in groups}


def _view(path: Path) -> Any:
    """The bytes of a file where they lie, without a byte order mark; an empty one cannot be mapped."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return b""
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    marked = mapped[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8
    return memoryview(mapped)[len(codecs.BOM_UTF8) :] if marked else mapped


def _row(box: _Annotation) -> tuple[Any, ...]:
    area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
    return box.image_id, box.category_id, box.bbox, area, bool(box.iscrowd)


class _Records(Generic[T]):
    """Decodes annotations one at a time, and says which one is wrong."""

    def __init__(self, path: Path, texts: list[msgspec.Raw], kind: type[T]) -> None:
        self.path = path
        self.texts = texts
        self.decoder = msgspec.json.Decoder(kind)

    def __iter__(self) -> Iterator[T]:
        decode = self.decoder.decode
        for number, text in enumerate(self.texts):
            try:
                yield decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                what, _, place = str(error).partition(" - at `$")
                where = f"`$.annotations[{number}]{place or '`'}"
                raise _not_coco(self.path, f"{what} - at {where}") from error


def _not_coco(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; expected COCO JSON with images, annotations, categories")
