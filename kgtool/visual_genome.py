"""Records of Visual Genome's JSON files as columns: releases 1.0, 1.2 and 1.4 as they really are.

A raw record of relationships.json (1.2; an end of 1.4 may have `names` and `merged_object_ids`; 1.0 has no
synsets, and `id` for `object_id` and `image_id`):

    {"image_id": 1, "relationships": [{"predicate": "ON", "synsets": ["along.r.01"], "relationship_id": 15927,
      "subject": {"name": "shade", "object_id": 5045, "synsets": ["shade.n.01"], "x": 119, "y": 338, ...},
      "object": {"name": "street", "object_id": 5046, "synsets": ["street.n.01"], ...}}]}

and of attributes.json, where nearly half of the objects have no `attributes`:

    {"image_id": 1, "attributes": [{"object_id": 5046, "names": ["street"], "synsets": ["street.n.01"],
      "attributes": ["sidewalk"], "x": 78, ...}]}

A decoder turns the records of one block into columns of integers; strings are replaced by their position in
the decoder's vocabularies. Only the fields that are needed are ever made into objects. This module runs in
worker processes, so it imports little.
"""

from array import array
from math import nan
from typing import Any, ClassVar, Literal

import msgspec

from kgtool.decoding import Interner

TermKey = Literal["text", "synset"]
EndKey = Literal["synset", "name"]

#: Codes that every vocabulary of this module starts with: nothing there, and more than one synset.
EMPTY, SEVERAL = 0, 1

#: How a decoder's vocabulary has them: one synset, no synset, or (False) more than one.
SynsetValue = str | Literal[False] | None


def fold_text(text: str | None) -> str:
    """Text as terms are compared: case-folded, without outer white space, inner white space as one blank.

    Example:
        >>> fold_text(" Sitting  ON ")
        'sitting on'
    """
    return " ".join(text.casefold().split()) if text else ""


def only_synset(value: SynsetValue) -> str | None:
    """The synset where there is exactly one, "" where there is none, None where there are several."""
    return None if value is False else value or ""


def first_synset(value: str | None) -> str:
    """The first synset, or "" where there is none."""
    return value or ""


