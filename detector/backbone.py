"""From images to feature maps: ResNets with a feature pyramid, or a tiny network."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import cast
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model_weights, list_models
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import ResNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.config import BackboneConfig
from detector.errors import ConfigError, InputError, MissingResourceError
from detector.heads import dilated
from detector.interfaces import BlockConfig, FeatureMaps
from detector.resnet import build_resnet, chosen_places, is_added

Norm = Callable[[int], nn.Module]

#: Layers of a ResNet from the top: what `trainable_layers` counts.
RESNET_LAYERS = ("layer4", "layer3", "layer2", "layer1", "conv1")

#: Channels of every level of torchvision's feature pyramid, and of C5's thin map.
FPN_CHANNELS = 256

#: BatchNorm's step counter: not a weight, and not there when statistics are frozen.
COUNTER = "num_batches_tracked"


class Backbone(nn.Module):
    """Feature maps of a batch of images, finest first.

    Args:
        body: the network; it returns its maps as a dict, finest first.
        strides: px that one cell of each map is wide.
        out_channels: channels of every map.

    Attributes:
        messages: what weights were loaded and which did not fit.
    """

    def __init__(self, body: nn.Module, strides: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.strides = strides
        self.out_channels = out_channels
        self.messages: tuple[str, ...] = ()

    def forward(self, images_B3HW: Tensor) -> FeatureMaps:
        """Compute the maps; height and width of the images are multiples of 32."""
        return FeatureMaps(tuple(self.body(images_B3HW).values()), self.strides)

    def take_top(self) -> nn.Module | None:
        """Hand over the layer that a C4 backbone leaves to the heads, with its weights; others have none."""
        if not isinstance(self.body, C4Body):
            return None
        top = self.body.layer4
        del self.body.layer4
        return top


class C4Body(nn.Module):
    """A ResNet up to its third layer: one map at stride 16. The fourth is here while weights are loaded.

    Args:
        network: its layers are taken over under their names.
    """

    layer4: nn.Module

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        for name, layer in network.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Compute the map."""
        features = images_B3HW
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            features = self.get_submodule(name)(features)
        return {"0": features}


class C5Body(nn.Module):
    """A whole ResNet, the fourth layer dilated instead of strided, made thin: one map at stride 16.

    As in the official codes of Relation Networks and DCN: a 1x1 convolution to 256 channels, ReLU.

    Args:
        network: its layers are taken over under their names.

    Raises:
        ConfigError: its fourth layer is deformable.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.body = C4Body(network)
        dilated(self.body.layer4)
        self.thin = nn.Conv2d(network.inplanes, FPN_CHANNELS, 1)

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Compute the map."""
        features = self.body(images_B3HW)["0"]
        return {"0": self.thin(self.body.layer4(features)).relu()}


