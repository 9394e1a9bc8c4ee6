"""Deformable convolutions: equation 2 in plain loops, the plain convolution at the start, weights by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from random_weights import random_map, randomised
from tiny_models import detect, random_image, squares, tiny_model
from torch import nn
from torchvision.models import resnet18, resnet50

from detector.backbone import build_backbone, load_matching
from detector.config import BackboneConfig, ProposalConfig
from detector.deformable import DeformableConvolution
from detector.errors import ConfigError
from detector.resnet import build_resnet


def read(channel: np.ndarray, y: float, x: float) -> float:
    """Bilinear interpolation; zero outside the map."""
    total = 0.0
    for row in range(channel.shape[0]):
        for column in range(channel.shape[1]):
            near = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            total += near * channel[row, column]
    return total


@pytest.mark.parametrize("stride", [1, 2])
def test_equation_2_of_the_paper_in_plain_loops(stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 2, 3, stride=stride, padding=1, bias=False)
    layer = DeformableConvolution(plain)
    nn.init.normal_(layer.offset.weight, std=0.4)
    image = random_map(1, 3, 5, 6)
    with torch.no_grad():
        found = layer(image)[0].double().numpy()
        offsets = layer.offset(image)[0].double().numpy()
    pixels, weight = image[0].double().numpy(), plain.weight.detach().double().numpy()
    assert np.abs(offsets).max() > 0.5
    for out, row, column in np.ndindex(*found.shape):
        expected = 0.0
        for point, (height, width) in enumerate(np.ndindex(3, 3)):
            dy, dx = offsets[2 * point, row, column], offsets[2 * point + 1, row, column]
            y, x = row * stride - 1 + height + dy, column * stride - 1 + width + dx
            expected += sum(weight[out, c, height, width] * read(pixels[c], y, x) for c in range(3))
        assert found[out, row, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_a_network_starts_as_the_plain_one(name: str) -> None:
    """Offsets start at zero, and torchvision's names are kept: weights of the plain network fit."""
    plain = randomised(build_resnet(name, nn.BatchNorm2d), seed=3)
    deformable = build_resnet(name, nn.BatchNorm2d, deformable=("layer4",)).eval()
    keys = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert all(".offset." in key and key.startswith("layer4") for key in keys.missing_keys)
    layers = [part for part in deformable.modules() if isinstance(part, DeformableConvolution)]
    assert len(layers) == (4 if name == "resnet18" else 3)
    channels = plain.layer4[0].conv1.in_channels
    with torch.no_grad():
        image = random_map(1, channels, 6, 5) * 0.01
        expected, found = plain.layer4(image), deformable.layer4(image)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_only_the_layers_asked_for_are_deformable() -> None:
    network = build_resnet("resnet18", nn.BatchNorm2d, deformable=("layer3", "layer4"))
    names = [name for name, part in network.named_modules() if isinstance(part, DeformableConvolution)]
    assert len(names) == 8
    assert {name.partition(".")[0] for name in names} == {"layer3", "layer4"}
    with pytest.raises(ConfigError, match='found "conv5"; expected some of layer1'):
        build_resnet("resnet18", nn.BatchNorm2d, deformable=("conv5",))
    with pytest.raises(ConfigError, match="expected none for tiny"):
        BackboneConfig("tiny", deformable=("layer4",))


def test_weights_of_torchvision_load_and_only_offsets_are_not_there() -> None:
    torch.manual_seed(1)
    classifier = resnet18(weights=None).state_dict()
    backbone = build_backbone(BackboneConfig("resnet18", deformable=("layer4",)))
    (message,) = load_matching(backbone, classifier, source="torchvision")
    assert "not used" not in message
    own = backbone.state_dict()
    assert torch.equal(own["body.body.layer4.0.conv2.weight"], classifier["layer4.0.conv2.weight"])


def test_names_and_shapes_are_those_of_torchvisions_resnet_50() -> None:
    with torch.device("meta"):
        expected = resnet50(weights=None).state_dict()
        own = build_resnet("resnet50", nn.BatchNorm2d, deformable=("layer4",)).state_dict()
    assert {name: own[name].shape for name in expected} == {
        name: tensor.shape for name, tensor in expected.items()
    }


def test_offsets_train_even_in_a_frozen_layer_and_a_detector_with_them_trains() -> None:
    backbone = BackboneConfig("resnet18", trainable_layers=0, norm="frozen", deformable=("layer4",))
    pyramid = ProposalConfig(((8,), (16,), (32,), (64,), (128,)), (0.5, 1.0, 2.0), 50, 50, 40, 40)
    model = tiny_model(backbone=backbone, proposals=pyramid)
    losses = model(*squares(2))
    torch.stack(list(losses.values())).sum().backward()
    offsets = {name: weight for name, weight in model.named_parameters() if ".offset." in name}
    assert len(offsets) == 8
    assert all(weight.grad is not None and weight.grad.any() for weight in offsets.values())
    assert not model.backbone.body.body.layer4[0].conv1.weight.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.isfinite(found["boxes"]).all() for found in detect(model, [random_image(1)]))


def test_two_steps_of_training_give_the_losses_on_record() -> None:
    backbone = BackboneConfig("resnet18", norm="group", deformable=("layer4",))
    pyramid = replace(WITHOUT_CHANCE["proposals"], anchor_sizes=((8,), (16,), (32,), (64,), (128,)))  # type: ignore[type-var]
    model = tiny_model(backbone=backbone, **(WITHOUT_CHANCE | {"proposals": pyramid}))
    assert two_losses(model, lr=0.002) == pytest.approx([2.04361, 2.13683], rel=1e-3)
