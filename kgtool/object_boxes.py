"""Objects as boxes of a class list: selected, clipped, sorted, and each one accounted for.

Rules, where the data leaves a choice:

- An object counts when it has exactly one synset and that synset is a class (Jiang et al., "Hybrid Knowledge
  Routed Modules for Large-scale Object Detection", NeurIPS 2018, as released).
- A box is clipped to its image and dropped when less than one pixel wide or high is left. The release drops
  only boxes that are inside out; but a box without area can neither be found nor be evaluated.
- The same object twice (same image, object id, class and box) is one. Equal boxes of one class with different
  object ids stay: two annotators drew them, and the published data keeps them. Both are counted.
- Object ids are kept as annotation ids where they are unique and positive, else boxes are numbered from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kgtool.classes import ClassTable
from kgtool.coco import Annotations, Category, Image
from kgtool.ids import fitting, joint_key, position_of
from kgtool.visual_genome import EMPTY, SEVERAL

#: Rows that are looked at together; their columns stay in a core's cache.
CHUNK_ROWS = 1 << 15
# What became of an object: the first of these that applies. KEPT must be 0.
KEPT, NO_SYNSET, SEVERAL_SYNSETS, OTHER_CLASS, NO_IMAGE, NO_AREA, TWICE = range(7)
REASONS = {
    NO_SYNSET: "object without a synset",
    SEVERAL_SYNSETS: "object with several synsets",
    OTHER_CLASS: "synset not in the class list",
    NO_IMAGE: "image not in image_data",
    NO_AREA: "no box, or less than a pixel of it inside the image",
    TWICE: "the same object twice",
}


@dataclass(frozen=True, eq=False)
class ObjectRows:
    """Objects as columns, one row an object.

    Attributes:
        image_id_N: int64.
        object_id_N: int64; -1 where the object has none.
        synset_N: int32, index into `synsets`.
        boxes_xywh_N4: pixels, integer where all are whole; width and height 0 where an object has no box.
        synsets: the synsets that occur, from number 2 on; 0 stands for none, 1 for several.
        merged_row_M: int64, rows that other objects were merged into, once a merged object.
        merged_id_M: int64, the object ids that are no more.
    """

    image_id_N: np.ndarray
    object_id_N: np.ndarray
    synset_N: np.ndarray
    boxes_xywh_N4: np.ndarray
    synsets: tuple[str | None, ...]
    merged_row_M: np.ndarray
    merged_id_M: np.ndarray


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of a class list, and what became of every object.

    Attributes:
        annotations: sorted by image id, then object id; category c is class c - 1 of the list.
        kept_N: for each of the annotations its row among the objects.
        status_N: int8, for each object KEPT or why not.
        image_N: for each object the position of its image in ascending order of ids, -1 where unknown.
        num_clipped: boxes kept that were cut at the edge of their image.
        num_equal: boxes kept that are equal, class and all, to another of their image.
    """

    annotations: Annotations
    kept_N: np.ndarray
    status_N: np.ndarray
    image_N: np.ndarray
    num_clipped: int
    num_equal: int


def count_synsets(objects: ObjectRows) -> dict[str, int]:
    """Count the objects that have exactly one synset, by synset."""
    counts = np.bincount(objects.synset_N, minlength=len(objects.synsets)).tolist()
    pairs = zip(objects.synsets, counts, strict=True)
    return {synset: count for synset, count in pairs if synset}


