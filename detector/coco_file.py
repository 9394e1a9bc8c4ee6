"""COCO JSON decoded in blocks: what is alive at once is columns, not the file and not millions of objects."""

import codecs
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from detector.errors import InputError
from detector.record_blocks import NotCutError, iter_blocks

T = TypeVar("T")

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

_BOX_DTYPE = np.dtype(
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
        boxes: columns of N boxes: image_id (N,) int64, category_id (N,) int64, bbox (N, 4) float64 xywh px,
            area (N,) float64 px2, where the file has none width times height, crowd (N,) bool.
        segmentation_N: JSON text of each mask, "null" where there is none; None: not asked for.
    """

    images: list[ImageRecord]
    categories: list[CategoryRecord]
    boxes: dict[str, np.ndarray]
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
        return _read_in_blocks(path, masks)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (NotCutError, msgspec.MsgspecError, ValueError):
        return _read_whole(path, masks)  # which says what is wrong, if anything is


def _read_in_blocks(path: Path, masks: bool) -> CocoFile:
    """Decode a file whose arrays can be cut; what is wrong in another is not said here."""
    images: list[ImageRecord] = []
    categories: list[CategoryRecord] = []
    columns = _Columns(masks)
    members: dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Any], object]]] = {
        "images": (msgspec.json.Decoder(list[ImageRecord]), images.extend),
        "categories": (msgspec.json.Decoder(list[CategoryRecord]), categories.extend),
        "annotations": (msgspec.json.Decoder(list[msgspec.Raw]), columns.extend),
    }
    skipped = msgspec.json.Decoder(msgspec.Raw)
    seen: set[str] = set()
    for name, text in iter_blocks(path):
        seen.add(name)
        decoder, take = members.get(name, (skipped, bytes))
        take(decoder.decode(text))
    if not members.keys() <= seen:
        raise NotCutError
    return CocoFile(images, categories, columns.boxes, columns.texts())


def _read_whole(path: Path, masks: bool) -> CocoFile:
    """Decode any file, and say what is wrong in it.

    Raises:
        InputError: it cannot be read or is not COCO JSON; the message names the place in it.
    """
    document = _decode(path, _Document)
    columns = _Columns(masks)
    try:
        columns.extend(document.annotations)
    except _RecordError as error:
        what, _, place = str(error.reason).partition(" - at `$")
        where = f"`$.annotations[{error.number}]{place or '`'}"
        raise _not_coco(path, f"{what} - at {where}") from error
    return CocoFile(document.images, document.categories, columns.boxes, columns.texts())


class _RecordError(ValueError):
    """A record that is not what it should be: its number, and the reason."""

    def __init__(self, number: int, reason: Exception) -> None:
        super().__init__(number)
        self.number, self.reason = number, reason


class _Columns:
    """Annotations as columns that grow; nothing else of them is kept.

    Args:
        masks: keep the segmentations too.
    """

    def __init__(self, masks: bool) -> None:
        self.boxes = {
            name: np.zeros((0, *_BOX_DTYPE[name].shape), dtype=_BOX_DTYPE[name].base)
            for name in _BOX_DTYPE.names or ()
        }
        self._box = msgspec.json.Decoder(_Annotation)
        self._mask = msgspec.json.Decoder(_Segmentation) if masks else None
        self._joined, self._lengths = bytearray(), [np.zeros(1, dtype=np.int64)]

    def extend(self, records: Sequence[msgspec.Raw]) -> None:
        """Add records.

        Raises:
            _RecordError: one is not what it should be.
        """
        rows = (_row(box) for box in _decoded(self._box, records))
        block_N = np.fromiter(rows, dtype=_BOX_DTYPE, count=len(records))
        for name, column in self.boxes.items():
            start = len(column)  # grows in place, so that no second copy is ever there
            column.resize((start + len(block_N), *column.shape[1:]), refcheck=False)
            column[start:] = block_N[name]
        if self._mask:
            texts = [bytes(record.segmentation) for record in _decoded(self._mask, records)]
            self._joined += b"".join(texts)
            self._lengths.append(np.array([len(text) for text in texts], dtype=np.int64))

    def texts(self) -> Texts | None:
        """The segmentations; None where they are not kept."""
        if self._mask is None:
            return None
        return Texts(np.frombuffer(self._joined, dtype=np.uint8), np.cumsum(np.concatenate(self._lengths)))


def _decoded(decoder: "msgspec.json.Decoder[T]", records: Sequence[msgspec.Raw]) -> Iterator[T]:
    for number, record in enumerate(records):
        try:
            yield decoder.decode(record)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _RecordError(number, error) from error


def _row(box: _Annotation) -> tuple[Any, ...]:
    area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
    return box.image_id, box.category_id, box.bbox, area, bool(box.iscrowd)


def read_supercategories(path: Path) -> dict[str, str]:
    """Read the supercategory of each category by name, "" where it has none.

    Raises:
        InputError: see `read_coco`.
    """
    groups = _decode(path, _Groups).categories
    return {group.name: group.supercategory or "" for group in groups}


def _decode(path: Path, kind: type[T]) -> T:
    """Decode a whole file.

    Raises:
        InputError: see `read_coco`.
    """
    try:
        return msgspec.json.decode(_view(path), type=kind)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_coco(path, str(error)) from error


def _view(path: Path) -> Any:
    """The bytes of a file where they lie, without a byte order mark; an empty one cannot be mapped."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return b""
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    marked = mapped[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8
    return memoryview(mapped)[len(codecs.BOM_UTF8) :] if marked else mapped


def _not_coco(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; expected COCO JSON with images, annotations, categories")