class Synsets(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first two strings of a list of synsets: what tells none, one and several apart."""

    first: str | None = None
    second: str | None = None


_NO_SYNSETS = Synsets()


class _End(msgspec.Struct, gc=False):
    synsets: Synsets | None = _NO_SYNSETS


class _KnownEnd(msgspec.Struct, gc=False):
    synsets: Synsets | None = _NO_SYNSETS
    object_id: int | None = None
    id: int | None = None


class _NamedEnd(msgspec.Struct, gc=False):
    """An end that goes by its name: the name stands where else the synset does."""

    name: str | None = None
    names: tuple[str | None, ...] | None = None
    object_id: int | None = None
    id: int | None = None

    @property
    def synsets(self) -> Synsets:
        return Synsets(fold_text(self.name or (self.names or [None])[0]) or None)


class _Relation(msgspec.Struct, gc=False):
    """A relationship in which what was null has become something empty."""

    subject: Any
    object: Any
    term: Any = None


class RelationDecoder:
    """Relationship annotations of a block.

    Columns: `rows` (one a record: how many rows it has), `subject`, `term`, `object` (one a row); with
    `with_ids` also `image` (one a record), `subject_id`, `object_id` (one a row; -1 where unknown).

    Args:
        term_key: whether the term of a relationship is its predicate's text or its predicate's synsets.
        with_ids: whether to read the ids that say which object an end is.
        end_key: whether ends go by their synsets or by their (folded) names; names are read with ids only.
    """

    codes: ClassVar = {"subject": "synsets", "term": "terms", "object": "synsets"}

    def __init__(
        self, *, term_key: TermKey = "text", with_ids: bool = False, end_key: EndKey = "synset"
    ) -> None:
        end = _NamedEnd if end_key == "name" else _KnownEnd if with_ids else _End
        term: Any = ("term", str | None, None)
        if term_key == "synset":
            term = ("term", Synsets | None, _NO_SYNSETS)
        relation = msgspec.defstruct(
            "Relation",
            [term, ("subject", end | None, None), ("object", end | None, None)],
            rename={"term": "predicate" if term_key == "text" else "synsets"},
            gc=False,
        )
        self.record_type = _record_type("relationships", relation, with_image=with_ids)
        self.vocabularies = {"synsets": Interner(), "terms": Interner()}
        self._with_ids = with_ids
        self._by_text = term_key == "text"
        self._blank = end()

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""
        try:
            return self._columns(records)
        except (AttributeError, TypeError):  # a null somewhere: rare, so looked for only now
            for record in records:
                record.rows = [self._without_nulls(row) for row in record.rows or ()]
            return self._columns(records)

    def _columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        # Spelled out, without a function for an end: this is where most of the time goes.
        rows = [row for record in records for row in record.rows]
        code, term = self.vocabularies["synsets"], self.vocabularies["terms"]
        several = code[False]
        subjects = [
            code[end.first] if (end := row.subject.synsets).second is None else several for row in rows
        ]
        objects = [code[end.first] if (end := row.object.synsets).second is None else several for row in rows]
        terms = [term[row.term] for row in rows] if self._by_text else [term[row.term.first] for row in rows]
        columns = {
            "rows": _row_counts(records),
            "subject": array("I", subjects),
            "term": array("I", terms),
            "object": array("I", objects),
        }
        if self._with_ids:
            columns["image"] = _image_ids(records)
            columns["subject_id"] = array("q", [_id(row.subject.object_id, row.subject.id) for row in rows])
            columns["object_id"] = array("q", [_id(row.object.object_id, row.object.id) for row in rows])
        return columns

    def _without_nulls(self, row: Any) -> Any:
        no_term = None if self._by_text else _NO_SYNSETS
        if row is None:
            return _Relation(self._blank, self._blank, no_term)
        subject, object_ = _with_synsets(row.subject or self._blank), _with_synsets(row.object or self._blank)
        return _Relation(subject, object_, row.term or no_term)


class AttributeDecoder:
    """Attributes of the objects of a block; objects without attributes are passed over.

    Columns: `rows` (one a record: how many such objects it has), `object` and `mentions` (one
    an object: its synsets, how many attributes it has), `term` (one a mention); with `with_ids` also `image`
    (one a record) and `object_id` (one an object, -1: unknown).

    Args:
        with_ids: whether to read the ids that say which object it is.
        end_key: whether objects go by their synsets or by their (folded) names; names are read with ids only.
    """

    codes: ClassVar = {"object": "synsets", "term": "terms"}

    def __init__(self, *, with_ids: bool = False, end_key: EndKey = "synset") -> None:
        end = _NamedEnd if end_key == "name" else _KnownEnd if with_ids else _End
        fields = [("attributes", list[str | None] | None, None)]
        described = msgspec.defstruct("Described", fields, bases=(end,), gc=False)
        self.record_type = _record_type("attributes", described, with_image=with_ids)
        self.vocabularies = {"synsets": Interner(), "terms": Interner()}
        self._with_ids = with_ids

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""
        try:
            return self._columns(records)
        except (AttributeError, TypeError):  # a null somewhere: rare, so looked for only now
            _drop_nulls(records)
            return self._columns(records)

    def _columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        rows_of = [[row for row in record.rows if row.attributes] for record in records]
        rows = [row for described in rows_of for row in described]
        code = self.vocabularies["terms"]
        columns = {
            "rows": array("I", [len(described) for described in rows_of]),
            "object": _synset_codes(self.vocabularies["synsets"], rows),
            "mentions": array("I", [len(row.attributes) for row in rows]),
            "term": array("I", [code[term] for row in rows for term in row.attributes]),
        }
        if self._with_ids:
            columns["image"] = _image_ids(records)
            columns["object_id"] = array("q", [_id(row.object_id, row.id) for row in rows])
        return columns


class ObjectDecoder:
    """Objects of a block.

    Columns: `rows` and `image` (one a record), `synset` and `object_id` (one an object); with `with_merged`
    also `merged` (one an object: how many ids were merged into it) and `merged_id` (one such an id); with
    `with_boxes` also `x`, `y`, `w`, `h` in pixels (one an object; NaN where the file has none).

    Args:
        with_boxes: whether to read the boxes.
        with_merged: whether to read which objects were merged into others.
    """

    codes: ClassVar = {"synset": "synsets"}

    def __init__(self, *, with_boxes: bool = False, with_merged: bool = True) -> None:
        fields: list[Any] = [
            ("synsets", Synsets | None, _NO_SYNSETS),
            ("object_id", int | None, None),
            ("id", int | None, None),
        ]
        if with_merged:
            fields.append(("merged_object_ids", list[int] | None, None))
        if with_boxes:
            fields += [(name, float | None, None) for name in "xywh"]
        described = msgspec.defstruct("Object", fields, gc=False)
        self.record_type = _record_type("objects", described, with_image=True)
        self.vocabularies = {"synsets": Interner()}
        self._with_boxes = with_boxes
        self._with_merged = with_merged

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""
        try:
            return self._columns(records)
        except (AttributeError, TypeError):  # a null somewhere: rare, so looked for only now
            _drop_nulls(records)
            return self._columns(records)

    def _columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        rows = [row for record in records for row in record.rows]
        columns: dict[str, array[Any]] = {
            "rows": _row_counts(records),
            "image": _image_ids(records),
            "synset": _synset_codes(self.vocabularies["synsets"], rows),
            "object_id": _object_ids(rows),
        }
        if self._with_merged:
            merged = [row.merged_object_ids for row in rows]
            columns["merged"] = array("I", [len(ids) if ids else 0 for ids in merged])
            columns["merged_id"] = array("q", [known for ids in merged if ids for known in ids])
        if self._with_boxes:
            columns["x"] = _pixels([row.x for row in rows])
            columns["y"] = _pixels([row.y for row in rows])
            columns["w"] = _pixels([row.w for row in rows])
            columns["h"] = _pixels([row.h for row in rows])
        return columns


class _Image(msgspec.Struct, gc=False):
    image_id: int | None = None
    id: int | None = None
    width: int | None = None
    height: int | None = None
    url: str | None = None
    coco_id: int | None = None


class ImageDecoder:
    """Images of a block of image_data.json: one a record.

    Columns: `image`, `width` and `height` in pixels, `coco_id` (-1: unknown), and `url` as code.
    """

    codes: ClassVar = {"url": "urls"}
    record_type = _Image

    def __init__(self) -> None:
        self.vocabularies = {"urls": Interner()}

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""
        return {
            "image": _image_ids(records),
            "width": array("i", [record.width or -1 for record in records]),
            "height": array("i", [record.height or -1 for record in records]),
            "coco_id": array("q", [-1 if record.coco_id is None else record.coco_id for record in records]),
            "url": self.vocabularies["urls"].codes([record.url for record in records]),
        }


def _record_type(rows: str, row: Any, *, with_image: bool) -> Any:
    """A record type with as few fields as will do: each field costs time."""
    fields: list[Any] = [("rows", list[row | None] | None)]
    if with_image:
        fields += [("image_id", int | None, None), ("id", int | None, None)]
    return msgspec.defstruct("Record", fields, rename={"rows": rows}, gc=False)


def _drop_nulls(records: list[Any]) -> None:
    for record in records:
        record.rows = [_with_synsets(row) for row in record.rows or () if row is not None]


def _with_synsets(row: Any) -> Any:
    if row.synsets is None:
        row.synsets = _NO_SYNSETS
    return row


def _synset_codes(code: Interner, rows: list[Any]) -> "array[int]":
    several = code[False]
    return array("I", [code[row.synsets.first] if row.synsets.second is None else several for row in rows])


def _row_counts(records: list[Any]) -> "array[int]":
    return array("I", [len(record.rows) for record in records])


def _image_ids(records: list[Any]) -> "array[int]":
    return array("q", [_id(record.image_id, record.id) for record in records])


def _object_ids(rows: list[Any]) -> "array[int]":
    try:
        return array("q", [row.object_id for row in rows])
    except TypeError:  # not the newer key
        return array("q", [_id(row.object_id, row.id) for row in rows])


def _pixels(values: list[float | None]) -> "array[float]":
    try:
        return array("d", values)  # type: ignore[arg-type]
    except TypeError:  # a None somewhere
        return array("d", [nan if value is None else value for value in values])


def _id(newer: int | None, older: int | None) -> int:
    """The id under its newer or its older key; -1 where there is neither."""
    return newer if newer is not None else older if older is not None else -1
