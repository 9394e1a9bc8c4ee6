"""Pairs of boxes: windows and geometry, against slow loops written from the definitions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_boxes import slow_counts

from kgtool import box_relations
from kgtool.box_relations import PREDICATES, WINDOWS, iter_relation_counts


def fast_counts(objects, window, geometry, k):
    result = Counter()
    images = np.array([image for image, _, _ in objects], dtype=np.int64)
    classes = np.array([cls for _, cls, _ in objects], dtype=np.int64)
    boxes = np.array([box for _, _, box in objects], dtype=np.float64).reshape(-1, 4)
    for rows in iter_relation_counts(
        images, classes, boxes, window=window, geometry=geometry, num_neighbours=k
    ):
        for s, p, o, n in zip(rows.subject, rows.predicate, rows.object, rows.count, strict=True):
            result[int(s), PREDICATES[p], int(o)] += int(n)
    return result


boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(1, 8),
)  # fmt: skip
scenes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), boxes), max_size=24)


@pytest.mark.parametrize("geometry", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@given(objects=scenes, k=st.integers(1, 4), pairs_at_once=st.sampled_from([1, 7, 1 << 19]))
@settings(max_examples=40, deadline=None)
def test_counts_equal_the_slow_loops(window, geometry, objects, k, pairs_at_once):
    """Whatever the size of a block: one pair at a time, a part of an image, or everything at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_relations, "_PAIRS_AT_ONCE", pairs_at_once)
        assert fast_counts(objects, window, geometry, k) == slow_counts(objects, window, geometry, k)


@pytest.mark.parametrize("window", WINDOWS)
@given(objects=scenes, data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_of_annotations_decides_nothing(window, objects, data):
    shuffled = data.draw(st.permutations(objects))
    assert fast_counts(shuffled, window, True, 2) == fast_counts(objects, window, True, 2)


@given(objects=scenes)
@settings(max_examples=30, deadline=None)
def test_image_and_near_are_symmetric_and_below_mirrors_above(objects):
    for window in ("image", "near"):
        counts = fast_counts(objects, window, False, 1)
        assert counts == Counter({(o, p, s): n for (s, p, o), n in counts.items()})
    typed = fast_counts(objects, "image", True, 1)
    above = {(s, o): n for (s, p, o), n in typed.items() if p == "above"}
    assert above == {(o, s): n for (s, p, o), n in typed.items() if p == "below"}


def test_an_image_counts_once_however_many_pairs_it_has():
    crowd = [(7, 0, (i, 0, i + 1, 1)) for i in range(30)] + [(7, 1, (0, 5, 1, 6))]
    counts = fast_counts(crowd, "image", False, 1)
    assert counts == {(0, "image", 0): 1, (0, "image", 1): 1, (1, "image", 0): 1}


def test_geometry_names_the_pairs_people_would():
    """A cup on a plate on a table: image coordinates grow downwards."""
    table, plate, lamp, far = (0, 50, 100, 100), (10, 60, 30, 70), (40, 0, 60, 40), (900, 60, 950, 110)
    objects = [(1, 0, table), (1, 1, plate), (1, 2, lamp), (1, 3, far)]
    counts = fast_counts(objects, "image", True, 1)
    assert (1, "inside", 0) in counts
    assert (0, "image", 1) in counts  # the table around the plate keeps the window's name
    assert (2, "above", 0) in counts
    assert (0, "below", 2) in counts
    assert (0, "image", 3) in counts  # beside and far
    assert sum(counts.values()) == 12


def test_no_objects_give_no_rows():
    assert fast_counts([], "near", True, 3) == {}
