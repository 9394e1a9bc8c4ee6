"""Counting rows: the expression against a Counter, and rows that do not stay in memory."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kgtool import evidence
from kgtool.errors import KgtoolError
from kgtool.evidence import EvidenceCounter, RowSpool, compiled_count, count_expression

fast = settings(max_examples=40, deadline=None)
rows_of_three = arrays.arrays(np.int32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(0, 4))


@pytest.fixture(scope="module")
def counters() -> Iterator[dict[int, EvidenceCounter]]:
    counters = {width: EvidenceCounter(width) for width in (2, 3)}
    yield counters
    for counter in counters.values():
        counter.close()


def counted(index: np.ndarray, count: np.ndarray) -> Counter[tuple[int, ...]]:
    total: Counter[tuple[int, ...]] = Counter()
    for row, number in zip(index.tolist(), count.tolist(), strict=True):
        total[tuple(row)] += number
    return total


@fast
@given(rows_of_three, st.integers(2, 3), st.integers(1, 50), st.data())
def test_equal_rows_are_added_up_and_sorted_in_pieces_of_any_size(
    counters: dict[int, EvidenceCounter], index: np.ndarray, width: int, piece: int, data: st.DataObject
) -> None:
    index = index[:, :width]
    count = np.array(
        data.draw(st.lists(st.integers(1, 9), min_size=len(index), max_size=len(index))), np.int64
    )
    original = evidence._PIECE_ROWS
    try:
        evidence._PIECE_ROWS = piece
        unique, total = counters[width].count(index, count)
    finally:
        evidence._PIECE_ROWS = original
    assert unique.dtype == np.int32
    assert total.dtype == np.int64
    assert counted(unique, total) == counted(index, count)
    assert unique.tolist() == [list(row) for row in sorted(set(map(tuple, index.tolist())))]


def test_large_counts_stay_exact(counters: dict[int, EvidenceCounter]) -> None:
    index = np.zeros((3, 2), dtype=np.int32)
    _, total = counters[2].count(index, np.array([2**51, 2**51, 1]))
    assert total.tolist() == [2**52 + 1]


def test_more_terms_than_21_bits_hold_stay_in_order(counters: dict[int, EvidenceCounter]) -> None:
    """Merged graphs and triples have no limit on terms."""
    index = np.array([[0, 5 << 21, 1], [0, 1, 2], [1, 0, 0], [0, 5 << 21, 0]], dtype=np.int32)
    unique, total = counters[3].count(np.concatenate([index, index[:1]]), np.arange(1, 6))
    assert unique.tolist() == sorted(index.tolist())
    assert total.tolist() == [2, 4, 6, 3]


def test_raw_rows_and_rows_counted_before_count_alike(counters: dict[int, EvidenceCounter]) -> None:
    raw = np.array([[1, 3], [2, 3], [1, 3], [1, 3]], dtype=np.int32)
    before = np.array([[1, 3], [1, 3], [2, 3]], dtype=np.int32)
    for found, expected in zip(
        counters[2].count(raw, np.ones(4, dtype=np.int64)),
        counters[2].count(before, np.array([1, 2, 1])),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@fast
@given(rows_of_three, st.integers(1, 20), st.integers(2, 3), st.integers(1, 7))
def test_the_spool_gives_back_every_row(rows: np.ndarray, chunk: int, width: int, step: int) -> None:
    rows = rows[:, :width]
    original = evidence._CHUNK_ROWS
    try:
        evidence._CHUNK_ROWS = chunk
        spool = RowSpool(width)
        for start in range(0, len(rows), step):
            spool.add(*rows[start : start + step].T)
        for _ in range(2):  # it may be read again, and go on
            total: Counter[tuple[int, ...]] = Counter()
            for columns, count in spool.runs():
                assert len(count) <= chunk
                total += counted(np.stack(columns, axis=1), count)
            assert total == counted(rows, np.ones(len(rows), dtype=np.int64))
            spool.add(*rows[:0].T)
        spool.close()
    finally:
        evidence._CHUNK_ROWS = original


def test_codes_that_do_not_fit_are_an_error_and_not_another_row() -> None:
    spool = RowSpool(3)
    largest = np.array([2**21 - 1], dtype=np.int32)
    spool.add(largest, largest, largest)
    assert next(columns for columns, _ in spool.runs())[0].tolist() == [2**21 - 1]
    with pytest.raises(KgtoolError, match="different names"):
        spool.add(largest, largest + 1, largest)
    spool.close()


def test_nothing_is_left_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = RowSpool(2)
    spool.add(np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32))
    list(spool.runs())
    assert not list(tmp_path.iterdir())  # nor would a killed process leave anything
    spool.close()


@pytest.mark.parametrize("keys", [["subject", "term"], ["subject", "term", "object"]])
def test_the_compiled_count_is_what_ibis_makes_of_the_expression(keys: list[str]) -> None:
    import ibis
    import sqlglot

    rows = ibis.table({**dict.fromkeys(keys, "int32"), "count": "int64"}, name="rows")
    made = ibis.to_sql(count_expression(rows, keys), dialect="duckdb")
    parsed = [sqlglot.parse_one(str(text), dialect="duckdb") for text in (made, compiled_count(keys))]
    assert parsed[0] == parsed[1]
