"""Which classes a detector takes for which: a matrix with a row and a column more, for nothing."""

import numpy as np

from detector.annotations import Annotations
from detector.detections import Detections
from detector.overlaps import box_iou, share_inside

#: From this IoU on a detection is about a box, whatever their classes.
IOU_THRESHOLD = 0.5


def confusion_matrix(
    annotations: Annotations, detections: Detections, *, score_threshold: float = 0.5
) -> np.ndarray:
    """Count what the boxes of a split were taken for.

    The best detections choose first: each takes the free box that it overlaps most. Detections of crowds
    do not count.

    Args:
        annotations: the split.
        detections: what was found, classes in the order of `annotations`.
        score_threshold: weaker detections are left out.

    Returns:
        (C + 1, C + 1) int64; rows are true classes, columns found ones, the last of each is nothing:
        detections without a box, and boxes without a detection.
    """
    nothing = annotations.num_classes
    counts = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
    strong = np.flatnonzero(detections.score_N >= score_threshold)
    found = detections.select(strong[np.lexsort((-detections.score_N[strong], detections.image_N[strong]))])
    starts = np.searchsorted(found.image_N, np.arange(annotations.num_images + 1))
    boxes_xywh = found.boxes_xywh()
    for image in range(annotations.num_images):
        truth = slice(annotations.offsets[image], annotations.offsets[image + 1])
        mine = slice(starts[image], starts[image + 1])
        true_G, crowd_G = annotations.class_N[truth], annotations.crowd_N[truth]
        choice_D = _choose(boxes_xywh[mine], annotations.boxes_xywh[truth], crowd_G)
        on_box = choice_D >= 0
        np.add.at(counts, (true_G[choice_D[on_box]], found.class_N[mine][on_box]), 1)
        inside = share_inside(boxes_xywh[mine][:, None], annotations.boxes_xywh[truth][crowd_G])
        of_crowd = (inside >= IOU_THRESHOLD).any(axis=1)
        np.add.at(counts[nothing], found.class_N[mine][~on_box & ~of_crowd], 1)
        missed_G = ~crowd_G
        missed_G[choice_D[on_box]] = False
        np.add.at(counts[:, nothing], true_G[missed_G], 1)
    return counts


def _choose(boxes_D4: np.ndarray, truth_G4: np.ndarray, crowd_G: np.ndarray) -> np.ndarray:
    """The box that each detection takes, (D,), best detection first; -1 for none."""
    iou_DG = np.where(crowd_G, 0.0, box_iou(boxes_D4[:, None], truth_G4[None]))
    choice_D = np.full(len(boxes_D4), -1)
    if not len(truth_G4):
        return choice_D
    for detection, iou_G in enumerate(iou_DG):
        box = int(iou_G.argmax())
        if iou_G[box] >= IOU_THRESHOLD:
            choice_D[detection] = box
            iou_DG[:, box] = 0.0
    return choice_D
