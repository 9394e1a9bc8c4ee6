"""Convolutions whose sampling points are learned: Dai et al.: "Deformable Convolutional Networks", ICCV 2017.

y(p) = sum_n w(p_n) x(p + p_n + offset_n(p))   (equation 2), x read by bilinear interpolation

Offsets are in cells of the map, two for each of the kernel's points, made from the same map by a convolution
of the same shape that starts at zero: a network with trained weights starts as the plain one. The paper's
deformable RoI pooling and its smaller learning rate of the offsets are not here.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import ResNet
from torchvision.ops import deform_conv2d

from detector.errors import ConfigError


class DeformableConvolution(nn.Module):
    """A convolution that takes over the weight of a plain one, under the same name.

    Args:
        plain: a convolution without bias; its stride, padding, dilation and groups stay.

    Attributes:
        offset: gives (dy, dx) of every point of the kernel, row by row.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight = plain.weight
        self.shape: dict[str, Any] = {
            "stride": plain.stride,
            "padding": plain.padding,
            "dilation": plain.dilation,
        }
        height, width = plain.kernel_size
        self.offset = nn.Conv2d(plain.in_channels, 2 * height * width, (height, width), **self.shape)
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Convolve in float32: a coordinate in half precision would be off by whole cells."""
        with torch.autocast(map_BCHW.device.type, enabled=False):
            map_BCHW = map_BCHW.float()
            offset = self.offset(map_BCHW)
            convolved: Tensor = deform_conv2d(map_BCHW, offset, self.weight, **self.shape)
        return convolved


def make_deformable(network: ResNet, layers: tuple[str, ...]) -> None:
    """Replace the 3x3 convolutions in some of a network's layers, such as "layer4".

    Raises:
        ConfigError: a name that is not one of the four layers.
    """
    for layer in layers:
        if layer not in (known := tuple(f"layer{number}" for number in range(1, 5))):
            expected = ", ".join(known)
            raise ConfigError(f'model.backbone.deformable: found "{layer}"; expected some of {expected}')
        for residual in network.get_submodule(layer).children():
            for name, part in list(residual.named_children()):
                if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                    setattr(residual, name, DeformableConvolution(part))


def is_of_offsets(name: str) -> bool:
    """Whether a parameter of a network makes the offsets of a deformable convolution."""
    return ".offset." in name
