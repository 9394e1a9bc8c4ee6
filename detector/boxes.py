"""Geometry of boxes: deltas, clipping, assignment to ground truth, sampling, greedy duplicate removal.

Boxes are xyxy, float32, in absolute pixels. Legend: R regions, G ground-truth boxes, K = C + 1 classes with
background at index `BACKGROUND`.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from detector.knowledge import BACKGROUND

#: exp(dw) is held below 1000 / 16, so that a wild delta cannot overflow (as torchvision and Detectron do).
MAX_LOG_RATIO = math.log(1000.0 / 16)

Std = tuple[float, float, float, float]


def encode_boxes(boxes_R4: Tensor, truth_R4: Tensor, std: Std) -> Tensor:
    """Say how to get from each box to its ground-truth box, as (dx, dy, dw, dh) divided by `std`.

    R-CNN (Girshick et al. 2014), appendix C: centre offsets in units of the box's size, log ratios of sizes.

    Args:
        boxes_R4: where the detector looks; width and height above 0.
        truth_R4: where the object is; width and height above 0.
        std: what each of the four numbers is divided by, so that the targets have a spread of about one.

    Returns:
        deltas_R4.
    """
    centre_R2, size_R2 = _centre_and_size(boxes_R4)
    truth_centre_R2, truth_size_R2 = _centre_and_size(truth_R4)
    deltas_R4 = torch.cat(
        [(truth_centre_R2 - centre_R2) / size_R2, torch.log(truth_size_R2 / size_R2)], dim=1
    )
    return deltas_R4 / deltas_R4.new_tensor(std)


def decode_boxes(deltas_R4: Tensor, boxes_R4: Tensor, std: Std) -> Tensor:
    """Move each box by its deltas: the inverse of `encode_boxes`, computed in float32."""
    deltas_R4 = deltas_R4.float() * deltas_R4.new_tensor(std, dtype=torch.float32)
    centre_R2, size_R2 = _centre_and_size(boxes_R4.float())
    centre_R2 = centre_R2 + deltas_R4[:, :2] * size_R2
    half_R2 = size_R2 * deltas_R4[:, 2:].clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.cat([centre_R2 - half_R2, centre_R2 + half_R2], dim=1)


def clip_boxes(boxes_R4: Tensor, sizes_R2: Tensor) -> Tensor:
    """Cut each box at the border of its image.

    Args:
        boxes_R4: boxes in px.
        sizes_R2: (height, width) in px of the image that each box lies in.
    """
    limit_R4 = sizes_R2.flip(1).repeat(1, 2).to(boxes_R4.dtype)
    return torch.minimum(boxes_R4.clamp(min=0), limit_R4)


def assign_boxes(boxes_R4: Tensor, truth_G4: Tensor, labels_G: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """Give each box the ground-truth box of one image that it overlaps most, or background.

    Args:
        boxes_R4: boxes of one image.
        truth_G4: ground-truth boxes of the same image; G may be 0, then everything is background.
        labels_G: class labels 1..C of the ground truth.
        iou: overlap from which a box counts as the object, in 0..1.

    Returns:
        labels_R (int64) and truth_R4, the best-overlapping ground-truth box of each box (the box itself
        where the image has none).
    """
    if not len(truth_G4) or not len(boxes_R4):
        return labels_G.new_full((len(boxes_R4),), BACKGROUND), boxes_R4
    overlap_R, best_R = box_iou(boxes_R4, truth_G4).max(dim=1)
    labels_R = torch.where(overlap_R >= iou, labels_G[best_R], BACKGROUND)
    return labels_R, truth_G4[best_R]


def sample_labels(labels_R: Tensor, count: int, positive_fraction: float) -> Tensor:
    """Choose at random up to `count` rows of one image, at most `positive_fraction` of them foreground.

    Where there are fewer foreground rows, background fills up (Fast R-CNN, section 2.3).

    Returns:
        int64 row indices, ascending.
    """
    positive = torch.nonzero(labels_R != BACKGROUND).flatten()
    negative = torch.nonzero(labels_R == BACKGROUND).flatten()
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    chosen = [_choose(positive, num_positive), _choose(negative, num_negative)]
    return torch.cat(chosen).sort().values


def greedy_nms(
    boxes_R4: Tensor, scores_RK: Tensor, *, score_threshold: float, iou: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn class scores of one image's regions into detections: threshold, NMS within a class, best `limit`.

    Scores are cut at the threshold first: 3,000 classes cost no more memory than their few scores above it.

    Args:
        boxes_R4: one box a region, shared by all classes.
        scores_RK: class probabilities with background.
        score_threshold: a detection's score is above this.
        iou: of two boxes of one class that overlap more, the lower score goes.
        limit: detections kept at most.

    Returns:
        boxes_N4, scores_N (descending), labels_N (int64, 1..C).
    """
    boxes, scores, labels = above_threshold(boxes_R4, scores_RK, score_threshold)
    # In float64: classes are kept apart by an offset, which leaves float32 half a pixel at the 3,000th class.
    keep = batched_nms(boxes.double(), scores.double(), labels, iou)[:limit]
    return boxes[keep], scores[keep], labels[keep]


def above_threshold(
    boxes_R4: Tensor, scores_RK: Tensor, score_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """List every (region, class) of one image whose score is above the threshold and whose box is not flat.

    Returns:
        boxes_N4, scores_N, labels_N (int64, 1..C), by region and then class.
    """
    candidates_RK = (scores_RK > score_threshold) & ((boxes_R4[:, 2:] - boxes_R4[:, :2]) > 0).all(1)[:, None]
    candidates_RK[:, BACKGROUND] = False
    region, label = torch.nonzero(candidates_RK, as_tuple=True)
    return boxes_R4[region], scores_RK[region, label], label


def _choose(rows: Tensor, count: int) -> Tensor:
    return rows[torch.randperm(len(rows), device=rows.device)[:count]]


def _centre_and_size(boxes_R4: Tensor) -> tuple[Tensor, Tensor]:
    size_R2 = boxes_R4[:, 2:] - boxes_R4[:, :2]
    return boxes_R4[:, :2] + size_R2 / 2, size_R2
