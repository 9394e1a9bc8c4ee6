"""VCRNet: groups of a ResNeXt block are concepts, which attend, exchange states and modulate their features.

Paper: Kim, Kim, Bengio: "Visual Concept Reasoning Networks", AAAI 2021, section Methods.
Official code: none to be found; built from the paper.
Fills: ContextBlock in every residual block, between the grouped 3x3 and the merging 1x1 convolution.
Needs: residual blocks with a merging 1x1; a number of channels that the concepts divide.

Equations:
    h_c = GAP(Z_c) W^v_c                                        pool sampler (equation 1)
    h_c = softmax(q_c (Z_c W^k_c)^T / sqrt(p')) Z_c W^v_c       attention sampler (equation 2)
    q_c = GAP(Z_c) W^q_c                                        dynamic; static: q_c (W^k_c)^T is one vector
    H' = relu(norm(H + A H))                                    reasoner (equation 3)
    A[c, :] = tanh(h_c W^edge)                                  dynamic; static: A is learned; none: A = 0
    X'_c = relu(alpha_c X_c + beta_c)                           modulator
    alpha_c = h'_c W^scale_c + b^scale_c,  beta_c = h'_c W^shift_c + b^shift_c
    pixel level: M_c h'_c in the place of h'_c, M_c the attention map divided by its maximum

    c is one of C = 32 concepts, the groups of ResNeXt 32x4d, with p channels of the map each. Z = X is the
    normalised output of the 3x3, before its ReLU: the modulator's ReLU is in that ReLU's place.

Shapes: Z and X (B, C, p, L), L = H W positions; H (B, C, p'); A (B, C, C) or (C, C); alpha, beta (B, C, p, 1)
    or (B, C, p, L); W^q, W^k, W^v (C, p, p'); W^edge (p', C), shared by all concepts; W^scale, W^shift
    (C, p', p); p = 4, 8, 16, 32 in the four stages.

Departs from the paper:
    - p' = max(p/4, 4). Printed is min(p/4, 4), which gives 25.18 M and 44.52 M parameters, not the published
      25.26 M and 44.60 M; max gives these, with one W^edge for all concepts and a norm over p' features.
    - q (Z W^k)^T is computed as Z (W^k q^T): the same number, without a key for every position.
    - W^scale and W^shift start at zero, b^scale at one, b^shift at zero, a static A at zero: at the start a
      block is the plain ResNeXt block, and ImageNet weights of the plain network can be used. The paper does
      not say how they start.
    - modulator "scale" leaves out W^shift and keeps b^shift, "shift" leaves out W^scale and keeps b^scale:
      only so are the published 25.22 M reached.
    - Two ablations of table 5 count 0.01 M otherwise here: static attention has one query a concept, as
      printed, 25.18 M (25.17 printed); static edges do without W^edge, 25.27 M (25.28 printed, which has it).
    - L counts the padding of a batch.

Numbers: ImageNet top-1 error 19.97 % (pixel level 19.94) against 21.10 of ResNeXt-50, 18.84 against 19.82 of
    ResNeXt-101; 25.26 M and 44.60 M parameters; 4.26 GFLOPs against 4.24 (table 1). COCO Mask R-CNN with
    ResNeXt-50: 41.81 box AP, pixel level 42.02, against 40.70 (table 2). Ablations (table 5): samplers 20.21,
    20.18, 19.97; edges 20.23, 20.02, 19.97; modulators scale 20.13, shift 20.05, both 19.97. Ours has
    25,259,072 and 44,601,672 parameters.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from detector.errors import ConfigError
from detector.interfaces import BlockPlace
from detector.options import check_options

Sampler = Literal["pool", "static", "dynamic"]
Edges = Literal["none", "static", "dynamic"]
Modulation = Literal["scale", "shift", "both"]


@dataclass(frozen=True)
class VCRConfig:
    """Options of the reasoning modules; the top of this file says what they mean."""

    place: ClassVar[BlockPlace] = "merge"
    at: tuple[str, ...] = ()  #: residual blocks; none: all, as in the paper
    concepts: int = 32  #: C
    sampler: Sampler = "dynamic"
    edges: Edges = "dynamic"
    modulator: Modulation = "both"
    level: Literal["channel", "pixel"] = "channel"

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ConfigError: a word that is none of an option's, no concepts, or pixels without an attention map.
        """
        check_options("model.backbone.blocks", self)
        if self.level == "pixel" and self.sampler == "pool":
            raise ConfigError(
                'model.backbone.blocks.level: found "pixel" with the sampler "pool", which has no attention '
                "map; expected the sampler static or dynamic"
            )

    def build(self, channels: int) -> "VisualConceptReasoning":
        """Make the modules for a map of so many channels.

        Raises:
            ConfigError: the concepts do not divide the channels.
        """
        if self.concepts < 1 or channels % self.concepts:
            raise ConfigError(
                f"model.backbone.blocks.concepts: found {self.concepts} for a map of {channels} channels; "
                "expected a number that divides it"
            )
        return VisualConceptReasoning(self, channels)


