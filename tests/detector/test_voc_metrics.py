"""Pascal VOC's AP, against its development kit done slowly, and the confusion of classes."""

from pathlib import Path

import numpy as np
import pytest
from detection_examples import ground_truth, random_detections, with_crowds
from tiny_data import change_json, write_data

from detector.annotations import Annotations, load_annotations
from detector.confusion import confusion_matrix
from detector.detections import Detections, to_detections
from detector.overlaps import share_inside
from detector.voc_metrics import voc_ap


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    path = write_data(tmp_path / "data", train=30) / "train.json"
    with_crowds(path, seed=0)
    return load_annotations(path.parent, "train")


def slow_iou(one: list[float], other: list[float]) -> float:
    """Of left, top, right, bottom."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def devkit_ap(annotations: Annotations, detections: Detections, index: int) -> float:
    """VOCevaldet.m and VOCap.m, line by line."""
    truth = ground_truth(annotations)
    boxes = [row for row in range(len(truth)) if truth.class_N[row] == index]
    num_positive = sum(not annotations.crowd_N[row] for row in boxes)
    found = [row for row in range(len(detections)) if detections.class_N[row] == index]
    found.sort(key=lambda row: -detections.score_N[row])
    taken, true, false = set(), [], []
    for row in found:
        best, best_iou = -1, -1.0
        for box in boxes:
            if truth.image_N[box] != detections.image_N[row]:
                continue
            iou = slow_iou(detections.boxes_xyxy[row].tolist(), truth.boxes_xyxy[box].tolist())
            if iou > best_iou:
                best, best_iou = box, iou
        right = best_iou >= 0.5
        counted = not (right and annotations.crowd_N[best])
        true.append(float(right and counted and best not in taken))
        false.append(float(counted and not true[-1]))
        if right and counted:
            taken.add(best)
    recall = [0.0, *(np.cumsum(true) / num_positive), 1.0]
    precision = [0.0, *(np.cumsum(true) / np.maximum(np.cumsum(true) + np.cumsum(false), 1)), 0.0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    return sum(
        (recall[place] - recall[place - 1]) * precision[place]
        for place in range(1, len(recall))
        if recall[place] != recall[place - 1]
    )


@pytest.mark.parametrize("seed", range(5))
def test_ap_is_that_of_the_development_kit(annotations: Annotations, seed: int) -> None:
    detections = random_detections(annotations, seed, count=300)
    found = voc_ap(annotations, detections)
    expected = [devkit_ap(annotations, detections, index) for index in range(3)]
    assert 0.1 < min(expected) < max(expected) < 0.95
    assert found == pytest.approx(np.array(expected))


def test_a_second_detection_of_a_box_and_one_without_a_box_are_wrong(annotations: Annotations) -> None:
    truth = ground_truth(annotations)
    row = int(np.flatnonzero(~annotations.crowd_N)[0])
    of_class = np.flatnonzero((annotations.class_N == annotations.class_N[row]) & ~annotations.crowd_N)
    rows = np.array([row, row, *of_class[of_class != row]])
    twice = truth.select(rows)
    twice = Detections(
        twice.image_N, twice.boxes_xyxy, twice.class_N, np.linspace(1, 0.5, len(rows)).astype(np.float32)
    )
    total = len(of_class)
    best_later = total / (total + 1)  # all boxes but the first are found behind one mistake
    assert voc_ap(annotations, twice)[annotations.class_N[row]] == pytest.approx(
        (1 + (total - 1) * best_later) / total
    )


def test_nothing_found_is_zero_and_nothing_to_find_is_minus_one(annotations: Annotations) -> None:
    nothing = to_detections([], [])
    assert voc_ap(annotations, nothing).tolist() == [0, 0, 0]
    detections = random_detections(annotations, seed=0)
    change_json(annotations.path, lambda document: document.update(annotations=[]))
    empty = load_annotations(annotations.path.parent, "train")
    assert voc_ap(empty, detections).tolist() == voc_ap(empty, nothing).tolist() == [-1, -1, -1]


def slow_confusion(annotations: Annotations, detections: Detections, threshold: float) -> np.ndarray:
    truth, size = ground_truth(annotations), annotations.num_classes
    counts = np.zeros((size + 1, size + 1), dtype=int)
    for image in range(annotations.num_images):
        boxes = [row for row in range(len(truth)) if truth.image_N[row] == image]
        free = [row for row in boxes if not annotations.crowd_N[row]]
        rows = [row for row in range(len(detections)) if detections.image_N[row] == image]
        for row in sorted(rows, key=lambda row: -detections.score_N[row]):
            if detections.score_N[row] < threshold:
                continue
            corners = detections.boxes_xyxy[row].tolist()
            ious = {box: slow_iou(corners, truth.boxes_xyxy[box].tolist()) for box in free}
            best = max(ious, key=ious.__getitem__, default=None)
            if best is not None and ious[best] >= 0.5:
                free.remove(best)
                counts[truth.class_N[best], detections.class_N[row]] += 1
            elif not any(
                annotations.crowd_N[box]
                and share_inside(detections.boxes_xywh()[row], annotations.boxes_xywh[box]) >= 0.5
                for box in boxes
            ):
                counts[size, detections.class_N[row]] += 1
        for box in free:
            counts[truth.class_N[box], size] += 1
    return counts


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_confusion_is_counted_as_by_hand(annotations: Annotations, threshold: float) -> None:
    detections = random_detections(annotations, seed=7, count=150)
    found = confusion_matrix(annotations, detections, score_threshold=threshold)
    assert found.tolist() == slow_confusion(annotations, detections, threshold).tolist()
    assert found[:3, :3].sum() > np.trace(found[:3, :3]) > 0
    assert found[:3].sum() == (~annotations.crowd_N).sum()


def test_true_boxes_are_not_confused(annotations: Annotations) -> None:
    found = confusion_matrix(annotations, ground_truth(annotations))
    assert found[:3, :3].tolist() == np.diag(annotations.boxes_per_class()).tolist()
    assert found[3].tolist() == [0, 0, 0, 0], "what is found of crowds does not count"
    missed = confusion_matrix(annotations, to_detections([], []))
    assert missed[:3, 3].tolist() == annotations.boxes_per_class().tolist()
