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

from collections.abc import Iterator, Sequence
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
    ids, sizes_2M = image_columns(images)
    sizes_2M = sizes_2M.astype(objects.boxes_xywh_N4.dtype)
    image_N = position_of(ids, objects.image_id_N)
    selection = _Selection(objects, image_N, sizes_2M, _class_by_code(objects.synsets, table))
    status_N = np.empty(len(image_N), dtype=np.int8)
    for start in range(0, len(status_N), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        class_R, xywh_4R, _ = selection.classes_and_boxes(rows)
        status_N[rows] = _status(objects.synset_N[rows], image_N[rows], class_R, xywh_4R)
    kept, twice = _sorted_unique(selection, np.flatnonzero(status_N == KEPT))
    status_N[twice] = TWICE

    image_K = image_N[kept]
    category_K = np.empty(len(kept), dtype=np.int32)
    xywh_K4 = np.empty((len(kept), 4), dtype=objects.boxes_xywh_N4.dtype)
    num_clipped = num_equal = 0
    for rows in _chunks_of_images(image_K):
        class_R, xywh_4R, clipped_R = selection.classes_and_boxes(kept[rows])
        xywh_K4[rows] = xywh_4R.T
        category_K[rows] = class_R + 1
        num_clipped += int(clipped_R.sum())
        image_class_R = image_K[rows].astype(np.int64) * len(table) + class_R
        num_equal += _num_equal_rows([image_class_R, *xywh_K4[rows].view(np.int64).T])
    annotations = Annotations(
        id_N=_compact(_annotation_ids(objects.object_id_N[kept])),
        image_id_N=_compact(objects.image_id_N[kept]),
        category_id_N=category_K,
        boxes_xywh_N4=xywh_K4,
        area_N=_compact(_areas(xywh_K4)),
        crowd_N=np.zeros(len(kept), dtype=np.int8),
    )
    return Boxes(annotations, kept, status_N, image_N, num_clipped, num_equal)


@dataclass(frozen=True, eq=False)
class _Selection:
    """What is needed to tell the class and the clipped box of any object."""

    objects: ObjectRows
    image_N: np.ndarray
    sizes_2M: np.ndarray
    class_by_code: np.ndarray

    def classes_and_boxes(self, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For some objects: class (R,), -1 for none; clipped box as columns (4, R); whether cut (R,)."""
        boxes = np.ascontiguousarray(self.objects.boxes_xywh_N4[rows].T)
        limits = self.sizes_2M[:, self.image_N[rows]]
        clipped, cut = _clip(boxes, limits)
        return self.class_by_code[self.objects.synset_N[rows]], clipped, cut


def _chunks_of_images(image_K: np.ndarray) -> Iterator[slice]:
    """Cut rows that are sorted by image into chunks of whole images."""
    start = 0
    while start < len(image_K):
        end = min(start + CHUNK_ROWS, len(image_K))
        if end < len(image_K):
            before = int(np.searchsorted(image_K, image_K[end]))
            end = before if before > start else int(np.searchsorted(image_K, image_K[start], side="right"))
        yield slice(start, end)
        start = end


def _status(
    synset_N: np.ndarray, image_N: np.ndarray, class_N: np.ndarray, xywh_4N: np.ndarray
) -> np.ndarray:
    """What becomes of each object; what is written last is what counts first."""
    status_N = np.zeros(len(synset_N), dtype=np.int8)
    status_N[(xywh_4N[2] < 1) | (xywh_4N[3] < 1)] = NO_AREA
    status_N[image_N < 0] = NO_IMAGE
    status_N[class_N < 0] = OTHER_CLASS
    status_N[synset_N == SEVERAL] = SEVERAL_SYNSETS
    status_N[synset_N == EMPTY] = NO_SYNSET
    return status_N


def image_columns(images: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (M,) in ascending order, and widths and heights (2, M + 1): the last ones for unknown images."""
    ids = np.array([image.id for image in images], dtype=np.int64)
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.int64).reshape(-1, 2)
    order = np.argsort(ids)
    return ids[order], np.append(sizes[order], [[0, 0]], axis=0).T.copy()


def _class_by_code(synsets: tuple[str | None, ...], table: ClassTable) -> np.ndarray:
    """The class of each synset code, -1 for none."""
    class_by_synset: dict[str | None, int] = {name: at for at, name in enumerate(table.synsets) if name}
    return np.array([class_by_synset.get(synset, -1) for synset in synsets], dtype=np.int32)


def _clip(xywh_4N: np.ndarray, sizes_2N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip to images of these widths and heights: boxes (4, N), and a mask (N,) of those that changed."""
    start_2N, length_2N = xywh_4N[:2], xywh_4N[2:]
    clipped_2N = np.minimum(np.maximum(start_2N, 0), sizes_2N)
    cut_2N = clipped_2N - start_2N + np.maximum(start_2N + length_2N - sizes_2N, 0)
    return np.concatenate([clipped_2N, length_2N - cut_2N]), (cut_2N[0] != 0) | (cut_2N[1] != 0)


def _sorted_unique(selection: _Selection, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows by image, object id and what they show; apart from them, those equal to the one before."""
    image_K, object_id_K = selection.image_N[kept], selection.objects.object_id_N[kept]
    key = joint_key(image_K, *fitting(object_id_K))
    order = np.argsort(key)
    key = key[order]
    if (key[1:] > key[:-1]).all():
        return kept[order], kept[:0]
    class_K, xywh_4K, _ = selection.classes_and_boxes(kept)
    columns = [image_K, object_id_K, class_K, *xywh_4K]
    order = np.lexsort(columns[::-1])
    same = np.zeros(len(order), dtype=bool)
    same[1:] = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    same &= object_id_K[order] >= 0  # without an id nothing says that it is the same object
    return kept[order[~same]], kept[order[same]]


def _compact(column: np.ndarray) -> np.ndarray:
    """A column in half the memory where its integers allow it."""
    fits = column.dtype.kind == "i" and column.max(initial=0) < 2**31 and column.min(initial=0) >= 0
    return column.astype(np.int32) if fits else column


def _areas(xywh_N4: np.ndarray) -> np.ndarray:
    wide = np.result_type(xywh_N4.dtype, np.int64)
    areas: np.ndarray = np.multiply(xywh_N4[:, 2], xywh_N4[:, 3], dtype=wide)
    return areas


def _annotation_ids(object_ids: np.ndarray) -> np.ndarray:
    ordered = np.sort(object_ids)
    kept = len(ordered) == 0 or (ordered[0] > 0 and bool((ordered[1:] > ordered[:-1]).all()))
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
