"""Partners: classes of a sample world that company does not tell apart, but the place of their company does.

In a family with partners, the classes of one scene type that look alike have the same partner, an anchor of
that scene type: one class always has it above, the other below. Which classes are in a picture says nothing
about which of the two it is; where the partner stands says all. Relations are named by geometry
(kgtool/box_relations.py), so that a graph of relations knows it too.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kgtool.box_relations import PREDICATES as BOX_PREDICATES
from kgtool.box_relations import name_pairs
from kgtool.sample_images import IMAGE_SIZE
from kgtool.sample_layout import OVERLAP_LIMIT, candidate_boxes, nearest, overlap

ABOVE, BELOW = -1, 1
#: Pixels between a class and its partner, fewest and most.
GAP = (3, 8)
#: How far a partner stands to the side, at most, as a share of how far it stands above or below.
SIDEWAYS = 0.4
#: Predicates with synsets; the last one is of pairs that geometry does not name.
PREDICATES = {
    "inside": ("inside.r.01",),
    "overlaps": (),
    "above": ("above.r.01",),
    "below": ("below.r.01",),
    "near": ("about.r.07",),
    "next to": ("next.r.01",),
}
_NUMBER = {name: number for number, name in enumerate(PREDICATES)}
_NUMBER_OF_BOX_PREDICATE = np.array([_NUMBER.get(name, _NUMBER["next to"]) for name in BOX_PREDICATES])

Box = tuple[int, int, int, int]


def place_with_partners(
    labels: NDArray[np.int64],
    partner_of: NDArray[np.int64],
    side_of: NDArray[np.int64],
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place objects and their partners, each where it overlaps the others little enough.

    Args:
        labels: (N,) classes.
        partner_of: (C,) class of each class's partner, -1 for none.
        side_of: (C,) where the partner stands: ABOVE or BELOW.
        sizes: smallest and largest size, pixels.
        rng: the picture's own generator.

    Returns:
        (M, 4) xyxy boxes, whole pixels inside the picture, and (M,) their classes, partners behind their own.
    """
    boxes: list[Box] = []
    classes: list[int] = []
    for label in labels.tolist():
        partner = int(partner_of[label])
        group = [label] if partner < 0 else [label, partner]
        for box in candidate_boxes(sizes, rng):
            placed = [box] if partner < 0 else [box, _partner_box(box, int(side_of[label]), sizes, rng)]
            if all(_is_inside(one) and _is_free(one, boxes) for one in placed):
                break
        boxes += placed
        classes += group
    return np.array(boxes, dtype=np.int64), np.array(classes, dtype=np.int64)


def relate_by_place(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Relate each object to those whose centres are nearest, under the predicate that its place has.

    Args:
        boxes: (N, 4) xyxy, at least three.

    Returns:
        (2N, 3) rows of subject, position in `PREDICATES`, object, in the order of the subjects.
    """
    others = nearest(boxes)
    subject, other = np.repeat(np.arange(len(boxes)), others.shape[1]), others.ravel()
    floats = boxes.astype(np.float64)
    predicate = _NUMBER_OF_BOX_PREDICATE[name_pairs(floats[subject], floats[other])]
    return np.column_stack([subject, predicate, other])


def choose_partners(
    alike: Sequence[Sequence[int]], is_anchor: NDArray[np.bool_], scene_type_of_class: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the classes that look alike a partner: the anchors of their scene type in turn.

    Args:
        alike: groups of two classes of one scene type.
        is_anchor: (C,).
        scene_type_of_class: (C,).

    Returns:
        (C,) class of each partner, -1 for none, and (C,) its side: ABOVE for the first of a group.
    """
    partner_of = np.full(len(scene_type_of_class), -1)
    side_of = np.zeros(len(scene_type_of_class), dtype=np.int64)
    num_served: Counter[int] = Counter()
    for group in alike:
        scene_type = int(scene_type_of_class[group[0]])
        anchors = np.flatnonzero(is_anchor & (scene_type_of_class == scene_type))
        partner_of[list(group)] = anchors[num_served[scene_type] % len(anchors)]
        side_of[list(group)] = (ABOVE, BELOW)
        num_served[scene_type] += 1
    return partner_of, side_of


def _partner_box(box: Box, side: int, sizes: tuple[int, int], rng: np.random.Generator) -> Box:
    """Draw a partner's box straight enough above or below a box."""
    left, top, right, bottom = next(candidate_boxes(sizes, rng))
    width, height = right - left, bottom - top
    gap = GAP[0] + int(rng.random() * (GAP[1] - GAP[0] + 1))
    first = box[1] - gap - height if side == ABOVE else box[3] + gap
    down = gap + (height + box[3] - box[1]) / 2
    across = round((2 * rng.random() - 1) * SIDEWAYS * down)
    start = (box[0] + box[2] - width) // 2 + across
    return start, first, start + width, first + height


def _is_inside(box: Box) -> bool:
    return min(box) >= 0 and max(box) <= IMAGE_SIZE


def _is_free(box: Box, others: list[Box]) -> bool:
    return all(overlap(box, other) <= OVERLAP_LIMIT for other in others)
