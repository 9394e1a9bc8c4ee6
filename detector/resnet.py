"""ResNet and ResNeXt from torchvision, with places for context blocks in their residual blocks.

Weights keep torchvision's names (`layer3.0.conv2.weight`), so that weights of a plain network load into one
with blocks; the tensors of a block follow its place (`layer3.0.after.0.state.weight`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast, get_args

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from detector.deformable import is_of_offsets, make_deformable
from detector.errors import ConfigError
from detector.interfaces import BlockConfig, BlockPlace

#: The networks by the names people type, all but the last torchvision's; 32x4d is 32 groups of 4 channels.
RESNETS: dict[str, Callable[..., ResNet]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnext50_32x4d": resnet.resnext50_32x4d,
    "resnext101_32x4d": partial(ResNet, Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4),
}


class EnrichedResidual(nn.Module):
    """A residual block of torchvision with three places for context blocks (see `interfaces.BlockPlace`).

    Args:
        block: its layers are taken over under their names.

    Attributes:
        merge, branch, after: the context blocks of each place, in the order in which they run.
    """

    merge: nn.Sequential
    branch: nn.Sequential
    after: nn.Sequential

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        for place in get_args(BlockPlace):
            self.add_module(place, nn.Sequential())

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Run the residual block; without context blocks it is torchvision's."""
        layers: Any = self
        shortcut = layers.downsample(map_BCHW) if "downsample" in self._modules else map_BCHW
        branch = layers.bn2(layers.conv2(layers.relu(layers.bn1(layers.conv1(map_BCHW)))))
        if "conv3" in self._modules:
            branch = self.merge(branch) if len(self.merge) > 0 else layers.relu(branch)
            branch = layers.bn3(layers.conv3(branch))
        enriched: Tensor = self.after(layers.relu(self.branch(branch) + shortcut))
        return enriched

    def add(self, config: BlockConfig) -> None:
        """Build a context block and put it into its place.

        Raises:
            ConfigError: the place is not in this residual block, or the channels do not fit.
        """
        last = self._modules.get("conv3", self._modules["conv2"])
        assert isinstance(last, nn.Conv2d)
        if config.place == "merge" and "conv3" not in self._modules:
            raise ConfigError(
                f"model.backbone.blocks: {type(config).__name__} needs residual blocks with a merging 1x1 "
                "convolution, which resnet18 and resnet34 do not have; take resnet50 or larger"
            )
        channels = last.in_channels if config.place == "merge" else last.out_channels
        getattr(self, config.place).append(config.build(channels))


def build_resnet(
    name: str,
    norm: Callable[[int], nn.Module],
    blocks: Sequence[BlockConfig] = (),
    *,
    deformable: tuple[str, ...] = (),
    num_classes: int = 1000,
) -> ResNet:
    """Make a network without weights.

    Args:
        name: a key of `RESNETS`.
        norm: makes a normalisation of so many channels; context blocks have their own.
        blocks: context blocks to put in.
        deformable: layers whose 3x3 convolutions are deformable.
        num_classes: outputs of its last layer.

    Raises:
        ConfigError: the name or a layer is not known, or a context block does not fit.
    """
    if name not in RESNETS:
        known = ", ".join((*RESNETS, "tiny"))
        raise ConfigError(f'model.backbone.name: found "{name}"; expected one of {known}')
    network = RESNETS[name](norm_layer=norm, num_classes=num_classes)
    _insert(network, blocks)
    make_deformable(network, deformable)
    return network


def is_added(name: str) -> bool:
    """Whether a parameter of a network belongs to a context block or to deformable offsets."""
    return any(f".{place}." in name for place in get_args(BlockPlace)) or is_of_offsets(name)


def chosen_places(config: BlockConfig, places: Sequence[str]) -> Sequence[str]:
    """Return the names that `config.at` chooses from the residual blocks of a network.

    Raises:
        ConfigError: a name that is not among them.
    """
    for name in config.at:
        if name not in places:
            known = ", ".join(places)
            raise ConfigError(f'model.backbone.blocks.at: found "{name}"; this backbone has {known}')
    return config.at or places


def _insert(network: ResNet, blocks: Sequence[BlockConfig]) -> None:
    """Replace the residual blocks that get a context block."""
    places = [name for name, module in network.named_modules() if isinstance(module, BasicBlock | Bottleneck)]
    for config in blocks:
        for place in chosen_places(config, places):
            layer, _, position = place.partition(".")
            residuals = cast("nn.Sequential", network.get_submodule(layer))
            if not isinstance(residuals[int(position)], EnrichedResidual):
                plain = cast("BasicBlock | Bottleneck", residuals[int(position)])
                residuals[int(position)] = EnrichedResidual(plain)
            cast("EnrichedResidual", residuals[int(position)]).add(config)
