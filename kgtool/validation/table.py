"""Records of one list as columns, with a mark where a value is missing or of the wrong type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kgtool.json_errors import UNREADABLE, explain
from kgtool.validation.findings import Findings

#: What stands for the segmentation of a record that has none.
NO_MASK = msgspec.Raw(b"")

_BATCH = 8192
_INT64 = np.iinfo(np.int64)
#: How document.py writes what JSON does not know.
_NOT_FINITE = {"\0NaN": np.nan, "\0Infinity": np.inf, "\0-Infinity": -np.inf}
_SHOWN = 60

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Field:
    """A field of a record.

    Attributes:
        name: as in the file.
        type: "int", "number", "text" or "box".
        required: missing is an error; where not, it is no fault.
        nullable: null is as good as missing.
        instead: a field, before this one, in whose presence it may be missing.
    """

    name: str
    type: str
    required: bool = True
    nullable: bool = False
    instead: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one list.

    Attributes:
        name: of the list.
        num_rows: N, how many records it has, readable or not.
        value: by field: (N,) int64, float64 or object, or (N, 4) float64 for boxes; anything where not known.
        known: by field: (N,) whether the value is there and of its type.
        present: by field: (N,) whether there is a value, of whatever type.
    """

    name: str
    num_rows: int
    value: dict[str, np.ndarray]
    known: dict[str, Mask]
    present: dict[str, Mask]

    def place(self, row: int) -> str:
        """Where a record is, counted from 0, and its id."""
        where = f"{self.name}[{row}]"
        return f"{where}, id {self.value['id'][row]}" if self.known["id"][row] else where

    def known_rows(self, *fields: str) -> np.ndarray:
        """The rows in which all of these are known."""
        return np.flatnonzero(np.logical_and.reduce([self.known[field] for field in fields]))


def read_table(
    name: str,
    records: Sequence[msgspec.Raw],
    fields: Sequence[Field],
    findings: Findings,
    also: Callable[[int, Sequence[msgspec.Raw]], None] | None = None,
) -> Table:
    """Read the fields of all records into columns.

    Args:
        name: of the list.
        records: its records as text.
        fields: what to read; everything else in a record is passed over.
        findings: told of every value that is missing or of the wrong type, with its place.
        also: called for each batch with its first row and the `segmentation` of each record as text, or
            `NO_MASK`.
    """
    members: list[Any] = [(field.name, Any, msgspec.UNSET) for field in fields]
    if also is not None:
        members.append(("segmentation", msgspec.Raw, NO_MASK))
    row_type = msgspec.defstruct("Row", members, gc=False)
    parts: dict[str, list[_Part]] = {field.name: [] for field in fields}
    for start in range(0, max(len(records), 1), _BATCH):
        rows, readable = _decode_batch(name, start, records[start : start + _BATCH], row_type, findings)
        columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True)) or [()] * len(members)
        for field, values in zip(fields, columns, strict=False):
            part = _read_part(f"{name}[{{}}].{field.name}", start, values, field, findings)
            if field.required:
                missing = ~part.present & readable
                if field.instead:
                    missing &= ~parts[field.instead][-1].present
                _tell_missing(name, field.name, np.flatnonzero(missing) + start, findings)
            parts[field.name].append(part)
        if also is not None:
            also(start, columns[-1])
    return Table(
        name,
        len(records),
        {field: np.concatenate([part.value for part in column]) for field, column in parts.items()},
        {field: np.concatenate([part.known for part in column]) for field, column in parts.items()},
        {field: np.concatenate([part.present for part in column]) for field, column in parts.items()},
    )


def _tell_missing(name: str, field: str, rows: np.ndarray, findings: Findings) -> None:
    findings.add_rows("missing field", rows, lambda row: f"{name}[{row}]: no {field}")


def _decode_batch(
    name: str, start: int, batch: Sequence[msgspec.Raw], row_type: Any, findings: Findings
) -> tuple[list[Any], Mask]:
    readable = np.ones(len(batch), dtype=bool)
    try:
        return msgspec.json.decode(b"[" + b",".join(batch) + b"]", type=list[row_type]), readable
    except UNREADABLE:
        pass
    rows = []
    for position, record in enumerate(batch):
        try:
            rows.append(msgspec.json.decode(record, type=row_type))
        except UNREADABLE as error:
            place, reason = explain(error, bytes(record))
            where = f"{name}[{start + position}]" + (f".{place}" if place else "")
            findings.add("unreadable record", f"{where}: {reason}")
            rows.append(row_type())
            readable[position] = False
    return rows, readable


@dataclass(frozen=True, eq=False)
class _Part:
    """One field of a batch; as in `Table`."""

    value: np.ndarray
    known: Mask
    present: Mask


def _read_part(place: str, start: int, values: Sequence[Any], field: Field, findings: Findings) -> _Part:
    """One field of a batch; the whole batch at once where all of it is as it should be."""
    try:
        column = _fast_column(values, field.type)
    except OverflowError:
        column = None
    if column is not None:
        every = np.ones(len(values), dtype=bool)
        return _Part(column, every, every)
    column = _empty_column(len(values), field.type)
    known, present = np.zeros(len(values), dtype=bool), np.zeros(len(values), dtype=bool)
    for row, value in enumerate(values):
        if value is msgspec.UNSET or (value is None and field.nullable):
            continue
        present[row] = True
        found = _as_type(value, field.type)
        if found is None:
            wrong = f"found {_shown(value)}, not {_WORDS[field.type]}"
            findings.add("wrong type", f"{place.format(start + row)}: {wrong}")
        else:
            column[row], known[row] = found, True
    return _Part(column, known, present)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode().replace("\\u0000", "")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_WORDS = {
    "int": "a whole number of 64 bits",
    "number": "a number",
    "text": "a text",
    "box": "four numbers x, y, width, height",
}


def _empty_column(num_rows: int, type_: str) -> np.ndarray:
    if type_ == "box":
        return np.zeros((num_rows, 4))
    if type_ == "text":
        return np.full(num_rows, "", dtype=object)
    return np.zeros(num_rows, dtype=np.int64 if type_ == "int" else np.float64)


def _fast_column(values: Sequence[Any], type_: str) -> np.ndarray | None:
    types = set(map(type, values))
    if type_ == "int" and types <= {int}:
        return np.array(values, dtype=np.int64)
    if type_ == "number" and types <= {int, float}:
        return np.array(values, dtype=np.float64)
    if type_ == "text" and types <= {str}:
        return np.array(values, dtype=object)
    if type_ == "box" and types <= {list} and set(map(len, values)) <= {4}:
        numbers = [number for box in values for number in box]
        if set(map(type, numbers)) <= {int, float}:
            return np.array(numbers, dtype=np.float64).reshape(-1, 4)
    return None


def _as_type(value: Any, type_: str) -> Any:
    """The value as it goes into its column; None where it is of another type."""
    if type_ == "int":
        return value if type(value) is int and _INT64.min <= value <= _INT64.max else None
    if type_ == "text":
        return value if isinstance(value, str) else None
    if type_ == "number":
        return _as_number(value)
    if not isinstance(value, list) or len(value) != 4:
        return None
    box = [_as_number(number) for number in value]
    return None if None in box else box


def _as_number(value: Any) -> float | None:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")
