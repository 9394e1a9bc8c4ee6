"""Which boxes of one image are related, and how: pairs of objects from boxes alone.

A *window* says which ordered pairs of distinct objects of an image are looked at:

- `image`: every pair;
- `near`: pairs whose boxes are apart by at most the mean of their sides (the side of a box is the square
  root of its area), so that what is near grows with what is looked at;
- `knn`: an object and its k nearest others by the distance of centres. An object as near as the k-th is in
  as well, so the order of the annotations never decides.

*Geometry* names the relation of such a pair, the first of these that holds, subject first:

- `inside`: at least 90 % of the subject's area lies in the object, which is larger;
- `overlaps`: the boxes share area, and neither is inside the other;
- `above`, `below`: the boxes share no area, and the direction from centre to centre is within 45 degrees of
  the vertical;
- `near`: as the window of that name.

A pair that none of them names keeps the name of its window; the object around an `inside` keeps it too.
The order inside, overlap, then direction by sectors is that of Yao, Pan, Li and Mei, "Exploring Visual
Relationship for Image Captioning", ECCV 2018, section 3.2; we join its eight sectors into above, below and
the sides, and tolerate 10 % sticking out where it asks for a box entirely inside, as annotated boxes do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOWS = ("image", "near", "knn")
#: Every predicate a pair can have; a pair's predicate is a position in this tuple.
PREDICATES = ("image", "near", "knn", "inside", "overlaps", "above", "below")

INSIDE_SHARE = 0.9
_PAIRS_AT_ONCE = 1 << 19

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RelationCounts:
    """Numbers of images by relation: one row a (subject class, predicate, object class), each once.

    Attributes:
        subject: (N,) int64 class positions.
        predicate: (N,) int64 positions in `PREDICATES`.
        object: (N,) int64 class positions.
        count: (N,) int64 numbers of images in which at least one pair of objects is so related.
    """

    subject: Integers
    predicate: Integers
    object: Integers
    count: Integers


def iter_relation_counts(
    image_N: Integers,
    class_N: Integers,
    boxes_N4: Floats,
    *,
    window: str = "image",
    geometry: bool = False,
    num_neighbours: int = 5,
) -> Iterator[RelationCounts]:
    """Yield relations of boxes, counted once an image, some images at a time; the sums are the data set's.

    An image counts once for a (subject class, predicate, object class) however many pairs it has, as in the
    co-occurrence of labels (Chen, Wei, Wang and Guo, "Multi-Label Image Recognition with Graph Convolutional
    Networks", CVPR 2019, section 3.4): one crowd would otherwise outweigh a thousand pictures. A class is
    related to itself where two of its objects are. Both directions of a pair are there, so symmetric
    relations have symmetric counts.

    Args:
        image_N: image of each object, any integers, in any order.
        class_N: class position of each object, from 0.
        boxes_N4: xyxy in pixels, with positive width and height.
        window: one of `WINDOWS`.
        geometry: name pairs by geometry instead of by window.
        num_neighbours: k of the window `knn`.

    Yields:
        Counts of some images. Memory grows with the square of one image's objects at most, and never with
        the number of images.
    """
    num_classes = int(class_N.max(initial=0)) + 1
    for _, seen in _seen(image_N, class_N, boxes_N4, num_classes, window, geometry, num_neighbours):
        relation, count = _unique(seen % (len(PREDICATES) * num_classes**2))
        rest, object_ = np.divmod(relation, num_classes)
        predicate, subject = np.divmod(rest, num_classes)
        if len(count):
            yield RelationCounts(subject, predicate, object_, count)


def iter_image_relations(
    image_N: Integers,
    class_N: Integers,
    boxes_N4: Floats,
    *,
    window: str = "image",
    num_neighbours: int = 5,
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Yield which classes are related in which image: what `iter_relation_counts` counts.

    Args:
        image_N: as there.
        class_N: as there.
        boxes_N4: as there.
        window: as there.
        num_neighbours: as there.

    Yields:
        Image, subject class and object class, (N,) each; every combination once.
    """
    num_classes = int(class_N.max(initial=0)) + 1
    for image_ids, seen in _seen(image_N, class_N, boxes_N4, num_classes, window, False, num_neighbours):
        image, relation = np.divmod(seen, len(PREDICATES) * num_classes**2)
        subject, object_ = np.divmod(relation % num_classes**2, num_classes)
        yield image_ids[image], subject, object_


def _seen(
    image_N: Integers,
    class_N: Integers,
    boxes_N4: Floats,
    num_classes: int,
    window: str,
    geometry: bool,
    num_neighbours: int,
) -> Iterator[tuple[Integers, Integers]]:
    """Chunks of images: the image of each row, and unique numbers of first row, predicate and two classes."""
    order = np.lexsort((class_N, image_N))
    image_N, class_N, boxes_N4 = image_N[order], class_N[order], boxes_N4[order]
    if window == "image" and not geometry:
        kept = _first_two_of_each_class(image_N, class_N)
        image_N, class_N, boxes_N4 = image_N[kept], class_N[kept], boxes_N4[kept]
    first, last = _image_bounds(image_N)
    for start, stop in _chunks_of_images(first, last):
        keys = []
        for subject, other in _pairs(start, stop, first, last):
            subject, other, predicate = _named(subject, other, boxes_N4, window, geometry, num_neighbours)
            key = (first[subject] - start) * len(PREDICATES) + predicate
            key = (key * num_classes + class_N[subject]) * num_classes + class_N[other]
            keys.append(_unique(key)[0])
        yield image_N[start:stop], _unique(np.concatenate(keys))[0]


def name_pairs(subject_N4: Floats, object_N4: Floats) -> Integers:
    """Name the relation of pairs of boxes by geometry.

    Args:
        subject_N4: xyxy in pixels, with positive width and height.
        object_N4: the same, one for each subject.

    Returns:
        (N,) positions in `PREDICATES`; that of `image` for a pair that none of the others names.
    """
    return _geometry(subject_N4, object_N4, np.full(len(subject_N4), PREDICATES.index("image")))


def _unique(values: Integers) -> tuple[Integers, Integers]:
    """Ascending unique values and how often each occurs; `np.unique` takes many times longer here."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    return ordered[starts], np.diff(starts, append=len(ordered))


def _first_two_of_each_class(image_N: Integers, class_N: Integers) -> npt.NDArray[np.bool_]:
    """Two objects of a class are enough to know all class pairs of an image, itself with itself included."""
    kept = np.ones(len(image_N), dtype=np.bool_)
    kept[2:] = (image_N[2:] != image_N[:-2]) | (class_N[2:] != class_N[:-2])
    return kept


def _image_bounds(image_N: Integers) -> tuple[Integers, Integers]:
    """First row and one past the last row of each row's image, for rows sorted by image."""
    return np.searchsorted(image_N, image_N, side="left"), np.searchsorted(image_N, image_N, side="right")


def _chunks_of_images(first: Integers, last: Integers) -> Iterator[tuple[int, int]]:
    """Row ranges of whole images with about `_PAIRS_AT_ONCE` pairs, at least one image each."""
    pairs_before = np.concatenate([[0], np.cumsum(last - first)])
    start = 0
    while start < len(first):
        reach = int(np.searchsorted(pairs_before, pairs_before[start] + _PAIRS_AT_ONCE, side="right")) - 1
        stop = int(first[reach]) if reach < len(first) else len(first)
        stop = max(stop, int(last[start]))
        yield start, stop
        start = stop


def _pairs(start: int, stop: int, first: Integers, last: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Ordered pairs of distinct rows of one image, all pairs of a subject together, in bounded blocks."""
    step = max(1, _PAIRS_AT_ONCE // int((last[start:stop] - first[start:stop]).max()))
    step = stop - start if int((last - first)[start:stop].sum()) <= _PAIRS_AT_ONCE else step
    for low in range(start, stop, step):
        rows = np.arange(low, min(low + step, stop))
        sizes = last[rows] - first[rows]
        subject = np.repeat(rows, sizes)
        other = np.arange(len(subject)) + np.repeat(first[rows] - (np.cumsum(sizes) - sizes), sizes)
        distinct = subject != other
        yield subject[distinct], other[distinct]


def _named(
    subject: Integers,
    other: Integers,
    boxes_N4: Floats,
    window: str,
    geometry: bool,
    num_neighbours: int,
) -> tuple[Integers, Integers, Integers]:
    """The pairs that are in the window, with their predicates."""
    if window == "knn":
        kept = _among_nearest(subject, _centre_distance(boxes_N4[subject], boxes_N4[other]), num_neighbours)
        subject, other = subject[kept], other[kept]
    elif window == "near":
        kept = _is_near(boxes_N4[subject], boxes_N4[other])
        subject, other = subject[kept], other[kept]
    predicate = np.full(len(subject), PREDICATES.index(window))
    if geometry:
        predicate = _geometry(boxes_N4[subject], boxes_N4[other], predicate)
    return subject, other, predicate


def _centre_distance(a_N4: Floats, b_N4: Floats) -> Floats:
    """Square of twice the distance between centres: enough to compare, and exact for whole pixels."""
    offset_N2 = b_N4[:, :2] + b_N4[:, 2:] - a_N4[:, :2] - a_N4[:, 2:]
    return np.asarray((offset_N2**2).sum(axis=1))


def _among_nearest(subject: Integers, distance: Floats, num_neighbours: int) -> npt.NDArray[np.bool_]:
    """Whether a pair's distance is at most its subject's k-th smallest; `subject` is sorted."""
    ordered = distance[np.lexsort((distance, subject))]
    begin = np.searchsorted(subject, subject, side="left")
    end = np.searchsorted(subject, subject, side="right")
    return np.asarray(distance <= ordered[np.minimum(begin + num_neighbours, end) - 1])


def _is_near(a_N4: Floats, b_N4: Floats) -> npt.NDArray[np.bool_]:
    gap_N2 = np.maximum(np.maximum(a_N4[:, :2] - b_N4[:, 2:], b_N4[:, :2] - a_N4[:, 2:]), 0)
    reach = 0.5 * (np.sqrt(_area(a_N4)) + np.sqrt(_area(b_N4)))
    return np.asarray((gap_N2**2).sum(axis=1) <= reach**2)


def _area(boxes_N4: Floats) -> Floats:
    return np.asarray((boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1]))


def _geometry(a_N4: Floats, b_N4: Floats, otherwise: Integers) -> Integers:
    """Position in `PREDICATES` of the relation of each pair (subject a, object b)."""
    sides_N2 = np.minimum(a_N4[:, 2:], b_N4[:, 2:]) - np.maximum(a_N4[:, :2], b_N4[:, :2])
    shared = np.where((sides_N2 > 0).all(axis=1), sides_N2[:, 0] * sides_N2[:, 1], 0.0)
    area_a, area_b = _area(a_N4), _area(b_N4)
    inside = (area_a < area_b) & (shared >= INSIDE_SHARE * area_a)
    around = (area_b < area_a) & (shared >= INSIDE_SHARE * area_b)
    across, down = (b_N4[:, :2] + b_N4[:, 2:] - a_N4[:, :2] - a_N4[:, 2:]).T
    vertical = np.abs(down) > np.abs(across)
    conditions = [inside, around, shared > 0, vertical & (down > 0), vertical, _is_near(a_N4, b_N4)]
    names = ["inside", None, "overlaps", "above", "below", "near"]
    choices = [
        otherwise if name is None else np.full_like(otherwise, PREDICATES.index(name)) for name in names
    ]
    return np.select(conditions, choices, otherwise)
