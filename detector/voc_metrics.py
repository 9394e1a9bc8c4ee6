"""Pascal VOC's AP at IoU 0.5: the area under precision and recall, as of 2010, not the eleven points of 2007.

Source: VOCevaldet.m of the VOC 2012 development kit. Differences from COCO's AP50: the area instead of 101
points, a detection belongs to the box that it overlaps most even where that is taken, and no limit of
detections. One departure: boxes have no extra pixel in width and height, since COCO's do not. Crowd boxes
stand for difficult ones, as in what `kgtool convert voc` writes: what belongs to them does not count.
"""

import numpy as np

from detector.annotations import Annotations
from detector.detections import Detections
from detector.overlaps import box_iou

IOU_THRESHOLD = 0.5


def voc_ap(annotations: Annotations, detections: Detections) -> np.ndarray:
    """Compute the AP of every class.

    Args:
        annotations: the split.
        detections: what was found, classes in the order of `annotations`.

    Returns:
        (C,) float64, 0..1; -1 where the split has no box of a class but difficult ones.
    """
    order = np.argsort(-detections.score_N, kind="stable")
    found = detections.select(order)
    truth_N = _assigned(annotations, found)
    counts = ~np.append(annotations.crowd_N, False)[truth_N]  # the appended one is that of -1
    first = np.zeros(len(found), dtype=bool)  # the best detection of each box; later ones are wrong
    first[np.unique(truth_N, return_index=True)[1]] = True
    right_N = (truth_N >= 0) & counts & first
    boxes_C = annotations.boxes_per_class()
    by_class = np.argsort(found.class_N[counts], kind="stable")
    ends = np.cumsum(np.bincount(found.class_N[counts], minlength=annotations.num_classes))
    right_by_class = np.split(right_N[counts][by_class], ends[:-1])
    return np.array(
        [_area(right, total) if total else -1.0 for right, total in zip(right_by_class, boxes_C, strict=True)]
    )


def _assigned(annotations: Annotations, found: Detections) -> np.ndarray:
    """The row of the box of its class and image that each detection overlaps most, (N,); -1 below IoU 0.5."""
    num_classes = annotations.num_classes
    image_of_truth = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
    truth_key = image_of_truth * num_classes + annotations.class_N
    by_key = np.argsort(truth_key, kind="stable")
    key_N = found.image_N * num_classes + found.class_N
    start_N = np.searchsorted(truth_key[by_key], key_N)
    count_N = np.searchsorted(truth_key[by_key], key_N, side="right") - start_N
    # Every detection beside every box that it could belong to, P pairs.
    found_P = np.repeat(np.arange(len(found)), count_N)
    within_P = np.arange(len(found_P)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    truth_P = by_key[np.repeat(start_N, count_N) + within_P]
    iou_P = box_iou(found.boxes_xywh()[found_P], annotations.boxes_xywh[truth_P])
    best_first = np.lexsort((within_P, -iou_P, found_P))
    with_pairs, first = np.unique(found_P[best_first], return_index=True)
    best = best_first[first]
    assigned_N = np.full(len(found), -1)
    assigned_N[with_pairs] = np.where(iou_P[best] >= IOU_THRESHOLD, truth_P[best], -1)
    return assigned_N


def _area(right: np.ndarray, total: int) -> float:
    """Area under the curve, where precision is the best at this recall or a higher one."""
    true = np.cumsum(right)
    precision = true / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * right).sum() / total)
