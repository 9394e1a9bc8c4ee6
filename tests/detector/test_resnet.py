"""ResNets with places for context blocks: torchvision's network outside the blocks, and what stands where."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from random_weights import random_map, randomised
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import BasicBlock, Bottleneck, resnext50_32x4d
from torchvision.ops import FrozenBatchNorm2d

from detector.backbone import build_backbone
from detector.config import BackboneConfig
from detector.context_blocks import GlobalContextConfig, NonLocalConfig, SqueezeExcitationConfig
from detector.errors import ConfigError
from detector.interfaces import BlockConfig, BlockPlace
from detector.overrides import flatten, override
from detector.reasoning.glore import PLACES_50, PLACES_101, GloReConfig
from detector.reasoning.vcrnet import VCRConfig
from detector.resnet import RESNETS, EnrichedResidual, build_resnet


class Times(nn.Module):
    """Multiplies a map by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        return map_BCHW * self.factor


@dataclass(frozen=True)
class TimesMerge:
    place: ClassVar[BlockPlace] = "merge"
    at: tuple[str, ...] = ()
    factor: float = 0.0

    def build(self, channels: int) -> Times:
        return Times(self.factor)


@dataclass(frozen=True)
class TimesBranch(TimesMerge):
    place: ClassVar[BlockPlace] = "branch"


@dataclass(frozen=True)
class TimesAfter(TimesMerge):
    place: ClassVar[BlockPlace] = "after"


def bottleneck(*, strided: bool = False) -> Bottleneck:
    shortcut = (
        nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16)) if strided else None
    )
    return randomised(Bottleneck(8, 4, 2, shortcut) if strided else Bottleneck(16, 4))


@pytest.mark.parametrize("trainable_layers", range(6))
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_without_blocks_a_backbone_is_torchvisions(trainable_layers: int, norm: str) -> None:
    torch.manual_seed(0)
    ours = build_backbone(BackboneConfig("resnet18", trainable_layers=trainable_layers, norm=norm)).body
    torch.manual_seed(0)
    theirs = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d if norm == "batch" else FrozenBatchNorm2d,
        trainable_layers=trainable_layers,
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)
    assert {name: p.requires_grad for name, p in ours.named_parameters()} == {
        name: p.requires_grad for name, p in theirs.named_parameters()
    }
    images = random_map(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = ours.eval()(images), theirs.eval()(images)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_networks_are_those_of_the_names() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in build(norm_layer=None).parameters())
            for name, build in RESNETS.items()
        }
    assert counts["resnet50"] == 25_557_032
    assert counts["resnet101"] == 44_549_160
    assert counts["resnext50_32x4d"] == 25_028_904
    assert counts["resnext101_32x4d"] == 44_177_704


@pytest.mark.parametrize(
    "block",
    [bottleneck(), bottleneck(strided=True), randomised(BasicBlock(16, 16))],
    ids=["bottleneck", "strided", "basic"],
)
def test_an_enriched_residual_without_blocks_is_torchvisions(block: nn.Module) -> None:
    maps = random_map(2, block.conv1.in_channels, 6, 6)
    with torch.no_grad():
        expected = block(maps.clone())
        enriched = EnrichedResidual(block)
        assert list(enriched.state_dict()) == list(block.state_dict())
        assert torch.equal(enriched(maps.clone()), expected)


def test_each_place_is_where_its_name_says() -> None:
    block, maps = bottleneck(), random_map(2, 16, 6, 6)
    with torch.no_grad():
        plain = block(maps.clone())
        found = {}
        for config in (TimesMerge(), TimesBranch(), TimesAfter(factor=3.0)):
            enriched = EnrichedResidual(block)
            enriched.add(config)
            found[config.place] = enriched(maps.clone())
        nothing = block.bn3(block.conv3(torch.zeros(2, 4, 6, 6)))
    torch.testing.assert_close(found["branch"], maps.relu())
    torch.testing.assert_close(found["merge"], (nothing + maps).relu())
    torch.testing.assert_close(found["after"], 3 * plain)


def test_a_block_before_the_merge_stands_in_the_place_of_the_relu() -> None:
    """It may hand on negative numbers; and its gradient is not spoilt by a ReLU in place."""
    block, maps = bottleneck(), random_map(2, 16, 6, 6)
    enriched = EnrichedResidual(block)
    enriched.add(TimesMerge(factor=1.0))
    inner = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(maps)))))
    expected = (block.bn3(block.conv3(inner)) + maps).relu()
    torch.testing.assert_close(enriched(maps), expected)
    enriched = EnrichedResidual(block)
    enriched.add(VCRConfig(concepts=2))
    enriched(maps).sum().backward()


def test_several_blocks_of_one_place_run_in_order() -> None:
    network = build_resnet(
        "resnet18", nn.BatchNorm2d, [TimesAfter(("layer1.0",), 2.0), SqueezeExcitationConfig()]
    )
    residual = network.get_submodule("layer1.0")
    assert [type(block).__name__ for block in residual.after] == ["Times"]
    assert [type(block).__name__ for block in residual.branch] == ["SqueezeExcitation"]
    network = build_resnet(
        "resnet18", nn.BatchNorm2d, [TimesAfter(("layer1.0",), 2.0), TimesAfter(("layer1.0",), 3.0)]
    )
    assert [block.factor.item() for block in network.get_submodule("layer1.0").after] == [2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "config", "places"),
    [
        ("resnet50", GloReConfig(), PLACES_50),
        ("resnet101", GloReConfig(at=PLACES_101), PLACES_101),
        ("resnet50", NonLocalConfig(), ("layer3.4",)),
    ],
)
def test_blocks_stand_at_the_places_asked_for_and_nowhere_else(
    name: str, config: BlockConfig, places: tuple[str, ...]
) -> None:
    with torch.device("meta"):
        network = build_resnet(name, nn.BatchNorm2d, [config])
    found = [place for place, module in network.named_modules() if isinstance(module, EnrichedResidual)]
    assert found == list(places)


