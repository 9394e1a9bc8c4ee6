"""COCO JSON, in and out: images, categories, boxes as columns, and relations between boxes.

Boxes are what kgtool reads and writes. Whatever else an annotation says (masks, attributes) is carried along
as text where it is asked for, and left out where not. Two extra lists carry relations: `rel_categories`
(`id`, `name`) and `rel_annotations` (`id`, `image_id`, `subject_id`, `predicate_id`, `object_id`, where
subject and object are annotation ids). COCO tools ignore both.
"""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from kgtool.errors import InputError
from kgtool.files import atomic_path
from kgtool.ids import position_of
from kgtool.json_errors import UNREADABLE, explain
from kgtool.json_rows import iter_rows


class Image(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One image: id, path below the image folder, size in pixels, and COCO's id where it has one."""

    id: int
    file_name: str
    width: int
    height: int
    coco_id: int | None = None


class _ImageRecord(msgspec.Struct, kw_only=True, gc=False):
    """An image as files have it: those of LVIS 1 say where it was, not what its file is called."""

    id: int
    file_name: str | msgspec.UnsetType = msgspec.UNSET
    coco_url: Any = None
    width: int
    height: int
    coco_id: int | None = None

    def __post_init__(self) -> None:
        if self.file_name is msgspec.UNSET:
            self.file_name = file_name_of_url(self.coco_url) if isinstance(self.coco_url, str) else ""
            if not self.file_name:
                raise ValueError("Object missing required field `file_name`")
        self.coco_url = None  # most files have both; it would be the longest text of all

    def image(self) -> Image:
        assert isinstance(self.file_name, str)
        return Image(self.id, self.file_name, self.width, self.height, self.coco_id)


def file_name_of_url(url: str) -> str:
    """The last two parts of an image's URL: its folder and file.

    Example:
        >>> file_name_of_url("http://images.cocodataset.org/val2017/000000397133.jpg")
        'val2017/000000397133.jpg'
    """
    return "/".join(url.rstrip("/").rsplit("/", 2)[-2:])


class Category(msgspec.Struct, frozen=True, omit_defaults=True):
    """One class; `frequency` and the counts are LVIS's: rare, common or frequent, images, boxes of train."""

    id: int
    name: str
    synset: str = ""
    frequency: str = ""
    image_count: int | None = None
    instance_count: int | None = None
    supercategory: str | None = None


class RelationCategory(msgspec.Struct, frozen=True):
    """One predicate."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class Annotations:
    """Boxes as columns, one row a box.

    Attributes:
        id_N: annotation ids, unique, integer.
        image_id_N: the id of the image each box is in.
        category_id_N: the id of the class each box shows.
        boxes_xywh_N4: left, top, width, height in pixels; integer or float.
        area_N: in square pixels; what COCO's small, medium and large go by.
        crowd_N: 1 where one box stands for a group, else 0.
        extra_N: object array of what else each annotation says: the members of a JSON object as bytes, such
            as b'"segmentation":{...},"occluded":true', or b"" for nothing; None where no annotation has any.
    """

    id_N: np.ndarray
    image_id_N: np.ndarray
    category_id_N: np.ndarray
    boxes_xywh_N4: np.ndarray
    area_N: np.ndarray
    crowd_N: np.ndarray
    extra_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.id_N)

    def take(self, rows: np.ndarray) -> "Annotations":
        """The rows of a mask or an index array."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: column[rows] for name, column in columns.items() if column is not None}
        return Annotations(**taken)


@dataclass(frozen=True, eq=False)
class Relations:
    """Relations as columns, one row a subject, predicate and object; ids as in the module's text."""

    id_N: np.ndarray
    image_id_N: np.ndarray
    subject_id_N: np.ndarray
    predicate_id_N: np.ndarray
    object_id_N: np.ndarray

    def __len__(self) -> int:
        return len(self.id_N)

    def take(self, rows: np.ndarray) -> "Relations":
        """The rows of a mask or an index array."""
        return Relations(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Dataset:
    """What one COCO JSON file holds; `relations` is None where the file has no relations."""

    images: tuple[Image, ...]
    categories: tuple[Category, ...]
    annotations: Annotations
    rel_categories: tuple[RelationCategory, ...] = ()
    relations: Relations | None = None


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0


class _RelAnnotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    subject_id: int
    predicate_id: int
    object_id: int


class _File(msgspec.Struct):
    images: list[_ImageRecord]
    categories: list[Category]
    annotations: list[_Annotation]
    rel_categories: list[RelationCategory] = []
    rel_annotations: list[_RelAnnotation] | None = None


class _ExtraFile(msgspec.Struct):
    annotations: list[dict[str, msgspec.Raw]]


def load_dataset(path: Path, *, with_extra: bool = False) -> Dataset:
    """Read a COCO JSON file into columns, and check it.

    Args:
        path: a file with `images`, `annotations` and `categories`, as in COCO and LVIS, or written by kgtool.
            An image without `file_name`, as in LVIS 1, is called by its `coco_url`: "val2017/1.jpg".
        with_extra: keep what else annotations say, masks above all, so that it can be written again.

    Raises:
        InputError: the file cannot be read, or is not COCO JSON, or has ids that are not unique
            or point nowhere; see `check_dataset`.
    """
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # as editors on Windows write it
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a COCO JSON file") from None
    remedy = f"`kgtool validate {path}` lists everything"
    try:
        dataset = _decode(text, with_extra)
    except UNREADABLE as error:
        place, reason = explain(error, text)
        where = f"{path}, {place}" if place else str(path)
        raise InputError(f"{where}: {reason} in a COCO JSON file; {remedy}") from None
    try:
        check_dataset(dataset, place=str(path))
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None
    return dataset


def _decode(text: bytes, with_extra: bool) -> Dataset:
    file = msgspec.json.decode(text, type=_File)
    relations = None
    if file.rel_annotations is not None:
        relations = Relations(
            *(_column(file.rel_annotations, name) for name in _RelAnnotation.__struct_fields__)
        )
    annotations = _columns(file)
    if with_extra:
        annotations = replace(annotations, extra_N=_extra(text))
    for records in (file.images, file.categories, file.rel_categories):
        _column(records, "id")  # 64 bits hold them
    for side in ("width", "height"):
        _column(file.images, side)
    return Dataset(
        tuple(record.image() for record in file.images),
        tuple(file.categories),
        annotations,
        tuple(file.rel_categories),
        relations,
    )


def _columns(file: _File) -> Annotations:
    rows = file.annotations
    boxes = np.array([row.bbox for row in rows], dtype=np.float64).reshape(-1, 4)
    area = [row.bbox[2] * row.bbox[3] if row.area is None else row.area for row in rows]
    return Annotations(
        id_N=_column(rows, "id"),
        image_id_N=_column(rows, "image_id"),
        category_id_N=_column(rows, "category_id"),
        boxes_xywh_N4=boxes,
        area_N=np.array(area, dtype=np.float64),
        crowd_N=_column(rows, "iscrowd"),
    )


def _extra(text: bytes) -> np.ndarray:
    rows = msgspec.json.decode(text, type=_ExtraFile).annotations
    known = _Annotation.__struct_fields__
    extra_N = np.empty(len(rows), dtype=object)
    for position, row in enumerate(rows):
        extra = {name: value for name, value in row.items() if name not in known}
        extra_N[position] = msgspec.json.format(msgspec.json.encode(extra), indent=-1)[1:-1]
    return extra_N


def _column(rows: Sequence[msgspec.Struct], name: str) -> np.ndarray:
    return np.fromiter((getattr(row, name) for row in rows), np.int64, len(rows))


def check_dataset(dataset: Dataset, *, place: str) -> None:
    """Check that ids and class names are unique, that every id points somewhere, and that boxes are finite.

    Args:
        dataset: what to check.
        place: the file, for the message.

    Raises:
        InputError: with the first rule broken.
    """
    image_ids = np.array([image.id for image in dataset.images], dtype=np.int64)
    category_ids = np.array([category.id for category in dataset.categories], dtype=np.int64)
    rows = dataset.annotations
    _check_unique(image_ids, "images", place)
    _check_unique(category_ids, "categories", place)
    _check_unique(rows.id_N, "annotations", place)
    for name, count in Counter(category.name for category in dataset.categories).items():
        if count > 1:
            raise InputError(f"{place}, categories: found the name {name!r} {count} times; expected it once")
    _check_known(rows.image_id_N, image_ids, "annotations: image_id", "images", place)
    _check_known(rows.category_id_N, category_ids, "annotations: category_id", "categories", place)
    wrong_N4 = ~np.isfinite(rows.boxes_xywh_N4) if rows.boxes_xywh_N4.dtype.kind == "f" else None
    bad_N = (rows.boxes_xywh_N4[:, 2] < 0) | (rows.boxes_xywh_N4[:, 3] < 0)
    bad = np.flatnonzero(bad_N if wrong_N4 is None else bad_N | wrong_N4.any(axis=1))
    if len(bad):
        box = rows.boxes_xywh_N4[bad[0]].tolist()
        raise InputError(
            f"{place}, annotation {rows.id_N[bad[0]]}: found bbox {box}; expected x, y, width, height with "
            "width and height of at least 0; correct or remove it"
        )
    if dataset.relations is not None:
        _check_relations(dataset, image_ids, place)


def _check_relations(dataset: Dataset, image_ids: np.ndarray, place: str) -> None:
    relations = dataset.relations
    assert relations is not None
    predicate_ids = np.array([category.id for category in dataset.rel_categories], dtype=np.int64)
    _check_unique(predicate_ids, "rel_categories", place)
    _check_unique(relations.id_N, "rel_annotations", place)
    _check_known(relations.image_id_N, image_ids, "rel_annotations: image_id", "images", place)
    _check_known(
        relations.predicate_id_N, predicate_ids, "rel_annotations: predicate_id", "rel_categories", place
    )
    for end, ids in (("subject_id", relations.subject_id_N), ("object_id", relations.object_id_N)):
        _check_known(ids, dataset.annotations.id_N, f"rel_annotations: {end}", "annotations", place)


def _check_unique(ids: np.ndarray, what: str, place: str) -> None:
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise InputError(f"{place}, {what}: found id {twice[0]} twice; expected each id once")


def _check_known(ids: np.ndarray, known: np.ndarray, what: str, where: str, place: str) -> None:
    unknown = ids[position_of(known, ids) < 0]
    if len(unknown):
        raise InputError(
            f"{place}, {what}: found {unknown[0]} ({len(unknown)} such rows); expected an id of {where}"
        )


def save_dataset(dataset: Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Write COCO JSON, one record a line; the same data set gives the same bytes.

    Whole numbers are written without a decimal point. The file appears complete or not at all.

    Raises:
        InputError: the data set breaks a rule of `check_dataset`.
        OutputExistsError: the file is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
    """
    check_dataset(dataset, place=str(path))
    with atomic_path(path, overwrite=overwrite) as part, part.open("wb") as file:
        _write_list(file, b'{"images":[\n', _iter_records(dataset.images))
        _write_list(file, b'],\n"categories":[\n', _iter_records(dataset.categories))
        _write_list(file, b'],\n"annotations":[\n', _iter_annotations(dataset.annotations))
        if dataset.relations is not None:
            _write_list(file, b'],\n"rel_categories":[\n', _iter_records(dataset.rel_categories))
            _write_list(file, b'],\n"rel_annotations":[\n', _iter_relations(dataset.relations))
        file.write(b"]}\n")


def _write_list(file: BinaryIO, opening: bytes, blocks: Iterable[bytes]) -> None:
    file.write(opening)
    wrote = False
    for block in blocks:
        file.write(block)
        wrote = True
    file.write(b"\n" if wrote else b"")


def _iter_records(records: Sequence[msgspec.Struct]) -> Iterator[bytes]:
    if records:
        yield msgspec.json.Encoder().encode_lines(records)[:-1].replace(b"\n", b",\n")


def _iter_annotations(rows: Annotations) -> Iterator[bytes]:
    template = '{"id":%d,"image_id":%d,"category_id":%d,"bbox":[%d,%d,%d,%d],"area":%d,"iscrowd":%d}'
    columns = (
        rows.id_N,
        rows.image_id_N,
        rows.category_id_N,
        *rows.boxes_xywh_N4.T,
        rows.area_N,
        rows.crowd_N,
    )
    blocks = iter_rows(template, columns)
    return blocks if rows.extra_N is None else _with_extra(blocks, rows.extra_N)


def _with_extra(blocks: Iterable[bytes], extra_N: np.ndarray) -> Iterator[bytes]:
    """Write what else each annotation says into its record, before the last brace."""
    start = 0
    for block in blocks:
        records = block.removesuffix(b",\n").split(b",\n")
        extra = extra_N[start : start + len(records)]
        pairs = zip(records, extra, strict=True)
        text = b",\n".join(record[:-1] + b"," + more + b"}" if more else record for record, more in pairs)
        start += len(records)
        yield text + b",\n" if start < len(extra_N) else text


def _iter_relations(rows: Relations) -> Iterator[bytes]:
    template = '{"id":%d,"image_id":%d,"subject_id":%d,"predicate_id":%d,"object_id":%d}'
    columns = (rows.id_N, rows.image_id_N, rows.subject_id_N, rows.predicate_id_N, rows.object_id_N)
    return iter_rows(template, columns)
