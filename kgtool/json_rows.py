"""Columns of numbers as text, one row a line: the fast half of writing a large JSON file.

A template such as `{"id":%d,"bbox":[%d,%d]}` is filled once a row. Whole, non-negative numbers (nearly every
COCO file) are written four digits at a time from a table, many rows at once; other numbers go through Python.
Both ways give the same bytes.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

BLOCK_ROWS = 8192
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
    parts[-1] += separator
    columns = [_whole(column) for column in columns]
    num_rows = len(columns[0])
    plain = all(column.dtype.kind in "iu" and column.min(initial=0) >= 0 for column in columns)
    texts = _iter_by_table(parts, columns) if plain else _iter_by_python(parts, columns)
    for number, text in enumerate(texts, start=1):
        last = number * BLOCK_ROWS >= num_rows
        yield text[: len(text) - len(separator.encode())] if last else text


def _whole(column: np.ndarray) -> np.ndarray:
    """Return a float column as integers where every value is a whole number that float64 holds exactly."""
    if column.dtype.kind == "f" and bool(((np.abs(column) < 2**53) & (column == np.trunc(column))).all()):
        return column.astype(np.int64)
    return column


def _iter_by_python(parts: list[str], columns: Sequence[np.ndarray]) -> Iterator[bytes]:
    template = "%s".join(part.replace("%", "%%") for part in parts)
    for start in range(0, len(columns[0]), BLOCK_ROWS):
        cells = [
            [_number(value) for value in column[start : start + BLOCK_ROWS].tolist()] for column in columns
        ]
        yield "".join([template % row for row in zip(*cells, strict=True)]).encode()


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _iter_by_table(parts: list[str], columns: Sequence[np.ndarray]) -> Iterator[bytes]:
    """Copy one row with gaps of NUL many times, write the numbers into the gaps, then drop every NUL."""
    num_words = [-(-len(str(int(column.max(initial=0)))) // 4) for column in columns]
    literals = [part.encode() for part in parts]
    gaps = [bytes(4 * words) for words in (*num_words, 0)]
    row = np.frombuffer(b"".join(map(bytes.__add__, literals, gaps)), np.uint8)
    buffer = bytearray(BLOCK_ROWS * len(row))  # one for all blocks: new memory costs more than filling it
    text = np.frombuffer(buffer, np.uint8).reshape(BLOCK_ROWS, len(row))
    for start in range(0, len(columns[0]), BLOCK_ROWS):
        block = [column[start : start + BLOCK_ROWS] for column in columns]
        num_rows = len(block[0])
        text[:num_rows] = row
        text[num_rows:] = 0
        at = 0
        for literal, column, words in zip(literals, block, num_words, strict=False):
            at += len(literal)
            for word, characters in enumerate(_characters(column, words)):
                place = np.ndarray(num_rows, np.uint32, text, offset=at + 4 * word, strides=len(row))
                place[:] = characters
            at += 4 * words
        yield bytes(buffer.translate(None, b"\0"))


@cache
def _words() -> np.ndarray:
    """Four characters as one uint32 for each number below 10,000, twice, and then nothing at all.

    First come the numbers with NUL for leading zeros, then, from 10,000 on, with the zeros written out.
    """
    digits = np.arange(WORD)[:, None] // np.array([1000, 100, 10, 1])
    written = (digits % 10 + ord("0")).astype(np.uint8)
    blank = np.where(digits > 0, written, 0).astype(np.uint8)
    blank[0, 3] = ord("0")
    nothing = np.zeros((1, 4), dtype=np.uint8)
    return np.concatenate([blank, written, nothing]).view(np.uint32)[:, 0]


def _characters(column: np.ndarray, words: int) -> list[np.ndarray]:
    """For each group of four digits, the highest first, its characters: uint32 (N,)."""
    if words == 1:
        return [_words()[column]]
    characters = []
    rest: np.ndarray = column.astype(np.uint32 if words == 2 else np.uint64)
    for place in reversed(range(words)):
        higher = rest // WORD
        code = (rest - higher * WORD).astype(np.intp)
        code[higher > 0] += WORD
        if place < words - 1:
            code[rest == 0] = 2 * WORD
        characters.append(_words()[code])
        rest = higher
    return characters[::-1]
