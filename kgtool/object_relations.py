"""Relationships between objects as relations between the boxes that were kept.

An end of a relationship is the object with its `object_id` in the same image, or the object that one was
merged into (`merged_object_ids`). A relationship stays when both its boxes do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kgtool.coco import Image, RelationCategory, Relations
from kgtool.ids import fitting, joint_key, position_of
from kgtool.object_boxes import KEPT, NO_IMAGE, REASONS, Boxes, ObjectRows, image_columns

NO_OBJECT, NO_PREDICATE = max(REASONS) + 1, max(REASONS) + 2
END_REASONS = {
    **REASONS,
    NO_OBJECT: "object id not in objects",
    NO_PREDICATE: "relationship without a predicate",
}


@dataclass(frozen=True, eq=False)
class RelationRows:
    """Relationships as columns, one row a relationship.

    Attributes:
        image_id_L: int64.
        subject_id_L: int64, object ids; -1 where unknown.
        predicate_L: index into `predicates`.
        object_id_L: as `subject_id_L`.
        predicates: folded texts; "" where a relationship has none.
    """

    image_id_L: np.ndarray
    subject_id_L: np.ndarray
    predicate_L: np.ndarray
    object_id_L: np.ndarray
    predicates: tuple[str, ...]


def relations_of_boxes(
    relationships: RelationRows, objects: ObjectRows, boxes: Boxes, images: Sequence[Image]
) -> tuple[tuple[RelationCategory, ...], Relations, dict[str, int]]:
    """Join relationships to the boxes that were kept.

    Returns:
        Predicates that occur, most frequent first (ties by name), with ids from 1; the relations, sorted by
        image, subject, predicate and object, with ids from 1; and the relationships skipped by the first
        reason found, the subject's before the object's.
    """
    image_L = position_of(image_columns(images)[0], relationships.image_id_L)
    ends = _end_annotations(objects, boxes, image_L, relationships.subject_id_L, relationships.object_id_L)
    (subject_L, subject_status_L), (object_L, object_status_L) = ends
    status_L = np.where(subject_status_L == KEPT, object_status_L, subject_status_L)
    status_L[image_L < 0] = NO_IMAGE
    nameless = np.array([name == "" for name in relationships.predicates], dtype=bool)
    status_L[nameless[relationships.predicate_L]] = NO_PREDICATE
    skipped = np.bincount(status_L, minlength=len(END_REASONS) + 1).tolist()
    rows = np.flatnonzero(status_L == KEPT)
    predicates, predicate_id = _predicates(relationships.predicates, relationships.predicate_L[rows])
    columns = (image_L[rows], subject_L[rows], predicate_id, object_L[rows])
    order = np.lexsort(columns[::-1])
    annotation_ids = boxes.annotations.id_N
    relations = Relations(
        id_N=np.arange(1, len(rows) + 1),
        image_id_N=relationships.image_id_L[rows][order],
        subject_id_N=annotation_ids[subject_L[rows][order]],
        predicate_id_N=predicate_id[order],
        object_id_N=annotation_ids[object_L[rows][order]],
    )
    return predicates, relations, {END_REASONS[at]: skipped[at] for at in END_REASONS if skipped[at]}


def _end_annotations(
    objects: ObjectRows, boxes: Boxes, image_L: np.ndarray, *ends: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each end the index of its annotation (any where not kept) and what became of its object."""
    object_ids, merged_ids, *ends_ids = fitting(objects.object_id_N, objects.merged_id_M, *ends)
    rest = np.flatnonzero(boxes.status_N != KEPT)
    rows = np.concatenate([boxes.kept_N, rest, objects.merged_row_M])
    identity = np.concatenate([object_ids[boxes.kept_N], object_ids[rest], merged_ids])
    merged = np.arange(len(rows)) >= len(rows) - len(merged_ids)
    # An id may stand for several rows: an object goes before one that it was merged into, kept before others.
    rank = 8 * merged + boxes.status_N[rows]
    key = joint_key(boxes.image_N[rows], identity)
    order = np.lexsort((rank, key))
    annotation_N = np.full(len(boxes.status_N), -1, dtype=np.int64)
    annotation_N[boxes.kept_N] = np.arange(len(boxes.kept_N))
    # One more entry at the end, greater than any key: what is not there is found here.
    key_R = np.append(key[order], np.iinfo(np.int64).max)
    annotation_R = np.append(annotation_N[rows[order]], -1)
    status_R = np.append(boxes.status_N[rows[order]], NO_OBJECT)
    found = []
    for end, given in zip(ends_ids, ends, strict=True):
        wanted = joint_key(image_L, end)
        at = np.searchsorted(key_R, wanted)
        hit = (key_R[at] == wanted) & (given >= 0)
        found.append((annotation_R[at], np.where(hit, status_R[at], NO_OBJECT)))
    return found


def _predicates(
    names: tuple[str, ...], predicate_L: np.ndarray
) -> tuple[tuple[RelationCategory, ...], np.ndarray]:
    """Predicates that occur, most frequent first, ids from 1; and for each relation its predicate's id."""
    counts = np.bincount(predicate_L, minlength=len(names)).tolist()
    order = sorted((at for at in range(len(names)) if counts[at]), key=lambda at: (-counts[at], names[at]))
    id_by_code = np.zeros(len(names), dtype=np.int64)
    id_by_code[order] = np.arange(1, len(order) + 1)
    categories = tuple(RelationCategory(number, names[at]) for number, at in enumerate(order, start=1))
    return categories, id_by_code[predicate_L]
