"""Columns of ids: the fast look-ups agree with a dictionary and with Python's sort."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.ids import fitting, joint_key, position_of

IDS = st.integers(-1, 50) | st.integers(-1, 2**62) | st.integers(2**24 - 2, 2**24 + 2)


def column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@settings(deadline=None, max_examples=80)
@given(ids=st.lists(IDS, unique=True, max_size=20), data=st.data())
def test_positions_are_those_of_a_dictionary(ids: list[int], data: st.DataObject) -> None:
    known = st.sampled_from(ids) if ids else st.nothing()
    wanted = data.draw(st.lists(known | IDS, max_size=20))
    position_by_id = {value: position for position, value in enumerate(ids)}
    expected = [position_by_id.get(value, -1) for value in wanted]
    assert position_of(column(ids), column(wanted)).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(st.integers(-1, 1000), IDS), max_size=30))
def test_the_joint_key_sorts_as_pairs_do(pairs: list[tuple[int, int]]) -> None:
    (minor,) = fitting(column([second for _, second in pairs]))
    key = joint_key(column([first for first, _ in pairs]), minor)
    assert [pairs[at] for at in np.argsort(key, kind="stable")] == sorted(pairs)
    assert len(np.unique(key)) == len(set(pairs))


@settings(deadline=None, max_examples=40)
@given(first=st.lists(IDS, max_size=10), second=st.lists(IDS, max_size=10))
def test_columns_made_to_fit_together_stay_comparable(first: list[int], second: list[int]) -> None:
    a, b = fitting(column(first), column(second))
    for place, value in enumerate(first):
        assert (b == a[place]).tolist() == [value == other for other in second]
