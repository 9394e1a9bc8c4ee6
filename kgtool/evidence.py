"""Rows of evidence counted: one ibis expression, whatever the rows come from and whichever engine runs it.

A row is (subject class, term, object class), or (class, term), with how often it was seen. Counts are whole
numbers and add up, so rows may be raw or counted before, in any order and in any number of pieces.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import KgtoolError

if TYPE_CHECKING:
    import ibis

Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]

#: Three codes go into one 64-bit number.
_CODE_BITS = 21
_CHUNK_ROWS = 1 << 18
#: What the engine counts at a time: memory for one piece, not for all rows.
_PIECE_ROWS = 1 << 18


def count_expression(rows: "ibis.Table", keys: Sequence[str]) -> "ibis.Table":
    """How often each combination of the key columns was seen: the sum of `count` by keys.

    Args:
        rows: a table of any backend with the key columns and `count`.
        keys: names of the key columns.
    """
    return rows.group_by(list(keys)).agg(count=rows["count"].sum())


def compiled_count(keys: Sequence[str]) -> str:
    """The SQL that ibis makes of `count_expression` for DuckDB, over a table `rows`.

    It is written down because importing ibis takes longer than counting a million rows, and more memory. A
    test holds it against what ibis makes.
    """
    names = ", ".join(f'"t0"."{key}"' for key in keys)
    places = ", ".join(str(place) for place in range(1, len(keys) + 1))
    return f'SELECT {names}, SUM("t0"."count") AS "count" FROM "rows" AS "t0" GROUP BY {places}'


class EvidenceCounter:
    """Runs the count expression, compiled ahead, on DuckDB inside this process.

    The engine starts in a thread at once, beside the reading.

    Args:
        num_columns: 2 or 3 codes a row.
    """

    def __init__(self, num_columns: int) -> None:
        self._keys = ["subject", "term", "object"][:num_columns]
        self._query = compiled_count(self._keys)
        self._starter = ThreadPoolExecutor(max_workers=1)
        self._engine: Future[Any] = self._starter.submit(_start_engine)

    def count(self, index: npt.NDArray[np.int32], count: Counts) -> tuple[npt.NDArray[np.int32], Counts]:
        """Add up the counts of equal rows.

        Args:
            index: (N, num_columns) codes, any order.
            count: (N,) how often each row was seen.

        Returns:
            Unique rows, in ascending order, and the count of each.
        """
        pieces = [self._count_piece(index[rows], count[rows]) for rows in _pieces(index[:, 0])]
        if not pieces:
            return index[:0], count[:0]
        return np.concatenate([rows for rows, _ in pieces]), np.concatenate([total for _, total in pieces])

    def _count_piece(
        self, index: npt.NDArray[np.int32], count: Counts
    ) -> tuple[npt.NDArray[np.int32], Counts]:
        connection = self._engine.result()
        columns = {key: np.ascontiguousarray(index[:, place]) for place, key in enumerate(self._keys)}
        connection.register("rows", {**columns, "count": count})
        found = connection.execute(self._query).fetchnumpy()
        connection.unregister("rows")
        order = np.argsort(row_keys([found[key] for key in self._keys]))
        unique = np.empty((len(order), len(self._keys)), dtype=np.int32)
        for place, key in enumerate(self._keys):
            unique[:, place] = found[key][order]
        return unique, found["count"][order].astype(np.int64)  # exact: far below 2**53

    def close(self) -> None:
        """Give the engine back."""
        self._engine.result().close()
        self._starter.shutdown()


def _start_engine() -> Any:
    import duckdb

    settings: dict[str, Any] = {
        "threads": 1,
        "memory_limit": "512MB",
        "temp_directory": tempfile.gettempdir(),
    }
    return duckdb.connect(config=settings)


def _pieces(subject: Codes) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks of ranges of subjects, each of about `_PIECE_ROWS` rows: no combination is in two of them."""
    if not len(subject):
        return
    last = np.cumsum(np.bincount(subject))
    starts = np.searchsorted(last, np.arange(0, last[-1], _PIECE_ROWS), side="right")
    bounds = sorted({*starts.tolist(), len(last)})
    for start, stop in pairwise(bounds):
        yield (subject >= start) & (subject < stop)


def row_keys(columns: Sequence[Codes]) -> npt.NDArray[np.int64]:
    """One number a row that sorts as the rows do, however large the codes of the term are."""
    keys = np.zeros(len(columns[0]), dtype=np.int64)
    for codes in columns:
        keys *= int(codes.max(initial=0)) + 1
        keys += codes
    return keys


def _packed(columns: Sequence[Codes]) -> npt.NDArray[np.int64]:
    """Two or three codes of each row in one number, which sorts as the rows do."""
    packed = columns[0].astype(np.int64)
    for codes in columns[1:]:
        packed <<= _CODE_BITS
        packed |= codes
    return packed


class RowSpool:
    """Rows of codes, counted chunk by chunk into a temporary file: memory does not grow with their number.

    How often each code was seen is counted at the same time, column by column.

    Args:
        num_columns: 2 or 3 codes a row.
    """

    def __init__(self, num_columns: int) -> None:
        self._shifts = [_CODE_BITS * place for place in reversed(range(num_columns))]
        self._totals = [np.zeros(0, dtype=np.int64) for _ in range(num_columns)]
        self._keys = np.empty(_CHUNK_ROWS, dtype=np.int64)
        self._filled = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._run_lengths: list[int] = []

    def add(self, *columns: Codes) -> None:
        """Add rows, one array a column."""
        if any(len(codes) and int(codes.max()) >> _CODE_BITS for codes in columns):
            raise KgtoolError(f"found more than {1 << _CODE_BITS} different names; split the input")
        key = _packed(columns)
        while len(key):
            room = min(_CHUNK_ROWS - self._filled, len(key))
            self._keys[self._filled : self._filled + room] = key[:room]
            self._filled += room
            key = key[room:]
            if self._filled == _CHUNK_ROWS:
                self._flush()

    def runs(self) -> Iterator[tuple[list[Codes], Counts]]:
        """All rows: columns and counts of one chunk after another. A row may come again in another chunk."""
        self._flush()
        self._file.seek(0)
        for length in self._run_lengths:
            key = np.frombuffer(self._file.read(8 * length), dtype=np.int64)
            count = np.frombuffer(self._file.read(4 * length), dtype=np.int32)
            yield self._columns(key), count.astype(np.int64)

    def totals(self, column: int, num_codes: int) -> Counts:
        """How often each of the codes below `num_codes` was seen in a column."""
        self._flush()
        return _padded(self._totals[column], num_codes)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()

    def _flush(self) -> None:
        if not self._filled:
            return
        keys = self._keys[: self._filled]
        keys.sort()
        start = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        count = np.diff(start, append=len(keys)).astype(np.int32)
        self._file.seek(0, 2)
        unique = keys[start]
        self._file.write(unique.tobytes())
        self._file.write(count.tobytes())
        self._run_lengths.append(len(start))
        self._filled = 0
        for place, codes in enumerate(self._columns(unique)):
            seen = np.bincount(codes, weights=count).astype(np.int64)  # exact: far below 2**53
            total = _padded(self._totals[place], len(seen))
            total[: len(seen)] += seen
            self._totals[place] = total

    def _columns(self, key: npt.NDArray[np.int64]) -> list[Codes]:
        mask = (1 << _CODE_BITS) - 1
        return [((key >> shift) & mask).astype(np.int32) for shift in self._shifts]


def _padded(total: Counts, size: int) -> Counts:
    return np.concatenate([total, np.zeros(max(0, size - len(total)), dtype=np.int64)])
