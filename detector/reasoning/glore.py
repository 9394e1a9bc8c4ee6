"""GloRe: positions are gathered into nodes, the nodes reason as a graph, and are spread back over positions.

Paper: Chen, Rohrbach, Yan, Yan, Feng, Kalantidis: "Graph-Based Global Reasoning Networks", CVPR 2019,
    section 3.
Official code: github.com/facebookresearch/GloRe, network/global_reasoning_unit.py (read, not copied).
Fills: ContextBlock, after residual blocks of the backbone.
Needs: nothing but the map.

Equations:
    V = theta(X) phi(X)^T / L               from positions to nodes (section 3.2)
    Z = relu(V + A V) W_g                   graph convolution over nodes (section 3.3), g times
    Y = X + norm(W_e (Z phi(X)))            back to positions (section 3.4)

    theta   state of each position, 1x1 convolution with bias
    phi     share of each position in each node, 1x1 convolution with bias; of either sign, no softmax; the
            same map projects back
    A       learned weights between nodes, with bias; A plays the paper's -A_g in (I - A_g) V
    norm    BatchNorm, eps 1e-4, whose scale starts at zero: the unit is the identity at the start

    mid = channels / 4, the bottleneck width of the stage; N = mid nodes with states of S = 2 mid numbers.

Shapes: X (B, channels, ...), theta(X) (B, S, L), phi(X) (B, N, L), V and Z (B, S, N), A (N, N), W_g (S, S),
    W_e (channels, S); L positions of a sequence (1D), an image (2D) or a clip (3D).

Departs from the paper:
    - Division by the number of positions L is on. The official code has it as a switch, "not necessary if the
      input size is fixed"; a detector's images have many sizes. `normalize=False` is the official default.
    - The official networks are pre-activation ones; ours are torchvision's, with a ReLU between the residual
      block and the unit.
    - For g > 1 the graph convolution is stacked as it is. No code of that experiment is published.
    - L counts the padding of a batch, as in every implementation.
    - V, Z and their products are float32 under autocast: sums over positions overflow in half precision.

Numbers: ImageNet top-1 with one unit, 1, 2 or 3 graph convolutions: 77.60, 77.62, 77.66, against 76.15 of
    plain ResNet-50 (paper, table 1); 78.2 with units at `PLACES_50` (official repository). In ResNeXt-50 at
    the same places 20.15 % top-1 error against 21.10, 30.79 M parameters, 5.86 GFLOPs, ResNeXt-101 49.93 M
    (VCRNet, table 1); COCO Mask R-CNN 42.31 box AP against 40.70 (VCRNet, table 2; GloRe's own paper has no
    detector). Ours has 411,136 parameters for 512 channels and 1,641,472 for 1024, as the official unit;
    30,775,592 with ResNeXt-50, 49,924,392 with ResNeXt-101. Its convolutions add 1.61 GFLOPs, as
    published (5.86 against 4.24); the two products with phi, which that number leaves out, add another 0.26.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detector.interfaces import BlockPlace
from detector.options import check_options

#: The published places: after blocks 1 and 3 of Res3, then 1, 3, 5 (6, 12, 18 of ResNet-101) of Res4.
PLACES_50 = ("layer2.0", "layer2.2", "layer3.0", "layer3.2", "layer3.4")
PLACES_101 = ("layer2.0", "layer2.2", "layer3.5", "layer3.11", "layer3.17")

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@dataclass(frozen=True)
class GloReConfig:
    """Options of the units in an image backbone; the top of this file says what they mean."""

    place: ClassVar[BlockPlace] = "after"
    at: tuple[str, ...] = PLACES_50  #: residual blocks; none: all
    reduction: int = 4  #: channels / mid
    graph_convolutions: int = 1  #: g
    normalize: bool = True  #: divide V by the number of positions

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a number below 1.
        """
        check_options("model.backbone.blocks", self)

    def build(self, channels: int) -> "GloReUnit":
        """Make the unit for image maps of so many channels."""
        return GloReUnit(
            channels,
            max(channels // self.reduction, 1),
            graph_convolutions=self.graph_convolutions,
            normalize=self.normalize,
        )


class GraphConvolution(nn.Module):
    """relu(V + A V) W_g: nodes exchange states over a learned graph, then each state is transformed.

    Args:
        nodes: N.
        state: S.
    """

    def __init__(self, nodes: int, state: int) -> None:
        super().__init__()
        self.exchange = nn.Conv1d(nodes, nodes, 1)  # A
        self.transform = nn.Conv1d(state, state, 1, bias=False)  # W_g

    def forward(self, nodes_BSN: Tensor) -> Tensor:
        """Return the new states, (B, S, N)."""
        exchanged_BSN = self.exchange(nodes_BSN.transpose(1, 2)).transpose(1, 2)
        transformed: Tensor = self.transform((nodes_BSN + exchanged_BSN).relu())
        return transformed


class GloReUnit(nn.Module):
    """Global reasoning over a sequence, an image or a clip.

    Args:
        channels: of the map.
        mid: number of nodes, half the width of their states.
        graph_convolutions: g.
        dims: 1, 2 or 3 dimensions of positions.
        normalize: divide V by the number of positions.
    """

    def __init__(
        self, channels: int, mid: int, *, graph_convolutions: int = 1, dims: int = 2, normalize: bool = True
    ) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dims]
        self.normalize = normalize
        self.state = convolution(channels, 2 * mid, 1)  # theta
        self.project = convolution(channels, mid, 1)  # phi
        self.graph = nn.Sequential(*(GraphConvolution(mid, 2 * mid) for _ in range(graph_convolutions)))
        self.extend = convolution(2 * mid, channels, 1, bias=False)  # W_e
        self.norm = NORMS[dims](channels, eps=1e-4)
        nn.init.zeros_(self.norm.weight)

    def forward(self, map_BC: Tensor) -> Tensor:
        """Return X with what the graph adds; any number of positions from one on."""
        state_BSL, projection_BNL = self.state(map_BC).flatten(2), self.project(map_BC).flatten(2)
        with torch.autocast(map_BC.device.type, enabled=False):
            reasoned_BSL = self.reason(state_BSL.float(), projection_BNL.float())
        reasoned_BS = reasoned_BSL.reshape(*reasoned_BSL.shape[:2], *map_BC.shape[2:])
        added: Tensor = map_BC + self.norm(self.extend(reasoned_BS))
        return added

    def reason(self, state_BSL: Tensor, projection_BNL: Tensor) -> Tensor:
        """Gather positions into nodes, let the nodes reason, spread them back: Z phi(X), (B, S, L)."""
        nodes_BSN = state_BSL @ projection_BNL.transpose(1, 2)
        if self.normalize:
            nodes_BSN = nodes_BSN / state_BSL.shape[2]
        reasoned: Tensor = self.graph(nodes_BSN) @ projection_BNL
        return reasoned
