"""How many annotations each image has, in Visual Genome's relationships, attributes or objects.

This module runs in worker processes, so it imports little.
"""

from array import array
from typing import Any, ClassVar

import msgspec

from kgtool.decoding import Interner


class _Described(msgspec.Struct, gc=False):
    attributes: list[msgspec.Raw] | None = None


class _Record(msgspec.Struct, gc=False):
    relationships: list[msgspec.Raw] | None = None
    attributes: list[_Described | None] | None = None
    objects: list[msgspec.Raw] | None = None
    image_id: int | None = None
    id: int | None = None


class AnnotationCountDecoder:
    """Annotations of the images of a block.

    Columns, one row a record: `image` (-1: unknown), `annotations` (relationships, mentions of attributes, or
    objects), and `known` (0 where the record has none of these keys).
    """

    codes: ClassVar[dict[str, str]] = {}
    record_type = _Record

    def __init__(self) -> None:
        self.vocabularies: dict[str, Interner] = {}

    def columns(self, records: list[Any]) -> dict[str, "array[Any]"]:
        """Columns of the records of one block."""
        images = [record.image_id if record.image_id is not None else record.id for record in records]
        return {
            "image": array("q", [-1 if image is None else image for image in images]),
            "annotations": array("q", [_number(record) for record in records]),
            "known": array("b", [_is_known(record) for record in records]),
        }


def _number(record: _Record) -> int:
    mentions = sum(len(row.attributes) for row in record.attributes or () if row and row.attributes)
    return len(record.relationships or ()) + len(record.objects or ()) + mentions


def _is_known(record: _Record) -> bool:
    return any(rows is not None for rows in (record.relationships, record.attributes, record.objects))