def test_without_places_every_residual_block_gets_one() -> None:
    with torch.device("meta"):
        network = build_resnet("resnext101_32x4d", nn.BatchNorm2d, [VCRConfig()])
    assert sum(isinstance(module, EnrichedResidual) for module in network.modules()) == 33


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            BackboneConfig("resnet18", blocks=(GloReConfig(),)),
            'at: found "layer2.2"; this backbone has layer1.0, ',
        ),
        (
            BackboneConfig("resnet18", blocks=(VCRConfig(),)),
            "VCRConfig needs residual blocks with a merging 1x1",
        ),
        (BackboneConfig("resnet50", blocks=(VCRConfig(concepts=7),)), "found 7 for a map of 64 channels"),
        (BackboneConfig("tiny", blocks=(GloReConfig(),)), 'found "layer2.0"; this backbone has fine, coarse'),
        (
            BackboneConfig("resnext101_32x4d", weights="imagenet"),
            'found imagenet for "resnext101_32x4d"',
        ),
    ],
)
def test_blocks_that_do_not_fit_are_one_clear_line(backbone: BackboneConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(backbone)


def test_blocks_train_where_the_layer_around_them_is_frozen() -> None:
    config = BackboneConfig(
        "resnet50", trainable_layers=1, norm="frozen", blocks=(VCRConfig(concepts=16), GloReConfig())
    )
    with torch.device("meta"):
        body = build_backbone(config).body
    trained = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert "body.layer1.0.merge.0.sampler.query" in trained
    assert "body.layer2.0.after.0.norm.weight" in trained
    assert "body.layer2.0.conv1.weight" not in trained
    assert "body.layer4.0.conv1.weight" in trained


@pytest.mark.parametrize(
    "block", [GloReConfig(), VCRConfig(), GlobalContextConfig()], ids=["glore", "vcr", "gc"]
)
def test_weights_of_the_plain_network_fill_an_enriched_one_which_starts_as_the_plain_one(
    block: BlockConfig, tmp_path: Path
) -> None:
    """So ImageNet weights of torchvision can be used where nobody has pre-trained the blocks."""
    torch.manual_seed(0)
    path = tmp_path / "resnext50.safetensors"
    save_file(resnext50_32x4d(weights=None).state_dict(), path)
    maps = []
    for blocks in ((), (block,)):
        torch.manual_seed(1)
        backbone = build_backbone(BackboneConfig("resnext50_32x4d", weights=str(path), blocks=blocks)).eval()
        (message,) = backbone.messages
        with torch.no_grad():
            layers = backbone.body.body(random_map(1, 3, 64, 64))
        maps.append(list(layers.values()))
    assert "not used" not in message
    assert f".{block.place}.0." in message.partition("not there: ")[2]
    for plain, enriched in zip(*maps, strict=True):
        torch.testing.assert_close(enriched, plain)


@pytest.mark.parametrize(
    "block", [GloReConfig(at=("coarse",)), VCRConfig(at=(), concepts=8), SqueezeExcitationConfig()]
)
def test_the_tiny_network_has_blocks_after_its_stages(block: BlockConfig) -> None:
    plain = build_backbone(BackboneConfig("tiny")).state_dict()
    backbone = build_backbone(BackboneConfig("tiny", blocks=(block,)))
    added = backbone.state_dict().keys() - plain.keys()
    assert {name.split(".")[1] for name in added} == set(block.at or ("fine", "coarse"))
    assert plain.keys() <= backbone.state_dict().keys()
    maps = backbone(random_map(2, 3, 64, 64))
    assert maps.maps[0].shape == (2, 48, 16, 16)
    torch.stack([part.square().sum() for part in maps.maps]).sum().backward()


def test_options_of_blocks_are_settings() -> None:
    config = BackboneConfig("resnext50_32x4d", blocks=(VCRConfig(), GloReConfig()))
    flat = flatten(config)
    assert flat["blocks.0.sampler"] == "dynamic"
    assert flat["blocks.1.at"] == PLACES_50
    assert override(config, json.loads(json.dumps(flat))) == config
    changed = override(
        config, {"blocks.0.sampler": "pool", "blocks.1.at": "layer2.0, layer3.1", "blocks.0.at": ""}
    )
    assert changed.blocks == (VCRConfig(sampler="pool"), GloReConfig(at=("layer2.0", "layer3.1")))
    with pytest.raises(
        ConfigError, match=r"setting blocks.0.sampler: found max; expected pool or static or dynamic"
    ):
        override(config, {"blocks.0.sampler": "max"})
    assert override(BackboneConfig(), json.loads(json.dumps(flatten(BackboneConfig())))) == BackboneConfig()
