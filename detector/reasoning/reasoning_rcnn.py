"""Reasoning-RCNN: regions are enriched with class knowledge that a graph has spread over a pool of classifiers.

Paper: Xu, Jiang, Liang, Lin, Li: "Reasoning-RCNN: Unifying Adaptive Global Reasoning into Large-Scale Object
    Detection", CVPR 2019, section 3.2.
Official code: github.com/chanyn/Reasoning-RCNN, mmdet/models/detectors/reasoning_rcnn.py (read, not copied).
Fills: BoxHead of the second stage.
Needs: the class graph; logits and class layer of the stage before, whose head is used again for f.

Equations
    f' = P (alpha (x) E M) W_G                 (1)
    alpha = softmax(z W_s M^T)                 (section 3.2.3), one for each image

    M   global semantic pool: the class layer of the stage before, bias as last column; detached, read at each step
    E   class graph, with background as a class that has no edges
    P   class probabilities of the stage before, one row a region
    z   the image: feature maps to one size, 3x3 convolution with stride 2, ReLU, mean over the image
    The head returns [f; f'], from which the new class and box layers predict.

Shapes: P (R, K), E (K, K), M (K, D + 1), alpha (B, K), z (B, squeeze), W_s (squeeze, D + 1), W_G (D + 1, E),
    f' (R, E). `E M W_G` does not depend on the image: it is computed once a step, and kept between evaluation steps.
    alpha scales rows, so P (alpha (x) E M) W_G = (P * alpha) (E M W_G) and no image has a table of its own.

Departs from the paper
    - f is not average-pooled before the two linear layers (nor is it in the official code).
    - M has the bias column and the background row, and z has D/16 channels where the paper prints D/64: both as in
      the official code, whose parameter counts are the published ones.
    - The mean that makes z leaves out the padding of a batch, so that an image does not see the others.
    - f and f' always belong to the same region. In the official code regions are sampled again in between.
    - form "printed" is equation 1. "released" adds what the official code adds: biases, a ReLU after W_s and one
      after W_G, before P maps classes to regions; P keeps its gradient in both.
    - form "working" is equation 1 made trainable: from E M the mean over classes is subtracted and each row is scaled
      to rms 1; P is detached; alpha is multiplied by C; background takes no part (P, E and M without it). As printed,
      f' is some thousand times smaller than f and gradient descent first removes it.
    - Table 3 (options): graph "identity"; attention "off" (no alpha) or "uniform" (alpha = 1/C; in the working form
      this is the same as "off"); pool "region": M is P^T [f; 1] / R, the regions' own features gathered by class over
      the R regions of the image, detached, with P over the same classes as E, and then f' is as above. The paper does
      not say how its region features are passed; this is the reading in which only M changes.

Numbers: COCO, ResNet-101-FPN: 42.9 AP against 37.3 without (paper, table 2); identity 39.5, region feature 40.2, off
    40.9, uniform 41.5 (table 3). VG1000 8.2 against 7.1, VG3000 4.3 against 3.7 (table 1). Added parameters of the
    released form with two stages: COCO 1.03 M, VG1000 2.21 M, VG3000 4.77 M (tested).
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, HeadInputs, Regions, SharedHead, graph_of, previous_head
from detector.knowledge import FOREGROUND, with_background

Form = Literal["printed", "released", "working"]


@dataclass(frozen=True)
class ReasoningConfig:
    """Options of the reasoning head; what they mean is at the top of this file."""

    needs_graph: ClassVar[bool] = True
    form: Form = "printed"
    attention: Literal["softmax", "uniform", "off"] = "softmax"
    pool: Literal["classifier", "region"] = "classifier"
    graph: Literal["given", "identity"] = "given"
    width: int = 256  #: E, of f'
    squeeze: int = 64  #: channels of z

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ConfigError: a value that is none of an option's.
        """
        for field in fields(self):
            value, choices = getattr(self, field.name), get_args(field.type)
            if choices and value not in choices:
                raise ConfigError(f'head.{field.name}: found "{value}"; expected one of {", ".join(choices)}')

    def build(self, inputs: HeadInputs) -> "ReasoningHead":
        """Make the head around the one of the stage before.

        Raises:
            ConfigError: there is no stage before, or no graph.
        """
        return ReasoningHead(self, inputs)


