"""Detections made from a split's own boxes, for tests of what is counted of them."""

from pathlib import Path

import numpy as np
from tiny_data import change_json

from detector.annotations import Annotations
from detector.detections import Detections


def ground_truth(annotations: Annotations) -> Detections:
    """Every box of the data, found with certainty."""
    corners = np.concatenate(
        [annotations.boxes_xywh[:, :2], annotations.boxes_xywh[:, :2] + annotations.boxes_xywh[:, 2:]], axis=1
    )
    images = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
    scores = np.ones(len(corners), dtype=np.float32)
    return Detections(images, corners.astype(np.float32), annotations.class_N, scores)


def random_detections(annotations: Annotations, seed: int, count: int = 400) -> Detections:
    """Boxes of the data, moved, some with a wrong class, some twice; scores have ties."""
    rng = np.random.default_rng(seed)
    truth = ground_truth(annotations)
    rows = rng.integers(0, len(truth), count)
    boxes = truth.boxes_xyxy[rows] + rng.normal(0, 2.0, (count, 4)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    wrong = rng.random(count) < 0.2
    classes = np.where(wrong, rng.integers(0, annotations.num_classes, count), truth.class_N[rows])
    return Detections(truth.image_N[rows], boxes, classes, rng.random(count).round(2).astype(np.float32))


def with_crowds(path: Path, seed: int) -> None:
    """Make some boxes crowds, and give some an area that is not that of their box (a mask's)."""
    rng = np.random.default_rng(seed)

    def change(document: dict) -> None:
        for box in document["annotations"]:
            box["iscrowd"] = int(rng.random() < 0.2)
            box["area"] = float(box["area"] * rng.uniform(1, 20))

    change_json(path, change)
