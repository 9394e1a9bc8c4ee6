"""Overlap of boxes in NumPy, for what is counted after training."""

import numpy as np


def box_iou(first_xywh: np.ndarray, second_xywh: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes that stand beside each other, 0..1; the shapes (..., 4) broadcast."""
    shared = _shared_area(first_xywh, second_xywh)
    union = first_xywh[..., 2:].prod(axis=-1) + second_xywh[..., 2:].prod(axis=-1) - shared
    iou: np.ndarray = shared / np.maximum(union, np.finfo(np.float64).tiny)
    return iou


def share_inside(first_xywh: np.ndarray, second_xywh: np.ndarray) -> np.ndarray:
    """Return the share of the first box that lies in the second, 0..1; the shapes (..., 4) broadcast."""
    area = first_xywh[..., 2:].prod(axis=-1)
    share: np.ndarray = _shared_area(first_xywh, second_xywh) / np.maximum(area, np.finfo(np.float64).tiny)
    return share


def _shared_area(first_xywh: np.ndarray, second_xywh: np.ndarray) -> np.ndarray:
    low = np.maximum(first_xywh[..., :2], second_xywh[..., :2])
    ends = (boxes[..., :2] + boxes[..., 2:] for boxes in (first_xywh, second_xywh))
    area: np.ndarray = (np.minimum(*ends) - low).clip(min=0).prod(axis=-1)
    return area