def boxes_of_classes(objects: ObjectRows, images: Sequence[Image], table: ClassTable) -> Boxes:
    """Select, clip and sort the boxes of the classes, by the rules above.

    Args:
        objects: the rows of objects.json, in any order.
        images: every known image, in any order.
        table: the classes; one without a synset has no box.
    """
    ids, sizes_M2 = image_columns(images)
    class_by_code = _class_by_code(objects.synsets, table)
    image_N = position_of(ids, objects.image_id_N)
    status_N = np.empty(len(image_N), dtype=np.int8)
    parts = []
    for start in range(0, max(len(image_N), 1), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        synset_N, class_N = objects.synset_N[rows], class_by_code[objects.synset_N[rows]]
        xywh_N4, clipped_N = _clip(objects.boxes_xywh_N4[rows], sizes_M2, image_N[rows])
        status_N[rows] = _status(synset_N, class_N, image_N[rows], xywh_N4)
        kept = np.flatnonzero(status_N[rows] == KEPT)
        parts.append((kept + start, class_N[kept], xywh_N4[kept], clipped_N[kept]))
    kept, class_K, xywh_K4, clipped_K = (np.concatenate(column) for column in zip(*parts, strict=True))
    order, twice = _sorted_unique([image_N[kept], objects.object_id_N[kept], class_K, *xywh_K4.T])
    status_N[kept[twice]] = TWICE
    kept, class_K, xywh_K4 = kept[order], class_K[order], xywh_K4[order]
    annotations = Annotations(
        id_N=_annotation_ids(objects.object_id_N[kept]),
        image_id_N=objects.image_id_N[kept],
        category_id_N=class_K + 1,
        boxes_xywh_N4=xywh_K4,
        area_N=np.multiply(xywh_K4[:, 2], xywh_K4[:, 3], dtype=np.result_type(xywh_K4.dtype, np.int64)),
        crowd_N=np.zeros(len(kept), dtype=np.int8),
    )
    image_class_K = image_N[kept] * np.int64(len(table)) + class_K
    num_equal = _num_equal_rows([image_class_K, *xywh_K4.view(np.int64).T])
    return Boxes(annotations, kept, status_N, image_N, int(clipped_K[order].sum()), num_equal)


def _status(
    synset_N: np.ndarray, class_N: np.ndarray, image_N: np.ndarray, xywh_N4: np.ndarray
) -> np.ndarray:
    """What becomes of each object; what is written last is what counts first."""
    status_N = np.zeros(len(synset_N), dtype=np.int8)
    status_N[(xywh_N4[:, 2] < 1) | (xywh_N4[:, 3] < 1)] = NO_AREA
    status_N[image_N < 0] = NO_IMAGE
    status_N[class_N < 0] = OTHER_CLASS
    status_N[synset_N == SEVERAL] = SEVERAL_SYNSETS
    status_N[synset_N == EMPTY] = NO_SYNSET
    return status_N


def image_columns(images: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (M,) in ascending order, and the widths and heights (M, 2) that go with them."""
    rows = sorted((image.id, image.width, image.height) for image in images)
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, 0].copy(), table[:, 1:].copy()


def _class_by_code(synsets: tuple[str | None, ...], table: ClassTable) -> np.ndarray:
    """The class of each synset code, -1 for none."""
    class_by_synset: dict[str | None, int] = {name: at for at, name in enumerate(table.synsets) if name}
    return np.array([class_by_synset.get(synset, -1) for synset in synsets], dtype=np.int32)


def _clip(xywh_N4: np.ndarray, sizes_M2: np.ndarray, image_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip to the images: boxes (N, 4), and a mask (N,) of those that changed."""
    # The last size is for images that are not known.
    limit_N2 = np.append(sizes_M2, [[0, 0]], axis=0).astype(xywh_N4.dtype)[image_N]
    start_N2, length_N2 = xywh_N4[:, :2], xywh_N4[:, 2:]
    clipped_N2 = np.clip(start_N2, 0, limit_N2)
    cut_N2 = clipped_N2 - start_N2 + np.maximum(start_N2 + length_N2 - limit_N2, 0)
    return np.hstack([clipped_N2, length_N2 - cut_N2]), (cut_N2[:, 0] != 0) | (cut_N2[:, 1] != 0)


def _sorted_unique(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The order of the rows by image, object id and so on, and apart the rows equal to the one before."""
    key = joint_key(columns[0], *fitting(columns[1]))
    order = np.argsort(key)
    key = key[order]
    if (key[1:] > key[:-1]).all():
        return order, order[:0]
    order = np.lexsort(columns[::-1])
    same = np.zeros(len(order), dtype=bool)
    same[1:] = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    same &= columns[1][order] >= 0  # without an id nothing says that it is the same object
    return order[~same], order[same]


def _annotation_ids(object_ids: np.ndarray) -> np.ndarray:
    ordered = np.sort(object_ids)
    kept = len(ordered) == 0 or (ordered[0] > 0 and bool((np.diff(ordered) > 0).all()))
    return object_ids if kept else np.arange(1, len(object_ids) + 1)


def _num_equal_rows(columns: list[np.ndarray]) -> int:
    """Count the rows of int64 columns that are equal to an earlier row; a hash finds the candidates."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed ^= column.view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed)
    same = mixed[order[1:]] == mixed[order[:-1]]
    rows = np.union1d(order[1:][same], order[:-1][same])
    candidates = np.stack([column[rows] for column in columns], axis=1)
    return len(rows) - len(np.unique(candidates, axis=0))


def categories_of(table: ClassTable) -> tuple[Category, ...]:
    """The classes as COCO categories, ids from 1 in the order of the list."""
    pairs = zip(table.names, table.synsets, strict=True)
    return tuple(Category(number, name, synset) for number, (name, synset) in enumerate(pairs, start=1))