class Squeeze(nn.Module):
    """One vector for each image: the z of the attention.

    With several maps the finest is left out and the others are brought to the size of the second finest of them.

    Args:
        in_channels: channels of each map.
        num_maps: maps in the context.
        channels: width of z.
    """

    def __init__(self, in_channels: int, num_maps: int, channels: int) -> None:
        super().__init__()
        self.first = 1 if num_maps > 1 else 0
        self.resized_to = min(2, num_maps - 1)
        self.convolution = nn.Conv2d(in_channels * (num_maps - self.first), channels, 3, stride=2, padding=1)

    def forward(self, context: FeatureMaps, sizes_B2: Tensor) -> Tensor:
        """Return z, (B, channels); cells that lie in an image's padding do not count."""
        size = context.maps[self.resized_to].shape[-2:]
        resized = [
            F.interpolate(feature, size=size, mode="nearest") for feature in context.maps[self.first :]
        ]
        squeezed = self.convolution(torch.cat(resized, dim=1)).relu().float()
        inside = _cells_inside(sizes_B2, 2 * context.strides[self.resized_to], squeezed.shape[-2:])
        return (squeezed * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))


class ReasoningHead(nn.Module):
    """[f; f'] for every region; what it computes is at the top of this file."""

    graph: Tensor

    def __init__(self, config: ReasoningConfig, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        self.region = SharedHead(previous_head(inputs))
        self.out_features = self.region.out_features + config.width
        self.num_classes = inputs.num_classes
        released = config.form == "released"
        graph_CC = graph_of(inputs)
        graph_CC = torch.eye(len(graph_CC)) if config.graph == "identity" else graph_CC
        self.register_buffer(
            "graph", graph_CC.clone() if config.form == "working" else with_background(graph_CC)
        )
        pool_width = self.region.out_features + 1
        if config.attention == "softmax":
            self.squeeze = Squeeze(inputs.in_channels, inputs.num_maps, config.squeeze)
            self.excite = nn.Linear(config.squeeze, pool_width, bias=released)  # W_s
        self.transform = nn.Linear(pool_width, config.width, bias=released)  # W_G
        self._evolved: tuple[Tensor, Tensor] | None = None  # (M, E M W_G) of the last evaluation step
        self._observed: dict[str, Tensor] = {}
        self.register_load_state_dict_post_hook(lambda module, _: module._forget())

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return [f; f'] as features_RD, and the losses of the shared head (the plain one has none)."""
        features_RD, losses = self.region(pooled_RCPP, regions)
        with torch.autocast(pooled_RCPP.device.type, enabled=False):
            reasoned_RE = self.reason(features_RD.float(), regions)
        self._observe(features_RD, reasoned_RE)
        return torch.cat([features_RD, reasoned_RE.to(features_RD.dtype)], dim=1), losses

    def reason(self, features_RD: Tensor, regions: Regions) -> Tensor:
        """Equation 1: return f', (R, E), in float32."""
        assert regions.logits_RK is not None and regions.weight_KD1 is not None
        probability_RK, pool_KD1 = regions.logits_RK.float().softmax(dim=1), regions.weight_KD1.float()
        if self.config.form == "working":
            probability_RK, pool_KD1 = probability_RK[:, FOREGROUND].detach(), pool_KD1[FOREGROUND]
        image_BS = (
            self.squeeze(regions.context, regions.sizes_B2) if self.config.attention == "softmax" else None
        )
        evolved_KE = None if self.config.pool == "region" else self._evolve_once(pool_KD1)
        reasoned_RE = features_RD.new_zeros(len(regions), self.config.width)
        strongest = []
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            if self.config.pool == "region":
                pool_KD1 = gather_by_class(probability_RK[rows], features_RD[rows])
                evolved_KE = self.evolve(pool_KD1)
            alpha_K = self.attend(None if image_BS is None else image_BS[image], pool_KD1)
            strongest.append(alpha_K.detach().max())
            reasoned_RE[rows] = self.map_to_regions(probability_RK[rows], alpha_K, evolved_KE)
        self._observed["attention_max"] = torch.stack(strongest).max()
        return reasoned_RE

    def evolve(self, pool_KD1: Tensor) -> Tensor:
        """Spread the pool over the graph: E M W_G, (K, E), without the bias of the released form."""
        if self.config.form == "working":
            return F.linear(_standardise(self.graph @ pool_KD1), self.transform.weight)
        return self.graph @ F.linear(pool_KD1, self.transform.weight)  # cheaper in this order

    def attend(self, image_S: Tensor | None, pool_KD1: Tensor) -> Tensor:
        """Weigh the classes for one image: alpha, (K,), sums to one unless attention is off."""
        if image_S is None:
            uniform = 1.0 if self.config.attention == "off" else 1.0 / self.num_classes
            return pool_KD1.new_full((len(pool_KD1),), uniform)
        query_D1 = self.excite(image_S)
        if self.config.form == "released":
            query_D1 = query_D1.relu()
        return (pool_KD1 @ query_D1).softmax(dim=0)

    def map_to_regions(self, probability_RK: Tensor, alpha_K: Tensor, evolved_KE: Tensor) -> Tensor:
        """Soft mapping from the classes to the regions of one image: P (alpha (x) evolved), (R, E)."""
        if self.config.form == "released":
            return probability_RK @ (alpha_K[:, None] * evolved_KE + self.transform.bias).relu()
        if self.config.form == "working" and self.config.attention != "off":
            alpha_K = alpha_K * self.num_classes
        return (probability_RK * alpha_K) @ evolved_KE

    def diagnostics(self) -> dict[str, float]:
        """sd(f') / sd(f), which falls to 0 when the head collapses, and the largest alpha of the last forward pass."""
        return {name: value.item() for name, value in self._observed.items()}

    def train(self, mode: bool = True) -> "ReasoningHead":
        """Switch between training and evaluation, and forget what was kept for evaluation."""
        self._forget()
        return super().train(mode)

    def _evolve_once(self, pool_KD1: Tensor) -> Tensor:
        """Evolve the pool; in evaluation reuse the last result while the pool is the same."""
        if self.training or torch.is_grad_enabled():
            return self.evolve(pool_KD1)
        kept = self._evolved
        if kept is None or kept[0].device != pool_KD1.device or not torch.equal(kept[0], pool_KD1):
            kept = self._evolved = (pool_KD1, self.evolve(pool_KD1))
        return kept[1]

    def _forget(self) -> None:
        self._evolved = None

    def _observe(self, features_RD: Tensor, reasoned_RE: Tensor) -> None:
        if len(features_RD) > 0:
            spread = features_RD.detach().float().std().clamp(min=torch.finfo(torch.float32).tiny)
            self._observed["context_sd_ratio"] = reasoned_RE.detach().std() / spread


def gather_by_class(probability_RK: Tensor, features_RD: Tensor) -> Tensor:
    """Pool made of one image's regions instead of classifiers: P^T [f; 1] / R, (K, D + 1), without gradient."""
    with torch.no_grad():
        ones = features_RD.new_ones(len(features_RD), 1)
        return probability_RK.T @ torch.cat([features_RD, ones], dim=1) / max(len(features_RD), 1)


def _standardise(evolved_KD: Tensor) -> Tensor:
    """Subtract the mean over classes, then scale every class's row to rms 1."""
    centred = evolved_KD - evolved_KD.mean(dim=0)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)


def _cells_inside(sizes_B2: Tensor, stride: int, shape: torch.Size) -> Tensor:
    """Mark the cells, (B, 1, H, W), that begin inside an image of the given (height, width)."""
    rows, columns = (torch.arange(side, device=sizes_B2.device) * stride for side in shape)
    inside_rows, inside_columns = rows < sizes_B2[:, :1], columns < sizes_B2[:, 1:]
    return inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
