"""Two steps of training on record for every head, block, loss and update: a refactoring changes nothing."""

import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from tiny_models import ARMS, NUM_CLASSES, random_graph, tiny_config, tiny_model

from detector.config import BackboneConfig, StageConfig
from detector.context_blocks import (
    CBAMConfig,
    GlobalContextConfig,
    NonLocalConfig,
    SqueezeExcitationConfig,
)
from detector.interfaces import TwoLinearConfig
from detector.rcnn import build_model
from detector.reasoning.class_lift import ClassLiftConfig
from detector.reasoning.glore import GloReConfig
from detector.reasoning.relation_networks import LearnedRemovalConfig
from detector.reasoning.vcrnet import VCRConfig

GOLDEN: dict[str, list[float]] = {
    "faster": [2.59528, 2.41206],
    "stacked": [3.70393, 3.46732],
    "printed": [3.68991, 3.45455],
    "released": [3.60242, 3.34840],
    "working": [3.65379, 3.44034],
    "sgrn": [3.66616, 3.38276],
    "sgrn_working": [3.63502, 3.33460],
}

HEAD = TwoLinearConfig(16)
REMOVAL = {"first": 20, "width": 16, "heads": 2, "key_width": 4}

#: One thing at a time beside the plain detector ("faster").
CHANGES: dict[str, tuple[dict[str, object], list[float]]] = {
    "nothing": ({}, [4.30627, 3.93163]),
    "glore": ({"backbone": BackboneConfig("tiny", blocks=(GloReConfig(at=()),))}, [5.38161, 5.00926]),
    "vcrnet": ({"backbone": BackboneConfig("tiny", blocks=(VCRConfig(concepts=8),))}, [4.7829, 3.96865]),
    "vcrnet_pixel": (
        {"backbone": BackboneConfig("tiny", blocks=(VCRConfig(concepts=8, level="pixel"),))},
        [4.499, 3.81531],
    ),
    "se": (
        {"backbone": BackboneConfig("tiny", blocks=(SqueezeExcitationConfig(reduction=4),))},
        [3.95791, 3.82231],
    ),
    "cbam": ({"backbone": BackboneConfig("tiny", blocks=(CBAMConfig(reduction=4),))}, [3.8164, 3.9019]),
    "gc": (
        {"backbone": BackboneConfig("tiny", blocks=(GlobalContextConfig(reduction=4),))},
        [4.89537, 4.54783],
    ),
    "non_local": (
        {"backbone": BackboneConfig("tiny", blocks=(NonLocalConfig(at=("coarse",)),))},
        [5.25344, 4.91825],
    ),
    "seesaw": ({"stages": (StageConfig(HEAD, class_loss="seesaw"),)}, [4.86507, 4.38374]),
    "eql_v2": ({"stages": (StageConfig(HEAD, class_loss="eql_v2"),)}, [10.9386, 3.00319]),
    "class_lift": (
        {"stages": (StageConfig(HEAD, score_update=ClassLiftConfig(learned=True)),)},
        [4.10731, 3.74199],
    ),
    "learned_removal": ({"duplicate_removal": LearnedRemovalConfig(**REMOVAL)}, [4.39033, 4.03824]),
    "learned_removal_released": (
        {"duplicate_removal": LearnedRemovalConfig(form="released", **REMOVAL)},
        [4.90372, 4.50414],
    ),
}


@pytest.mark.parametrize("name", ARMS)
def test_two_steps_of_training_give_the_losses_on_record(name: str) -> None:
    assert two_losses(tiny_model(*ARMS[name], **WITHOUT_CHANCE)) == pytest.approx(GOLDEN[name], rel=1e-3)


@pytest.mark.parametrize("name", CHANGES)
def test_with_one_thing_changed_they_are_those_on_record_too(name: str) -> None:
    changes, golden = CHANGES[name]
    counts = (20 * random_graph()).round()
    torch.manual_seed(0)
    model = build_model(tiny_config(**WITHOUT_CHANCE, **changes), NUM_CLASSES, None, counts + counts.T)
    assert two_losses(model, lr=0.001, spread=2.0) == pytest.approx(golden, rel=1e-3)
