"""Soft-NMS against loops written from its paper, and the options of both kinds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor

from detector.boxes import greedy_nms
from detector.errors import ConfigError
from detector.nms import GreedyNMSConfig, SoftNMSConfig, soft_nms

LIMITS = {"score_threshold": 0.02, "limit": 100}


def overlapping(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=generator) * 20], dim=1)
    return boxes, (torch.randn(count, 4, generator=generator) * 2).softmax(dim=1)


def slow_iou(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inside = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (areas[0] + areas[1] - inside)


def slow_soft_nms(boxes: np.ndarray, scores: np.ndarray, config: SoftNMSConfig) -> list[tuple]:
    """Figure 2 of the paper, class by class; then all classes together, best first."""
    kept = []
    for label in range(1, scores.shape[1]):
        left = {row: scores[row, label] for row in range(len(boxes)) if scores[row, label] > 0.02}
        while left:
            best = max(left, key=left.__getitem__)
            score = left.pop(best)
            if score > 0.02:
                kept.append((score, best, label))
            for row in left:
                overlap = slow_iou(boxes[best], boxes[row])
                if config.method == "gaussian":
                    left[row] *= np.exp(-(overlap**2) / config.sigma)
                elif overlap >= config.iou:
                    left[row] *= 1 - overlap
    return sorted(kept, reverse=True)


@pytest.mark.parametrize(
    "config", [SoftNMSConfig("linear", iou=0.3), SoftNMSConfig("gaussian", sigma=0.5)], ids=str
)
@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_is_that_of_the_paper_done_by_hand(config: SoftNMSConfig, seed: int) -> None:
    boxes, scores = overlapping(5 if seed else 40, seed)
    found_boxes, found_scores, labels = soft_nms(boxes, scores, config=config, **LIMITS)
    expected = slow_soft_nms(boxes.double().numpy(), scores.double().numpy(), config)
    np.testing.assert_allclose(found_scores.numpy(), [score for score, _, _ in expected], rtol=1e-5)
    assert labels.tolist() == [label for _, _, label in expected]
    assert torch.equal(found_boxes, boxes[[row for _, row, _ in expected]])


@given(st.integers(0, 10_000), st.sampled_from(["linear", "gaussian"]), st.integers(0, 12))
def test_a_limit_gives_the_best_of_what_there_is_without_it(seed: int, method: str, limit: int) -> None:
    boxes, scores = overlapping(8, seed)
    config = SoftNMSConfig(method)
    whole = soft_nms(boxes, scores, config=config, score_threshold=0.0, limit=100)
    cut = soft_nms(boxes, scores, config=config, score_threshold=0.0, limit=limit)
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one[:limit], other)


@given(st.integers(0, 10_000))
def test_a_score_never_rises_and_no_overlap_leaves_it_alone(seed: int) -> None:
    boxes, scores = overlapping(6, seed)
    apart = boxes + torch.arange(6)[:, None] * 1000
    for method in ("linear", "gaussian"):
        _, soft, _ = soft_nms(apart, scores, config=SoftNMSConfig(method), **LIMITS)
        _, plain, _ = greedy_nms(apart, scores, iou=0.5, **LIMITS)
        torch.testing.assert_close(soft, plain)
        _, fallen, _ = soft_nms(boxes, scores, config=SoftNMSConfig(method), **LIMITS)
        assert (fallen <= plain[: len(fallen)] + 1e-6).all()


def test_soft_nms_keeps_a_box_that_greedy_suppression_loses() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]])
    scores = torch.tensor([[0.1, 0.9], [0.2, 0.8]])
    _, greedy, _ = greedy_nms(boxes, scores, iou=0.5, **LIMITS)
    _, soft, _ = soft_nms(boxes, scores, config=SoftNMSConfig("linear"), **LIMITS)
    np.testing.assert_allclose(greedy.numpy(), [0.9])
    np.testing.assert_allclose(soft.numpy(), [0.9, 0.8 * (1 - 0.8)], rtol=1e-5)


def test_a_detector_detects_with_the_removal_of_its_configuration() -> None:
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2))]
    counts = {}
    for removal in (GreedyNMSConfig(0.1), SoftNMSConfig()):
        model = tiny_model(duplicate_removal=removal, score_threshold=0.05, detections_per_image=300).eval()
        with torch.no_grad():
            counts[type(removal)] = len(model(images)[0]["boxes"])
    assert counts[SoftNMSConfig] > counts[GreedyNMSConfig] > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GreedyNMSConfig(1.5), "duplicate_removal.iou: found 1.5"),
        (lambda: SoftNMSConfig("hard"), 'duplicate_removal.method: found "hard"; expected linear'),
        (lambda: SoftNMSConfig(iou=-1.0), "duplicate_removal.iou: found -1.0"),
        (lambda: SoftNMSConfig(sigma=0.0), "duplicate_removal.sigma: found 0.0; expected a number above 0"),
    ],
)
def test_a_wrong_option_is_told(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
