"""Box heads of published baselines, which end the backbone inside the head, and of our own controls.

A backbone that stops at its third layer (C4, one map of stride 16) leaves the fourth to the heads. Each head
takes a copy of it, with its weights.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import ps_roi_align

from detector.errors import ConfigError
from detector.interfaces import HeadInputs, Regions, SharedHead, previous_head
from detector.options import check_options
from detector.squeeze import Squeeze

#: The fourth layer of every ResNet doubles the channels of the third.
TOP_GROWTH = 2


class Conv5(nn.Module):
    """The head of Faster R-CNN on C4: the network's fourth layer on every region, then the mean.

    He et al.: "Deep Residual Learning for Image Recognition", CVPR 2016, appendix A; with RoIAlign to 14 x 14
    cells, of which the layer makes 7 x 7.

    Args:
        top: the fourth layer.
        out_features: its channels, D.
    """

    def __init__(self, top: nn.Module, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.layer4 = top

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features_RD; no losses. Looks at nothing but the pooled map."""
        return self.layer4(pooled_RCPP).mean(dim=(2, 3)), {}

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Conv5Config:
    """A head without options."""

    needs_graph: ClassVar[bool] = False

    def build(self, inputs: HeadInputs) -> Conv5:
        """Make the head with its own copy of the fourth layer.

        Raises:
            ConfigError: the backbone leaves no layer to the heads.
        """
        if inputs.top is None:
            raise ConfigError(
                "model.stages.head: found Conv5Config with a backbone that leaves no layer to it; expected "
                "model.backbone.maps=c4"
            )
        return Conv5(deepcopy(inputs.top), TOP_GROWTH * inputs.in_channels)


class SeparableConvolution(nn.Module):
    """A large kernel as two pairs of thin ones: k x 1 then 1 x k, plus 1 x k then k x 1.

    Args:
        in_channels: of the map.
        middle_channels: between the two convolutions of a pair.
        out_channels: of the result.
        kernel: k, odd.
    """

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        column, row = (kernel, 1), (1, kernel)
        self.column_row = _pair(in_channels, middle_channels, out_channels, column, row)
        self.row_column = _pair(in_channels, middle_channels, out_channels, row, column)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map of the same sides."""
        summed: Tensor = self.column_row(map_BCHW) + self.row_column(map_BCHW)
        return summed


class LightHead(nn.Module):
    """The head of Light-head R-CNN: one thin map for the image, from which regions are pooled cheaply.

    Li et al.: "Light-Head R-CNN: In Defense of Two-Stage Object Detector", 2017, section 3; official code
    github.com/zengarden/light_head_rcnn. The fourth layer with dilation instead of its stride, a large
    separable convolution to thin * P * P channels, ReLU, position-sensitive RoIAlign to (thin, P, P), one
    linear layer. The official hard example mining is not here.

    Reads the finest map of the context, the only one of a C4 backbone, and not the pooled maps. Without a
    fourth layer (the tiny backbone) the separable convolution stands on that map.

    Args:
        config: the options.
        inputs: what the stage offers.
    """

    def __init__(self, config: "LightHeadConfig", inputs: HeadInputs) -> None:
        super().__init__()
        self.out_features, self.roi_size = config.width, inputs.roi_size
        self.sampling_ratio = config.sampling_ratio
        self.layer4 = nn.Identity() if inputs.top is None else dilated(deepcopy(inputs.top))
        channels = inputs.in_channels * (1 if inputs.top is None else TOP_GROWTH)
        pooled = config.thin * inputs.roi_size**2
        self.separable = SeparableConvolution(channels, config.middle, pooled, config.kernel)
        self.fc = nn.Linear(pooled, config.width)

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features_RD; no losses."""
        thin_map = self.separable(self.layer4(regions.context.maps[0])).relu()
        scale = 1 / regions.context.strides[0]
        boxes_R5 = torch.cat([regions.image_R[:, None].float(), regions.boxes_R4.float()], dim=1)
        with torch.autocast(thin_map.device.type, enabled=False):
            pooled = ps_roi_align(thin_map.float(), boxes_R5, self.roi_size, scale, self.sampling_ratio)
        return self.fc(pooled.flatten(1)).relu(), {}

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class LightHeadConfig:
    """Options of the light head; the values are those of the paper's large setting."""

    needs_graph: ClassVar[bool] = False
    kernel: int = 15  #: k of the separable convolution, odd
    middle: int = 256  #: channels inside it
    thin: int = 10  #: channels of a pooled map
    width: int = 2048  #: D
    sampling_ratio: int = 2  #: points a bin and side

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one below 1, or an even kernel.
        """
        check_options("head", self)
        if self.kernel % 2 == 0:
            raise ConfigError(f"head.kernel: found {self.kernel}; expected an odd number")

    def build(self, inputs: HeadInputs) -> LightHead:
        """Make the head with its own weights and its own copy of the fourth layer, when there is one."""
        return LightHead(self, inputs)


class ImageContext(nn.Module):
    """[f; z] for every region: f of the stage before, and one vector z for the whole image.

    Ours: the control of heads that read an image's context through a class graph. z is made as that of
    Reasoning-RCNN (`Squeeze`); there is no graph, and no class weights are read.

    Args:
        config: the options.
        inputs: what the stage offers; the head of the stage before must be there.
    """

    def __init__(self, config: "ImageContextConfig", inputs: HeadInputs) -> None:
        super().__init__()
        self.region = SharedHead(previous_head(inputs))
        self.squeeze = Squeeze(inputs.in_channels, inputs.num_maps, config.squeeze)
        self.out_features = self.region.out_features + config.squeeze

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return [f; z] as features_RD, and the losses of the shared head (the plain one has none)."""
        features_RD, losses = self.region(pooled_RCPP, regions)
        with torch.autocast(pooled_RCPP.device.type, enabled=False):
            context_BZ = self.squeeze(regions.context, regions.sizes_B2)
        context_RZ = context_BZ[regions.image_R].to(features_RD.dtype)
        return torch.cat([features_RD, context_RZ], dim=1), losses

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class ImageContextConfig:
    """Options of the head with the image's vector."""

    needs_graph: ClassVar[bool] = False
    squeeze: int = 64  #: numbers of z

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ConfigError: it is below 1.
        """
        check_options("head", self)

    def build(self, inputs: HeadInputs) -> ImageContext:
        """Make the head around the one of the stage before.

        Raises:
            ConfigError: there is no stage before.
        """
        return ImageContext(self, inputs)


def dilated(layer: nn.Module) -> nn.Module:
    """Give a ResNet's layer stride 1 and dilation 2 in its 3x3 convolutions: the same weights on a finer map.

    In place. All of them are dilated, as in R-FCN and the official code; torchvision leaves out the first.

    Raises:
        ConfigError: its convolutions are deformable, which this does not do.
    """
    for name, part in layer.named_modules():
        if name.endswith(".offset"):
            raise ConfigError(
                "model.backbone.deformable: found layer4 with a light head or maps=c5, which dilates plain "
                "layers only"
            )
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
            if part.kernel_size == (3, 3):
                part.dilation = part.padding = (2, 2)
    return layer


def _pair(
    channels: int, middle: int, out_channels: int, first: tuple[int, int], second: tuple[int, int]
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, middle, first, padding=(first[0] // 2, first[1] // 2)),
        nn.Conv2d(middle, out_channels, second, padding=(second[0] // 2, second[1] // 2)),
    )