class ConceptSampler(nn.Module):
    """One state for each concept, from the positions of its features (equations 1 and 2).

    Args:
        kind: how positions are weighed.
        concepts: C.
        width: p.
        state: p'.
    """

    def __init__(self, kind: Sampler, concepts: int, width: int, state: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(state)
        self.value = _weight(concepts, width, state)  # W^v
        if kind == "static":
            self.direction = _weight(concepts, width)  # q (W^k)^T
        if kind == "dynamic":
            self.query = _weight(concepts, width, state)  # W^q
            self.key = _weight(concepts, width, state)  # W^k
        self.kind = kind

    def forward(self, features_BCpL: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the states, (B, C, p'), and the attention over its maximum, (B, C, L); None for pool."""
        if self.kind == "pool":
            return _project(features_BCpL.mean(dim=3), self.value), None
        scores_BCL = self._scores(features_BCpL).float() * self.scale
        relative_BCL = (scores_BCL - scores_BCL.amax(dim=2, keepdim=True)).exp()
        attention_BCL = relative_BCL / relative_BCL.sum(dim=2, keepdim=True)
        picked_BCp = torch.einsum("bcl,bcpl->bcp", attention_BCL.to(features_BCpL.dtype), features_BCpL)
        return _project(picked_BCp, self.value), relative_BCL.to(features_BCpL.dtype)

    def _scores(self, features_BCpL: Tensor) -> Tensor:
        if self.kind == "static":
            return torch.einsum("cp,bcpl->bcl", self.direction, features_BCpL)
        query_BCq = _project(features_BCpL.mean(dim=3), self.query)
        direction_BCp = torch.einsum("bcq,cpq->bcp", query_BCq, self.key)
        return torch.einsum("bcp,bcpl->bcl", direction_BCp, features_BCpL)


class ConceptReasoner(nn.Module):
    """States of concepts take in the states of others: relu(norm(H + A H)) (equation 3).

    Args:
        kind: where A comes from.
        concepts: C.
        state: p'.
    """

    def __init__(self, kind: Edges, concepts: int, state: int) -> None:
        super().__init__()
        if kind == "static":
            self.adjacency = nn.Parameter(torch.zeros(concepts, concepts))
        if kind == "dynamic":
            self.edge = nn.Linear(state, concepts, bias=False)  # W^edge
        self.norm = nn.BatchNorm1d(state)
        self.kind = kind

    def forward(self, states_BCq: Tensor) -> Tensor:
        """Return the updated states, (B, C, p')."""
        updated_BCq = states_BCq
        if self.kind == "static":
            updated_BCq = states_BCq + self.adjacency @ states_BCq
        if self.kind == "dynamic":
            updated_BCq = states_BCq + self.edge(states_BCq).tanh() @ states_BCq
        normed: Tensor = self.norm(updated_BCq.flatten(0, 1))
        return normed.reshape(states_BCq.shape).relu()


class ConceptModulator(nn.Module):
    """Features are scaled and shifted by the state of their concept: relu(alpha X + beta).

    Args:
        kind: which of the two follows the state; the other is a learned constant.
        concepts: C.
        width: p.
        state: p'.
    """

    def __init__(self, kind: Modulation, concepts: int, width: int, state: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(concepts, state, width)) if kind != "shift" else None
        self.shift = nn.Parameter(torch.zeros(concepts, state, width)) if kind != "scale" else None
        self.scale_bias = nn.Parameter(torch.ones(concepts, width))
        self.shift_bias = nn.Parameter(torch.zeros(concepts, width))

    def forward(self, features_BCpL: Tensor, states_BCq: Tensor, level_BCL: Tensor | None) -> Tensor:
        """Modulate the features; with `level_BCL` (pixel level) each position as it is attended to."""
        alpha = self._affine(states_BCq, level_BCL, self.scale, self.scale_bias).to(features_BCpL.dtype)
        beta = self._affine(states_BCq, level_BCL, self.shift, self.shift_bias).to(features_BCpL.dtype)
        return (alpha * features_BCpL + beta).relu()

    @staticmethod
    def _affine(
        states_BCq: Tensor, level_BCL: Tensor | None, weight: Tensor | None, bias_Cp: Tensor
    ) -> Tensor:
        """M (h' W) + b, (B, C, p, L), or h' W + b, (B, C, p, 1)."""
        if weight is None:
            return bias_Cp[None, :, :, None]
        projected = _project(states_BCq, weight)[:, :, :, None]
        if level_BCL is not None:
            projected = projected * level_BCL[:, :, None, :]
        return projected + bias_Cp[:, :, None]


class VisualConceptReasoning(nn.Module):
    """Sampler, reasoner and modulator on the grouped features of a residual block.

    Args:
        config: the options.
        channels: of the map, C p.
    """

    def __init__(self, config: VCRConfig, channels: int) -> None:
        super().__init__()
        self.concepts = config.concepts
        self.level = config.level
        width = channels // config.concepts
        state = max(width // 4, 4)
        self.sampler = ConceptSampler(config.sampler, config.concepts, width, state)
        self.reasoner = ConceptReasoner(config.edges, config.concepts, state)
        self.modulator = ConceptModulator(config.modulator, config.concepts, width, state)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return the modulated map, not negative."""
        batch, channels = map_BCHW.shape[:2]
        features_BCpL = map_BCHW.reshape(batch, self.concepts, channels // self.concepts, -1)
        states_BCq, attention_BCL = self.sampler(features_BCpL)
        level_BCL = attention_BCL if self.level == "pixel" else None
        modulated: Tensor = self.modulator(features_BCpL, self.reasoner(states_BCq), level_BCL)
        return modulated.reshape(map_BCHW.shape)


def _weight(concepts: int, width: int, *state: int) -> nn.Parameter:
    """A projection for each concept, drawn as torch draws that of a linear layer with `width` inputs."""
    bound = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(concepts, width, *state).uniform_(-bound, bound))


def _project(vectors_BCp: Tensor, weight_Cpq: Tensor) -> Tensor:
    """Project the vector of each concept with the concept's own weight."""
    return torch.einsum("bcp,cpq->bcq", vectors_BCp, weight_Cpq)
