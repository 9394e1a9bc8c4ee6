"""Columns of numbers as text, one row a line: the fast half of writing a large JSON file.

A template such as `{"id":%d,"bbox":[%d,%d]}` is filled once a row. Whole, non-negative numbers (nearly every
COCO file) are written four digits at a time from a table, many rows at once; other numbers go through Python.
Both ways give the same bytes.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

BLOCK_ROWS = 16_384
WORD = 10_000  # four decimal digits are looked up at a time


def iter_rows(template: str, columns: Sequence[np.ndarray], *, separator: str = ",\n") -> Iterator[bytes]:
    """Yield the text of the rows, `separator` between them, in blocks of bounded size.

    Args:
        template: text of one row with one `%d` a column.
        columns: one array (N,) a place in the template, integer or float, finite. A float that is a whole
            number is written without a decimal point, others in their shortest exact form.
        separator: text between two rows.
    """
    parts = template.split("%d")
    assert len(parts) == len(columns) + 1, (template, len(columns))
    num_rows = len(columns[0])
    for start in range(0, num_rows, BLOCK_ROWS):
        block = [_whole(column[start : start + BLOCK_ROWS]) for column in columns]
        plain = all(column.dtype.kind in "iu" and column.min() >= 0 for column in block)
        text = (_digits_by_table if plain else _digits_by_python)([*parts[:-1], parts[-1] + separator], block)
        yield text if start + BLOCK_ROWS < num_rows else text[: len(text) - len(separator.encode())]


def _whole(column: np.ndarray) -> np.ndarray:
    """Return a float column as integers where every value is a whole number that float64 holds exactly."""
    if column.dtype.kind == "f" and bool(((np.abs(column) < 2**53) & (column == np.trunc(column))).all()):
        return column.astype(np.int64)
    return column


def _digits_by_python(parts: list[str], columns: list[np.ndarray]) -> bytes:
    template = "%s".join(part.replace("%", "%%") for part in parts)
    cells = [[_number(value) for value in column.tolist()] for column in columns]
    return "".join([template % row for row in zip(*cells, strict=True)]).encode()


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


@cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """Four characters for each number below 10,000: leading zeros as NUL, and leading zeros written out."""
    digits = np.arange(WORD)[:, None] // np.array([1000, 100, 10, 1])
    written = (digits % 10 + ord("0")).astype(np.uint8)
    blank = np.where(digits > 0, written, 0).astype(np.uint8)
    blank[0, 3] = ord("0")
    return blank.view(np.uint32)[:, 0].copy(), written.view(np.uint32)[:, 0].copy()


def _digits_by_table(parts: list[str], columns: list[np.ndarray]) -> bytes:
    """Fill a matrix of characters, one row a line, numbers padded with NUL; then drop every NUL."""
    num_words = [-(-len(str(int(column.max()))) // 4) for column in columns]
    literals = [part.encode() for part in parts]
    num_rows = len(columns[0])
    text = np.empty((num_rows, sum(map(len, literals)) + 4 * sum(num_words)), np.uint8)
    at = 0
    for literal, column, words in zip(literals, [*columns, None], [*num_words, 0], strict=True):
        text[:, at : at + len(literal)] = np.frombuffer(literal, np.uint8)
        at += len(literal) + 4 * words
        if column is not None:
            _fill_words(text[:, at - 4 * words : at], column, words)
    return text.tobytes().translate(None, b"\0")


def _fill_words(place: np.ndarray, column: np.ndarray, words: int) -> None:
    blank, written = _word_tables()
    rest: np.ndarray = column.astype(np.uint32 if words <= 2 else np.uint64)
    for word in reversed(range(words)):
        higher = rest // WORD
        low = (rest - higher * WORD).astype(np.intp)
        characters = np.where(higher > 0, written[low], blank[low]) if words > 1 else blank[low]
        if word < words - 1:
            characters[rest == 0] = 0
        place[:, 4 * word : 4 * word + 4] = characters.view(np.uint8).reshape(-1, 4)
        rest = higher
