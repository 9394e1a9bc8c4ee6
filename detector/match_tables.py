"""Which detection is right, kept by image: AP of any resample of the images without matching again.

A detection's match does not depend on other images. So images that are drawn several times, or not at all,
only change how often each match counts (the bootstrap: Efron, "Bootstrap methods", 1979).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.annotations import Annotations
from detector.coco_metrics import IOU_THRESHOLDS, Overlap, match_blocks
from detector.detections import Detections

#: Where COCO reads precision.
RECALLS = np.linspace(0.0, 1.0, 101)

#: Numbers that one step works on: bounds memory and changes no result.
STEP_SIZE = 2_000_000

_DETECTIONS = 100  # of one class in an image, COCO's most


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class, best first, and how many boxes there are to find.

    Attributes:
        image_N: int64, position of the image that each was found in.
        right_TN: (10, N) bool, whether it is the match of a box, by IoU threshold.
        counts_TN: (10, N) bool, whether it counts at all; one on a crowd does not.
        boxes_I: int64, boxes of the class in each image, crowds left out.
    """

    image_N: np.ndarray
    right_TN: np.ndarray
    counts_TN: np.ndarray
    boxes_I: np.ndarray


def match_tables(
    annotations: Annotations, detections: Detections, *, overlap: Overlap = "bbox"
) -> list[ClassMatches]:
    """Match detections with the truth once, as COCOeval does, with pycocotools.

    Args:
        annotations: the split.
        detections: what was found, classes in the order of `annotations`.
        overlap: of what the IoU is taken, boxes or masks.

    Returns:
        a table for each class, in the order of `annotations`.
    """
    tables: list[ClassMatches | None] = [None] * annotations.num_classes
    for block, matched in match_blocks(annotations, detections, backend="pycocotools", overlap=overlap):
        position = {image: place for place, image in enumerate(annotations.image_ids.tolist())}
        by_class = _of_all_sizes(matched, len(block))
        for class_index, per_image in zip(block.tolist(), by_class, strict=True):
            tables[class_index] = _class_matches(per_image, position)
    return [table for table in tables if table is not None]


def resample_ap(tables: list[ClassMatches], times_BI: np.ndarray) -> np.ndarray:
    """Return AP by IoU threshold of every class in resamples of the images.

    As COCOeval on a data set in which the images stand as often as they were drawn. Only where detections of
    one class in one image have the same score may it differ: here all copies of one come before the next.

    Args:
        tables: see `match_tables`.
        times_BI: int, how often each image is in each of B resamples; all ones: the images as they are.

    Returns:
        ap_BCT: float32, 0..1; NaN where a resample has no box of a class.
    """
    ap_BCT = np.full((len(times_BI), len(tables), len(IOU_THRESHOLDS)), np.nan, dtype=np.float32)
    for class_index, table in enumerate(tables):
        step = max(1, STEP_SIZE // max(len(table.image_N), len(RECALLS)))
        for start in range(0, len(times_BI), step):
            rows = slice(start, start + step)
            ap_BCT[rows, class_index] = _ap_of_class(table, times_BI[rows])
    return ap_BCT


def _ap_of_class(table: ClassMatches, times_BI: np.ndarray) -> np.ndarray:
    """AP, (B, T); NaN without boxes."""
    boxes_B = times_BI @ table.boxes_I
    times_BN = times_BI[:, table.image_N].astype(np.int32)
    wanted_BR = needed_matches(boxes_B)
    ap_BT = np.full((len(times_BI), len(IOU_THRESHOLDS)), np.nan)
    seen_BN = times_BN.cumsum(axis=1, dtype=np.int32) if table.counts_TN.all() else None
    for threshold, (right_N, counts_N) in enumerate(zip(table.right_TN, table.counts_TN, strict=True)):
        seen = seen_BN if seen_BN is not None else (times_BN * counts_N).cumsum(axis=1, dtype=np.int32)
        right_BM = times_BN[:, right_N].cumsum(axis=1, dtype=np.int32)
        precision_BM = right_BM / (seen[:, right_N] + np.spacing(1))
        ap_BT[:, threshold] = _read_precision(right_BM, precision_BM, wanted_BR).mean(axis=1)
    ap_BT[boxes_B == 0] = np.nan
    return ap_BT


def needed_matches(boxes_B: np.ndarray) -> np.ndarray:
    """Return the fewest matches whose share of the boxes is at least each recall, (B, 101) int64.

    In floating point as COCOeval compares: 3 of 10 is not 0.3 there if division says so.
    """
    known = {
        count: np.searchsorted(np.arange(count + 1) / max(count, 1), RECALLS)
        for count in set(boxes_B.tolist())
    }
    return np.stack([known[count] for count in boxes_B.tolist()])


def _read_precision(right_BM: np.ndarray, precision_BM: np.ndarray, wanted_BR: np.ndarray) -> np.ndarray:
    """The best precision from each wanted number of matches on, (B, 101); 0 where it is not reached."""
    rows, columns = right_BM.shape
    best_BM = np.maximum.accumulate(precision_BM[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([best_BM, np.zeros((rows, 1))], axis=1)
    # One search for all rows: each row's numbers are lifted above those of the row before.
    lift_B1 = np.arange(rows)[:, None] * (int(max(right_BM.max(initial=0), wanted_BR.max(initial=0))) + 1)
    found = np.searchsorted((right_BM + lift_B1).ravel(), (wanted_BR + lift_B1).ravel()).reshape(rows, -1)
    place_BR = np.minimum(found - np.arange(rows)[:, None] * columns, columns)
    return np.take_along_axis(padded, place_BR, axis=1)


def _of_all_sizes(matched: Any, num_classes: int) -> Iterator[list[dict[str, Any]]]:
    """Results of the images of each class, boxes of all sizes; COCOeval has classes, sizes, images."""
    results, sizes = matched.evalImgs, len(matched.params.areaRng)
    images = len(results) // (num_classes * sizes)
    for place in range(num_classes):
        start = place * sizes * images
        yield [result for result in results[start : start + images] if result is not None]


def _class_matches(per_image: list[dict[str, Any]], position: dict[int, int]) -> ClassMatches:
    boxes_I = np.zeros(len(position), dtype=np.int64)
    shape = (len(IOU_THRESHOLDS), 0)
    scores, images = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    right, ignored = [np.zeros(shape, dtype=bool)], [np.zeros(shape, dtype=bool)]
    for result in per_image:
        image = position[result["image_id"]]
        boxes_I[image] = np.count_nonzero(np.asarray(result["gtIgnore"]) == 0)
        scores.append(np.asarray(result["dtScores"], dtype=np.float64)[:_DETECTIONS])
        images.append(np.full(len(scores[-1]), image))
        right.append(np.asarray(result["dtMatches"])[:, :_DETECTIONS] != 0)
        ignored.append(np.asarray(result["dtIgnore"])[:, :_DETECTIONS].astype(bool))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    right_TN, ignored_TN = (np.concatenate(parts, axis=1)[:, order] for parts in (right, ignored))
    return ClassMatches(np.concatenate(images)[order], right_TN & ~ignored_TN, ~ignored_TN, boxes_I)
