"""Triples in text: CSV and TSV with a header, or one JSON object a line.

Columns or keys are `subject`, `predicate` and `object` (of attributes: `subject`, `attribute`), and
optionally `image_id` and `count`; others are ignored, order is free. An empty or null end is an annotation
that names none. Files may be compressed, or standard input.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kgtool.byte_source import ByteSource
from kgtool.errors import InputError
from kgtool.triples import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

#: Between columns, by suffix; JSON lines have none.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}

_BLOCK_SIZE = 4 << 20


class TextTriples:
    """Rows of one text file as tables. Iterate once.

    Attributes:
        ends: "text": names or synsets, as they are.
        term_key: "text".
        dataset: for a graph's header.
        sources: what was read, once all is.

    Args:
        path: the file, or "-".
        separator: between columns; empty for JSON lines.
        kind: "relation" or "attribute".
    """

    ends = "text"
    term_key = "text"
    dataset = "triples"

    def __init__(self, path: Path | str, separator: str, kind: str) -> None:
        self.sources: list[dict[str, Any]] = []
        self._path = path
        self._separator = separator
        self._kind = kind

    def __iter__(self) -> Iterator["pa.Table"]:
        """Give out tables: strings dictionary-encoded, null where empty, and `image_id` and `count`.

        Raises:
            InputError: the file is damaged, or has not these columns; with the line.
        """
        records = 0
        with closing(ByteSource(self._path)) as source:
            for table in self._columns(source) if self._separator else self._lines(source):
                records += len(table)
                yield table
            self.sources = [{"name": source.name, "sha256": source.sha256(), "records": records}]

    def _columns(self, source: ByteSource) -> Iterator["pa.Table"]:
        import pyarrow as pa
        from pyarrow import csv

        wanted = {name: pa.string() for name in COLUMNS[self._kind]}
        numbers = {"image_id": pa.int64(), "count": pa.int64()}
        try:
            with csv.open_csv(
                _Readable(source),
                read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK_SIZE),
                parse_options=csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=wanted | numbers, strings_can_be_null=True, null_values=[""]
                ),
            ) as reader:
                _check_columns(source.name, reader.schema.names, COLUMNS[self._kind])
                present = [name for name in (*wanted, *numbers) if name in reader.schema.names]
                for batch in reader:
                    yield _encoded(pa.Table.from_batches([batch]).select(present), source.name)
        except pa.ArrowInvalid as error:
            words = str(error).splitlines()[0]
            raise InputError(f"{source.name}: {words}; expected {_expected(self._kind)}") from None

    def _lines(self, source: ByteSource) -> Iterator["pa.Table"]:
        import pyarrow as pa

        fields = [(name, str | None, None) for name in COLUMNS[self._kind]]
        row = msgspec.defstruct("Row", [*fields, ("image_id", int | None, None), ("count", int, 1)], gc=False)
        decoder = msgspec.json.Decoder(row)
        rest, line = b"", 1
        while True:
            data = source.read(_BLOCK_SIZE)
            lines, newline, rest = (rest + data).rpartition(b"\n") if data else (rest, b"", b"")
            try:
                rows = decoder.decode_lines(lines)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise _bad_line(source.name, lines, line, decoder, self._kind) from None
            line += lines.count(b"\n") + len(newline)
            if rows:
                columns = {name: [getattr(row, name) or None for row in rows] for name in COLUMNS[self._kind]}
                table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
                for name in ("image_id", "count"):
                    values = pa.array([getattr(row, name) for row in rows], pa.int64())
                    table = table.append_column(name, values)
                yield _encoded(table, source.name)
            if not data:
                return


class _Readable:
    """What pyarrow asks of a Python file, over a `ByteSource`."""

    closed = False

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = _BLOCK_SIZE) -> bytes:
        return self._source.read(size)

    def close(self) -> None:
        self.closed = True


def _encoded(table: "pa.Table", name: str) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    if "count" in table.column_names and (pc.min(table["count"]).as_py() or 0) < 0:
        raise InputError(f"{name}, count: found a negative number; expected how often the triple was seen")
    columns = []
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type):
            columns.append(column.dictionary_encode())
        else:
            columns.append(pc.fill_null(column, 1) if column_name == "count" else column)
    return pa.table(columns, names=table.column_names)


def _check_columns(name: str, found: list[str], expected: tuple[str, ...]) -> None:
    missing = [column for column in expected if column not in found]
    if missing:
        raise InputError(
            f"{name}, line 1: found the columns {', '.join(found)}; "
            f"expected a header with {', '.join(expected)}"
        )


def _bad_line(name: str, lines: bytes, first: int, decoder: Any, kind: str) -> InputError:
    for number, text in enumerate(lines.split(b"\n"), start=first):
        try:
            if text.strip():
                decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return InputError(f"{name}, line {number}: {error}; expected {_expected(kind)}")
    return InputError(f"{name}: cannot be read; expected {_expected(kind)}")


def _expected(kind: str) -> str:
    return f"{', '.join(COLUMNS[kind])} and optionally image_id and count"
