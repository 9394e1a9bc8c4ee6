"""Backbones: what trains, what a weights file fills, and what is said about the rest."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import detect, random_image, squares, tiny_model
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.ops import FrozenBatchNorm2d

from detector.backbone import build_backbone, load_matching
from detector.config import BackboneConfig, ProposalConfig
from detector.errors import ConfigError, InputError, MissingResourceError
from detector.interfaces import HeadConfig
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.resnet import build_resnet

NORM_KINDS = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": nn.GroupNorm}


@pytest.mark.parametrize("heads", [(), (ReasoningConfig(width=8, squeeze=6),)], ids=["faster", "reasoning"])
def test_a_resnet_with_feature_pyramid_trains_and_detects(heads: tuple[HeadConfig, ...]) -> None:
    pyramid = ProposalConfig(((8,), (16,), (32,), (64,), (128,)), (0.5, 1.0, 2.0), 50, 50, 40, 40)
    model = tiny_model(*heads, backbone=BackboneConfig("resnet18"), proposals=pyramid)
    losses = model([random_image(1), random_image(2, 48, 80)], squares(2)[1])
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert len(detect(model, [random_image(1)])) == 1


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
@pytest.mark.parametrize(("norm", "kind"), NORM_KINDS.items())
def test_a_backbone_normalises_as_asked(name: str, norm: str, kind: type[nn.Module]) -> None:
    backbone = build_backbone(BackboneConfig(name, norm=norm))
    norms = [module for module in backbone.modules() if isinstance(module, tuple(NORM_KINDS.values()))]
    assert len(norms) > 3
    assert all(type(module) is kind for module in norms)


def test_a_c5_backbone_is_the_plain_network_up_to_a_dilated_fourth_layer_and_a_thin_map() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet18", maps="c5")).eval()
    image = torch.rand(1, 3, 64, 96)
    plain = build_resnet("resnet18", nn.BatchNorm2d)
    torch.manual_seed(1)
    weights = {name: torch.randn_like(value) / 10 for name, value in plain.named_parameters()}
    plain.load_state_dict(weights, strict=False)
    (message,) = load_matching(backbone, weights, source="plain")
    assert "not used" not in message
    plain.eval()
    expected = plain.maxpool(plain.relu(plain.bn1(plain.conv1(image))))
    for name in ("layer1", "layer2", "layer3"):
        expected = plain.get_submodule(name)(expected)
    for module in plain.layer4.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
    expected = backbone.body.thin(plain.layer4(expected)).relu()
    (found,) = backbone(image).maps
    assert found.shape == (1, 256, 4, 6)
    assert (backbone.strides, backbone.out_channels, backbone.take_top()) == ((16,), 256, None)
    torch.testing.assert_close(found, expected)


def test_a_c5_backbone_does_not_dilate_deformable_convolutions() -> None:
    with pytest.raises(ConfigError, match="dilates plain layers only"):
        build_backbone(BackboneConfig("resnet18", maps="c5", deformable=("layer4",)))


def test_frozen_norm_and_frozen_layers_do_not_train() -> None:
    config = BackboneConfig("resnet18", trainable_layers=3, norm="frozen")
    model = tiny_model(backbone=config, proposals=ProposalConfig())
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert "backbone.body.body.conv1.weight" in frozen
    assert "backbone.body.body.layer1.0.conv1.weight" in frozen
    assert not any("layer2" in name or "fpn" in name for name in frozen)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_weights_file_loads_and_what_did_not_fit_is_reported(tmp_path: Path, suffix: str) -> None:
    source = tiny_model(seed=1, backbone=BackboneConfig("resnet18"), proposals=ProposalConfig())
    weights = {
        name.removeprefix("backbone.body.body."): value.contiguous()
        for name, value in source.state_dict().items()
        if name.startswith("backbone.body.body.")
    }
    weights["fc.weight"] = torch.zeros(1000, 512)
    weights["head.extra"] = torch.zeros(3)
    weights["layer4.0.conv1.weight"] = torch.zeros(1)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)
    config = BackboneConfig("resnet18", weights=str(path))
    model = tiny_model(seed=2, backbone=config, proposals=ProposalConfig())
    loaded = model.state_dict()["backbone.body.body.layer1.0.conv1.weight"]
    assert torch.equal(loaded, weights["layer1.0.conv1.weight"])
    (message,) = model.messages
    assert "not used: head.extra, layer4.0.conv1.weight" in message or (
        "not used: layer4.0.conv1.weight, head.extra" in message
    )
    assert "not there: body.body.layer4.0.conv1.weight" in message
    assert "fc.weight" not in message


def test_imagenet_weights_are_torchvisions_and_fill_the_whole_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of the download, a file of the same name where torchvision keeps its downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub" / "checkpoints" / Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    kept.parent.mkdir(parents=True)
    torch.manual_seed(3)
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), kept)
    backbone = BackboneConfig("resnet18", weights="imagenet", norm="frozen")
    model = tiny_model(backbone=backbone, proposals=ProposalConfig())
    body = model.backbone.body.body.state_dict()
    for name, value in body.items():
        assert torch.equal(value, classifier.state_dict()[name]), name
    (message,) = model.messages
    assert "not used" not in message
    assert ".body." not in message.partition("not there")[2]


def test_a_download_that_fails_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        MissingResourceError, match=r"the download failed.*model\.backbone\.weights=FILE"
    ) as caught:
        tiny_model(backbone=BackboneConfig("resnet18", weights="imagenet"), proposals=ProposalConfig())
    assert caught.value.exit_code == 5
    assert capsys.readouterr().out == ""  # torch says that it downloads; stdout is for data


def test_a_weights_file_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"nonsense"), ("b.safetensors", b"nonsense")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as") as caught:
            tiny_model(backbone=BackboneConfig("tiny", weights=str(tmp_path / name)))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        tiny_model(backbone=BackboneConfig("tiny", weights=str(tmp_path / "c.pth")))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "d.pth")
    with pytest.raises(InputError, match="no tensor that fits"):
        tiny_model(backbone=BackboneConfig("tiny", weights=str(tmp_path / "d.pth")))


def test_a_weights_file_is_never_unpickled(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "code": Path}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="cannot be read as"):
        tiny_model(backbone=BackboneConfig("tiny", weights=str(tmp_path / "code.pth")))