class TinyBody(nn.Module):
    """A three-stage network for images of about 128 px on a CPU: one map of 48 channels at stride 4.

    Strides 2, 4 and 8 with 16, 32 and 64 channels; the stride-8 map is added to the stride-4 map as in a
    feature pyramid (Lin et al. 2017), so that a cell sees beyond its object.

    Args:
        norm: makes a normalisation of so many channels.
        blocks: context blocks, which stand at the end of `fine` (32 channels) and `coarse` (64 channels),
            before the 1x1 convolutions that read these maps.
    """

    out_channels = 48

    def __init__(self, norm: Norm, blocks: Sequence[BlockConfig] = ()) -> None:
        super().__init__()
        self.stem = _convolution(3, 16, 2, norm)
        self.fine = nn.Sequential(_convolution(16, 32, 2, norm), _convolution(32, 32, 1, norm))
        self.coarse = nn.Sequential(_convolution(32, 64, 2, norm), _convolution(64, 64, 1, norm))
        self.lateral = nn.Conv2d(32, self.out_channels, 1)
        self.top = nn.Conv2d(64, self.out_channels, 1)
        self.smooth = nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1)
        stages = {"fine": (self.fine, 32), "coarse": (self.coarse, 64)}
        for config in blocks:
            for place in chosen_places(config, list(stages)):
                stage, channels = stages[place]
                stage.append(cast("nn.Module", config.build(channels)))

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Compute the map."""
        fine = self.fine(self.stem(images_B3HW))
        above = F.interpolate(self.top(self.coarse(fine)), size=fine.shape[-2:], mode="nearest")
        return {"0": self.smooth(self.lateral(fine) + above)}


def _group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He 2018) with their 32 groups, fewer where a group would be one channel."""
    return nn.GroupNorm(min(32, channels // 2), channels)


#: How a backbone normalises. Batch statistics need batches of some size; groups do not.
NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": _group_norm}


def build_backbone(config: BackboneConfig) -> Backbone:
    """Make the backbone that `config` names and load its weights.

    Raises:
        ConfigError: an unknown name, or a context block that does not fit.
        InputError: the weights file cannot be read or fits nowhere.
        MissingResourceError: torchvision's weights could not be downloaded.
    """
    norm = NORMS[config.norm]
    if config.name == "tiny":
        backbone = Backbone(TinyBody(norm, config.blocks), (4,), TinyBody.out_channels)
    elif config.maps == "c4":
        network = _resnet(config, norm)
        backbone = Backbone(C4Body(network), (16,), network.inplanes // 2)
    elif config.maps == "c5":
        backbone = Backbone(C5Body(_resnet(config, norm)), (16,), FPN_CHANNELS)
    else:
        strides = (4, 8, 16, 32, 64) if config.maps == "p2-p6" else (8, 16, 32, 64, 128)
        backbone = Backbone(_with_pyramid(_resnet(config, norm), config.maps), strides, FPN_CHANNELS)
    if config.weights == "imagenet":
        backbone.messages = load_matching(backbone, _imagenet_weights(config.name), source="imagenet")
    elif config.weights != "none":
        weights = _read_weights(Path(config.weights))
        backbone.messages = load_matching(backbone, weights, source=config.weights)
    return backbone


def load_matching(backbone: Backbone, weights: dict[str, Tensor], source: str) -> tuple[str, ...]:
    """Load every tensor whose name and shape fit, and say which do not.

    Names are tried as they are, as those of a classifier (`layer1.0.conv1.weight`: the body of a backbone
    with feature pyramid is one) and as those of a whole detector. A classifier's last layer (`fc`) is not
    wanted.

    Args:
        backbone: changed in place.
        weights: tensors by name.
        source: what to call them in the message.

    Returns:
        one message: how many fit, which of the backbone are not there, which are not used.

    Raises:
        InputError: nothing fits.
    """
    own = {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(COUNTER)}
    place_by_name = {name: _place(name, own) for name in weights}
    fitting = {
        place: weights[name]
        for name, place in place_by_name.items()
        if place is not None and own[place].shape == weights[name].shape
    }
    if not fitting:
        raise InputError(f"{source}: found no tensor that fits; expected weights of the same backbone")
    backbone.load_state_dict(fitting, strict=False)
    absent = [name for name in own if name not in fitting]
    unused = [name for name, place in place_by_name.items() if place not in fitting and _is_wanted(name)]
    loaded = f"{source}: {len(fitting)} tensors loaded into the backbone"
    return (loaded + _listed("not there", absent) + _listed("not used", unused),)


def _resnet(config: BackboneConfig, norm: Norm) -> ResNet:
    """A ResNet in which the layers below the trainable ones are frozen."""
    network = build_resnet(config.name, norm, config.blocks, deformable=config.deformable)
    trainable: tuple[str, ...] = RESNET_LAYERS[: config.trainable_layers]
    if config.trainable_layers == 5:
        trainable += ("bn1",)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(trainable) or is_added(name))
    return network


def _with_pyramid(network: ResNet, levels: str) -> nn.Module:
    """A ResNet with feature pyramid, as torchvision makes it: P2 to P6, or P3 to P7 of RetinaNet."""
    first, top = (1, None) if levels == "p2-p6" else (2, LastLevelP6P7(FPN_CHANNELS, FPN_CHANNELS))
    maps = {f"layer{number}": str(number - first) for number in range(first, 5)}
    channels = [network.inplanes // 2 ** (4 - number) for number in range(first, 5)]
    body: nn.Module = BackboneWithFPN(network, maps, channels, FPN_CHANNELS, extra_blocks=top)
    return body


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    if name not in list_models():
        raise ConfigError(
            f'model.backbone.weights: found imagenet for "{name}", of which torchvision has none; '
            "expected none or a file"
        )
    try:
        weights = get_model_weights(name)["IMAGENET1K_V1"]
        with redirect_stdout(sys.stderr):  # torch says there that it downloads; stdout is for data
            return dict(weights.get_state_dict(progress=False, map_location="cpu", weights_only=True))
    except (URLError, OSError) as error:
        raise MissingResourceError(
            f"ImageNet weights of {name}: the download failed ({error}); expected a network connection; "
            "give a file with --set model.backbone.weights=FILE"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected none, imagenet, or a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch raises many kinds for a file that is none of its own or not only weights
        first_line = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as tensors by name: {first_line}") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: found {type(loaded).__name__}; expected tensors by name")
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}


def _place(name: str, own: dict[str, Tensor]) -> str | None:
    plain = name.removeprefix("module.").removeprefix("backbone.")
    candidates = (plain, f"body.{plain}", f"body.body.{plain}")
    return next((candidate for candidate in candidates if candidate in own), None)


def _is_wanted(name: str) -> bool:
    return not name.startswith("fc.") and not name.endswith(COUNTER)


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"; {what}: {', '.join(names[:5])}{more}" if names else ""


def _convolution(channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, norm(out_channels), nn.ReLU(inplace=True))
