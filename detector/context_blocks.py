"""The plain rivals of GloRe and VCRNet: squeeze-and-excitation, CBAM, global context and non-local blocks.

Each is the block of its paper at its paper's place, with the bias terms whose parameters VCRNet's table 1
counts: on ResNeXt-50 27.56 M (SE, CBAM) and 27.58 M (GC), on ResNeXt-101 48.96, 48.96 and 48.99 M.
Maps are (B, channels, H, W); L = H W positions, the padding of a batch among them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detector.errors import ConfigError
from detector.interfaces import BlockPlace


@dataclass(frozen=True)
class SqueezeExcitationConfig:
    """Options of squeeze-and-excitation."""

    place: ClassVar[BlockPlace] = "branch"
    at: tuple[str, ...] = ()  #: residual blocks; none: all, as in the paper
    reduction: int = 16

    def build(self, channels: int) -> "SqueezeExcitation":
        """Make the block."""
        return SqueezeExcitation(channels, reduced(channels, self.reduction))


class SqueezeExcitation(nn.Module):
    """Channels are weighed by what the whole map holds: X * sigmoid(W_2 relu(W_1 mean(X))).

    Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018, equations 2 to 4. Not the identity at the
    start.

    Args:
        channels: of the map.
        hidden: width between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.excite = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return the weighed map."""
        weight_BC: Tensor = self.excite(map_BCHW.mean(dim=(2, 3))).sigmoid()
        return map_BCHW * weight_BC[:, :, None, None]


@dataclass(frozen=True)
class CBAMConfig:
    """Options of the convolutional block attention module."""

    place: ClassVar[BlockPlace] = "branch"
    at: tuple[str, ...] = ()  #: residual blocks; none: all, as in the paper
    reduction: int = 16
    kernel_size: int = 7  #: of the spatial attention; odd

    def build(self, channels: int) -> "CBAM":
        """Make the block.

        Raises:
            ConfigError: an even kernel, which would change the size of the map.
        """
        if self.kernel_size % 2 == 0:
            raise ConfigError(
                f"model.backbone.blocks.kernel_size: found {self.kernel_size}; expected an odd number"
            )
        return CBAM(channels, reduced(channels, self.reduction), self.kernel_size)


class CBAM(nn.Module):
    """Channels are weighed, then positions, each by mean and maximum.

    Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", ECCV 2018, equations 1 to 3. As in
    the official code, the spatial convolution is followed by batch normalisation. Not the identity at the
    start.

    Args:
        channels: of the map.
        hidden: width between the two layers of the channel attention.
        kernel_size: of the spatial attention.
    """

    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.excite = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return the weighed map."""
        weight_BC = (
            self.excite(map_BCHW.mean(dim=(2, 3))) + self.excite(map_BCHW.amax(dim=(2, 3)))
        ).sigmoid()
        map_BCHW = map_BCHW * weight_BC[:, :, None, None]
        summary = torch.stack([map_BCHW.mean(dim=1), map_BCHW.amax(dim=1)], dim=1)
        weighed: Tensor = map_BCHW * self.norm(self.spatial(summary)).sigmoid()
        return weighed


@dataclass(frozen=True)
class GlobalContextConfig:
    """Options of the global context block."""

    place: ClassVar[BlockPlace] = "branch"
    at: tuple[str, ...] = ()  #: residual blocks; none: all, as in VCRNet's comparison
    reduction: int = 16

    def build(self, channels: int) -> "GlobalContext":
        """Make the block."""
        return GlobalContext(channels, reduced(channels, self.reduction))


class GlobalContext(nn.Module):
    """One vector, pooled by attention, is added everywhere: X + W_2 relu(norm(W_1 sum_l softmax(w X)_l X_l)).

    Cao, Xu, Lin, Wei, Hu: "GCNet", ICCV workshops 2019, equation 5. W_2 starts at zero, as in the official
    code: the block is the identity at the start.

    Args:
        channels: of the map.
        hidden: width between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU())
        self.extend = nn.Linear(hidden, channels)  # W_2
        nn.init.zeros_(self.extend.weight)
        nn.init.zeros_(self.extend.bias)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return the map with the context added."""
        attention_BL = self.attend(map_BCHW).flatten(1).float().softmax(dim=1).to(map_BCHW.dtype)
        context_BC = torch.einsum("bcl,bl->bc", map_BCHW.flatten(2), attention_BL)
        added: Tensor = map_BCHW + self.extend(self.squeeze(context_BC))[:, :, None, None]
        return added


@dataclass(frozen=True)
class NonLocalConfig:
    """Options of the non-local block."""

    place: ClassVar[BlockPlace] = "after"
    at: tuple[str, ...] = ("layer3.4",)  #: residual blocks; before the last of res4, as in the paper
    reduction: int = 2

    def build(self, channels: int) -> "NonLocal":
        """Make the block."""
        return NonLocal(channels, reduced(channels, self.reduction))


class NonLocal(nn.Module):
    """Every position takes in all others: X + norm(W_z softmax(theta(X)^T phi(X)) g(X)).

    Wang, Girshick, Gupta, He: "Non-local Neural Networks", CVPR 2018, equations 1 to 6, embedded Gaussian,
    without the subsampling trick. The scale of the normalisation starts at zero: the block is the identity at
    the start. Memory grows with the square of the positions.

    Args:
        channels: of the map.
        hidden: width of theta, phi and g.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, hidden, 1)
        self.phi = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, hidden, 1)  # g
        self.extend = nn.Conv2d(hidden, channels, 1)  # W_z
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return the map with what was taken in."""
        theta, phi, value = (layer(map_BCHW).flatten(2) for layer in (self.theta, self.phi, self.value))
        similarity_BLL = (theta.transpose(1, 2) @ phi).float().softmax(dim=2).to(value.dtype)
        taken_in_BCL = value @ similarity_BLL.transpose(1, 2)
        taken_in = taken_in_BCL.reshape(*taken_in_BCL.shape[:2], *map_BCHW.shape[2:])
        added: Tensor = map_BCHW + self.norm(self.extend(taken_in))
        return added


def reduced(channels: int, reduction: int) -> int:
    """Return channels / reduction, at least 1.

    Raises:
        ConfigError: the reduction is not 1 or more.
    """
    if reduction < 1:
        raise ConfigError(f"model.backbone.blocks.reduction: found {reduction}; expected 1 or more")
    return max(channels // reduction, 1)
