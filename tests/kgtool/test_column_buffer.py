"""Growing columns: what is appended is what is there."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.column_buffer import ColumnBuffer

BATCHES = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=6)


@settings(deadline=None, max_examples=40)
@given(batches=BATCHES)
def test_a_column_is_all_batches_in_order(batches: list[list[int]]) -> None:
    buffer = ColumnBuffer(a=np.int32, b=np.int64)
    for batch in batches:
        buffer.append("a", np.array(batch, dtype=np.int64))
    assert buffer.column("a").tolist() == [value for batch in batches for value in batch]
    assert buffer.column("a").dtype == np.int32
    assert buffer.column("b").tolist() == []


def test_fractions_turn_a_column_of_integers_into_one_of_floats() -> None:
    buffer = ColumnBuffer(a=np.int32)
    for batch in (np.array([[1, 2]]), np.array([[0.5, 3.0]]), np.array([[4, 5]], dtype=np.int32)):
        buffer.append("a", batch)
    assert buffer.column("a").tolist() == [1, 2, 0.5, 3, 4, 5]
