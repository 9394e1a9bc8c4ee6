"""One part of a detector trains, the others stay bit for bit."""

import pytest
import torch
from tiny_models import squares, tiny_model

from detector.config import TrainConfig
from detector.errors import ConfigError
from detector.freezing import freeze_others, set_training
from detector.optimizer import build_optimizer
from detector.rcnn import RCNN
from detector.reasoning.relation_networks import LearnedRemovalConfig


def learned_model() -> RCNN:
    return tiny_model(duplicate_removal=LearnedRemovalConfig(width=16, heads=4, key_width=4))


def changed_by_a_step(part: str) -> set[str]:
    """Names of the tensors, running statistics included, that one step of training changes."""
    model = learned_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    freeze_others(model, part)
    set_training(model, part)
    optimizer = build_optimizer(model, TrainConfig(optimizer="adamw"))
    torch.stack(list(model(*squares(2)).values())).sum().backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_learned_duplicate_removal_trains_alone_on_a_frozen_detector() -> None:
    changed = changed_by_a_step("duplicate_removal")
    assert changed
    assert all(name.startswith("duplicate_removal.") for name in changed)


def test_no_part_named_trains_everything_with_its_statistics() -> None:
    changed = changed_by_a_step("")
    assert {name.partition(".")[0] for name in changed} == {
        "backbone",
        "proposals",
        "stages",
        "duplicate_removal",
    }
    assert any("running_mean" in name for name in changed)


def test_a_part_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match=r"train.part: found removal; expected .*backbone, duplicate_removal"
    ):
        freeze_others(learned_model(), "removal")
