"""Each loss against loops written from its paper, and what it is for: rare classes are pushed less."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_data

from detector.class_losses import EqualizationLossV2, SeesawLoss, SoftmaxLoss, build_class_loss
from detector.errors import ConfigError
from detector.freezing import set_training
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (5, 4))
LABELS = [1, 3, 0, 1, 2]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_seesaw(logits: np.ndarray, labels: list[int], seen: list[float]) -> list[float]:
    """One region after another; class 0 is background."""
    losses = []
    for z, i in zip(logits, labels, strict=True):
        sigma = np.exp(z) / np.exp(z).sum()
        total = math.exp(z[i])
        for j in range(len(z)):
            if j == i:
                continue
            factor = 1.0
            if i != 0 and j != 0:
                factor = min(1.0, (max(seen[j], 1) / max(seen[i], 1)) ** 0.8)
                factor *= max(1.0, (sigma[j] / sigma[i]) ** 2.0)
            total += factor * math.exp(z[j])
        losses.append(-math.log(math.exp(z[i]) / total))
    return losses


def slow_eql(
    logits: np.ndarray, labels: list[int], positive: list[float], negative: list[float]
) -> list[float]:
    """One region after another; adds the gradients to the two lists at the end."""
    losses, gradients = [], []
    for z, label in zip(logits, labels, strict=True):
        loss = 0.0
        for j in range(len(z)):
            ratio = positive[j] / negative[j] if negative[j] else 1.0
            f = sigmoid(12 * (ratio - 0.8))
            weight = 1.0 if j == 0 else 1 + 4 * (1 - f) if j == label else f
            p = sigmoid(z[j])
            loss -= weight * math.log(p if j == label else 1 - p)
            gradients.append((j, j == label, weight * ((1 - p) if j == label else p)))
        losses.append(loss)
    for j, is_label, size in gradients:
        (positive if is_label else negative)[j] += size
    return losses


def test_seesaw_is_what_the_paper_says_over_several_steps() -> None:
    loss, seen = SeesawLoss(3), [0.0] * 4
    for step in range(3):
        logits, labels = LOGITS * (step + 1) / 2, LABELS[: 5 - step] + [1] * step
        for label in labels:
            seen[label] += 1
        found = loss(torch.tensor(logits), torch.tensor(labels))
        assert found.tolist() == pytest.approx(slow_seesaw(logits, labels, seen), rel=1e-4)


def test_equalization_is_what_the_paper_says_over_several_steps() -> None:
    loss, positive, negative = EqualizationLossV2(3), [0.0] * 4, [0.0] * 4
    for step in range(3):
        logits = LOGITS * (step + 1) / 2
        found = loss(torch.tensor(logits), torch.tensor(LABELS))
        assert found.tolist() == pytest.approx(slow_eql(logits, LABELS, positive, negative), rel=1e-4)
    assert loss.positive_K.tolist() == pytest.approx(positive, rel=1e-4)
    assert loss.negative_K.tolist() == pytest.approx(negative, rel=1e-4)


def test_a_rare_class_is_pushed_less_by_a_frequent_one() -> None:
    """The gradient at the rare class's logit, from regions of the frequent class."""
    labels = torch.tensor([1] * 50)
    pushes = []
    for make in (SoftmaxLoss, lambda: SeesawLoss(2), lambda: EqualizationLossV2(2)):
        loss = make()
        for _ in range(5):
            loss(torch.zeros(51, 3), torch.tensor([1] * 50 + [2]))
        logits = torch.zeros(50, 3, requires_grad=True)
        loss(logits, labels).sum().backward()
        assert logits.grad is not None
        pushes.append(float(logits.grad[:, 2].sum()))
    plain, *others = pushes
    assert all(0 <= push < plain / 5 for push in others)


@pytest.mark.parametrize("name", ["softmax", "seesaw", "eql_v2"])
def test_scores_lie_in_0_to_1_and_nothing_is_counted_in_evaluation(name: str) -> None:
    loss = build_class_loss(name, 3)  # type: ignore[arg-type]
    assert isinstance(loss, torch.nn.Module)
    loss.eval()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss(torch.tensor(LOGITS), torch.tensor(LABELS))
    for key, value in loss.state_dict().items():
        assert torch.equal(value, before[key])
    scores = loss.scores(torch.tensor(LOGITS * 20).float())
    assert scores.shape == (5, 4)
    assert 0 <= float(scores.min()) <= float(scores.max()) <= 1
    assert loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("name", ["seesaw", "eql_v2"])
def test_a_detector_trains_with_it(tmp_path: Path, name: str) -> None:
    data = write_data(tmp_path / "data", train=4, test=2)
    settings = {"train.epochs": 25, "train.batch_size": 2, "train.flip": 0, "model.stages.0.class_loss": name}
    config = override(load_recipe("faster_rcnn_sample"), settings)
    result = train(config, data, tmp_path / "run", eval_split="train", quiet=True)
    assert result["metrics"]["AP50"] > 0.5


@pytest.mark.parametrize(
    ("recipe", "key"), [("cascade_sample", "class_scores"), ("class_lift_sample", "class_loss")]
)
def test_sigmoids_are_refused_where_the_logits_are_taken_for_a_softmax(recipe: str, key: str) -> None:
    config = load_recipe(recipe)
    assert override(config, {"model.stages.0.class_loss": "seesaw"}) != config
    with pytest.raises(ConfigError, match=key):
        override(config, {"model.stages.0.class_loss": "eql_v2"})


def test_sigmoids_are_refused_before_a_stage_that_reads_a_softmax() -> None:
    with pytest.raises(ConfigError, match="eql_v2 in the last stage alone"):
        override(load_recipe("reasoning_rcnn_sample"), {"model.stages.0.class_loss": "eql_v2"})
    override(load_recipe("reasoning_rcnn_sample"), {"model.stages.1.class_loss": "eql_v2"})


def test_a_frozen_stage_counts_nothing() -> None:
    model = torch.nn.ModuleDict({"frozen": SeesawLoss(3), "trained": SeesawLoss(3)})
    set_training(model, "trained")
    for loss in model.values():
        loss(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert model["frozen"].seen_K.sum() == 0
    assert model["trained"].seen_K.sum() == 5
