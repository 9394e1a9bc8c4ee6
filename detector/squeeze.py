"""One vector for each image from its feature maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.interfaces import FeatureMaps


class Squeeze(nn.Module):
    """One vector for each image: z.

    With a feature pyramid the finest map is left out and the others are brought to the size of the third
    finest (P3 to P6 to the size of P4).

    Args:
        in_channels: channels of each map.
        num_maps: maps in the context.
        channels: width of z.
    """

    def __init__(self, in_channels: int, num_maps: int, channels: int) -> None:
        super().__init__()
        self.first = min(1, num_maps - 1)
        self.level = min(2, num_maps - 1)
        self.convolution = nn.Conv2d(in_channels * (num_maps - self.first), channels, 3, stride=2, padding=1)

    def forward(self, context: FeatureMaps, sizes_B2: Tensor) -> Tensor:
        """Return z, (B, channels) in float32; cells in an image's padding do not count."""
        size = context.maps[self.level].shape[-2:]
        parts = [_nearest(part, size).float() for part in context.maps[self.first :]]
        blocks = self.convolution.weight.chunk(len(parts), dim=1)  # map by map: half the time of all at once
        sums = [F.conv2d(*pair, stride=2, padding=1) for pair in zip(parts, blocks, strict=True)]
        assert self.convolution.bias is not None
        squeezed = (torch.stack(sums).sum(dim=0) + self.convolution.bias[:, None, None]).relu()
        inside = _cells_inside(sizes_B2, 2 * context.strides[self.level], squeezed.shape[-2:])
        return (squeezed * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))


def _nearest(map_BCHW: Tensor, size: torch.Size) -> Tensor:
    """Bring a map to a size (height, width): each cell takes the one at or before its place."""
    rows, columns = (
        torch.arange(side, device=map_BCHW.device) * before // side
        for before, side in zip(map_BCHW.shape[-2:], size, strict=True)
    )
    return map_BCHW.index_select(2, rows).index_select(3, columns)


def _cells_inside(sizes_B2: Tensor, stride: int, shape: torch.Size) -> Tensor:
    """Mark the cells, (B, 1, H, W), that begin inside an image of the given (height, width)."""
    rows, columns = (torch.arange(side, device=sizes_B2.device) * stride for side in shape)
    inside_rows, inside_columns = rows < sizes_B2[:, :1], columns < sizes_B2[:, 1:]
    return inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
