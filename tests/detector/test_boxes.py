"""Geometry against slow definitions in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detector.boxes import (
    assign_boxes,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    greedy_nms,
    sample_labels,
)

STD = (0.1, 0.1, 0.2, 0.2)
corner = st.floats(0, 500, width=32)
side = st.floats(1, 300, width=32)
box = st.tuples(corner, corner, side, side).map(lambda n: [n[0], n[1], n[0] + n[2], n[1] + n[3]])


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([low, low + 5 + torch.rand(count, 2, generator=generator) * 40], dim=1)


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
def test_decoding_undoes_encoding(pairs: list) -> None:
    boxes, truth = (torch.tensor(side, dtype=torch.float32) for side in zip(*pairs, strict=True))
    moved = decode_boxes(encode_boxes(boxes, truth, STD), boxes, STD)
    # as torchvision does, growth beyond 62.5 times the size is not followed
    grown = ((truth[:, 2:] - truth[:, :2]) / (boxes[:, 2:] - boxes[:, :2])).max(dim=1).values > 62
    torch.testing.assert_close(moved[~grown], truth[~grown], rtol=1e-4, atol=2e-2)


def test_deltas_are_those_of_the_r_cnn_paper() -> None:
    box, truth = (10.0, 20.0, 30.0, 60.0), (16.0, 16.0, 26.0, 96.0)
    expected = [
        ((16 + 26) / 2 - (10 + 30) / 2) / 20 / 0.1,
        ((16 + 96) / 2 - (20 + 60) / 2) / 40 / 0.1,
        np.log(10 / 20) / 0.2,
        np.log(80 / 40) / 0.2,
    ]
    deltas = encode_boxes(torch.tensor([box]), torch.tensor([truth]), STD)
    np.testing.assert_allclose(deltas[0].numpy(), expected, rtol=1e-6)


def test_a_wild_delta_does_not_overflow() -> None:
    deltas = torch.tensor([[0.0, 0.0, 1e4, 1e4]])
    assert torch.isfinite(decode_boxes(deltas, torch.tensor([[0.0, 0.0, 10.0, 10.0]]), STD)).all()


def test_boxes_are_clipped_to_their_own_image() -> None:
    boxes = torch.tensor([[-5.0, -5.0, 200.0, 200.0], [-5.0, -5.0, 200.0, 200.0]])
    heights_and_widths = torch.tensor([[50, 100], [70, 60]])
    assert clip_boxes(boxes, heights_and_widths).tolist() == [[0, 0, 100, 50], [0, 0, 60, 70]]


def test_assignment_is_the_best_overlap_at_or_above_the_threshold() -> None:
    boxes, truth = random_boxes(40, seed=1), random_boxes(5, seed=2)
    labels = torch.tensor([3, 1, 4, 1, 5])
    found, matched = assign_boxes(boxes, truth, labels, iou=0.3)
    assert 0 < int((found > 0).sum()) < 40
    for row, candidate in enumerate(boxes.numpy()):
        overlaps = [slow_iou(candidate, object_.numpy()) for object_ in truth]
        best = int(np.argmax(overlaps))
        assert found[row] == (labels[best] if overlaps[best] >= 0.3 else 0)
        if max(overlaps) > 0:
            assert torch.equal(matched[row], truth[best])


def test_an_overlap_of_exactly_the_threshold_is_foreground() -> None:
    labels, _ = assign_boxes(
        torch.tensor([[0.0, 0.0, 10.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([2]), 0.5
    )
    assert labels.tolist() == [2]


def test_without_ground_truth_everything_is_background() -> None:
    boxes = random_boxes(3, seed=0)
    labels, truth = assign_boxes(boxes, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 0.5)
    assert labels.tolist() == [0, 0, 0]
    assert truth.shape == boxes.shape


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 20), st.sampled_from([0.0, 0.25, 0.4, 1.0]))
def test_samples_are_unique_ascending_and_hold_the_share_of_foreground(
    labels: list[int], count: int, fraction: float
) -> None:
    labels_R = torch.tensor(labels, dtype=torch.int64)
    rows = sample_labels(labels_R, count, fraction)
    positive, negative = int((labels_R > 0).sum()), int((labels_R == 0).sum())
    chosen_positive = int((labels_R[rows] > 0).sum())
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert chosen_positive == min(positive, int(count * fraction))
    assert len(rows) == chosen_positive + min(negative, count - chosen_positive)


def test_samples_come_from_everywhere_and_from_the_seed_alone() -> None:
    labels = torch.tensor([0, 1] * 50)
    torch.manual_seed(1)
    first = [sample_labels(labels, 10, 0.5).tolist() for _ in range(60)]
    torch.manual_seed(1)
    assert first == [sample_labels(labels, 10, 0.5).tolist() for _ in range(60)]
    assert len({row for rows in first for row in rows}) > 90


def slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, iou: float, limit: int) -> list:
    kept: list[tuple[float, int, int]] = []
    candidates = [(score, row, label) for (row, label), score in np.ndenumerate(scores)]
    for score, row, label in sorted(candidates, reverse=True):
        if label == 0 or score <= threshold:
            continue
        rivals = [other for _, other, their_label in kept if their_label == label]
        if all(slow_iou(boxes[row], boxes[other]) <= iou for other in rivals):
            kept.append((score, row, label))
    return kept[:limit]


def test_detections_are_those_of_greedy_nms_done_by_hand() -> None:
    boxes = random_boxes(30, seed=5)
    scores = torch.randn(30, 5, generator=torch.Generator().manual_seed(6)).mul(2).softmax(dim=1)
    found = greedy_nms(boxes, scores, score_threshold=0.1, iou=0.4, limit=12)
    expected = slow_nms(boxes.numpy(), scores.numpy(), 0.1, 0.4, 12)
    assert len(expected) == 12
    np.testing.assert_allclose(found[1].numpy(), [score for score, _, _ in expected])
    assert found[2].tolist() == [label for _, _, label in expected]
    assert torch.equal(found[0], boxes[[row for _, row, _ in expected]])


def test_boxes_without_an_inside_are_no_detections() -> None:
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 8.0, 9.0]])
    found, _, _ = greedy_nms(
        boxes, torch.tensor([[0.1, 0.9], [0.2, 0.8]]), score_threshold=0.05, iou=0.5, limit=9
    )
    assert found.tolist() == [[5, 5, 8, 9]]


def test_no_regions_give_no_detections() -> None:
    boxes, scores, labels = greedy_nms(
        torch.zeros(0, 4), torch.zeros(0, 4), score_threshold=0.05, iou=0.5, limit=9
    )
    assert boxes.shape == (0, 4)
    assert scores.shape == labels.shape == (0,)


def test_a_class_late_in_the_list_is_treated_as_the_first() -> None:
    """Boxes of 8 px that lie 2.6 and 2.7 px apart: IoU 0.51 and 0.495."""
    left = torch.tensor([1300.12, 1302.72, 1300.13, 1302.83])
    top = torch.tensor([100.0, 100.0, 700.0, 700.0])
    boxes = torch.stack([left, top, left + 8, top + 8], dim=1)
    for label in (1, 3000):
        scores = torch.zeros(4, 3001)
        scores[:, label] = torch.tensor([0.9, 0.8, 0.7, 0.6])
        _, kept, _ = greedy_nms(boxes, scores, score_threshold=0.05, iou=0.5, limit=9)
        assert kept.tolist() == pytest.approx([0.9, 0.7, 0.6]), label
