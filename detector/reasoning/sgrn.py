"""SGRN: regions choose neighbours by appearance, and class weights flow from them through spatial kernels.

Paper: Xu, Jiang, Liang, Li: "Spatial-Aware Graph Relation Network for Large-Scale Object Detection", CVPR
    2019, section 3. Read by way of its abstract and of slides that print its equations.
Official code: github.com/chanyn/Reasoning-RCNN, mmdet/models/detectors/sgrn.py (read, not copied). It imports
    a function that is not in the repository, so it does not run as released.
Fills: BoxHead of the second stage.
Needs: class layer and logits of the stage before, whose head is used again to make f. No class graph.

Equations:
    s_ij = z_i . z_j,  z = phi(f)                                     relation learner
    e_ij = softmax over N(i) of s_ij,  N(i) the t largest of row i
    v_i = M[argmax_c P_ic]  or  sum_c P_ic M_c                        nodes "argmax" or "soft"
    u(i, j) = (d, theta) of (x_j - x_i, y_j - y_i)                    polar pseudo-coordinates
    w_k(u) = exp(-1/2 (u - mu_k)^T Sigma_k^-1 (u - mu_k))             K learned Gaussian kernels
    f'_k(i) = sum over j in N(i) of w_k(u(i, j)) e_ij v_j             propagation
    h_i = [L_1 f'_1(i); ...; L_K f'_K(i)]                             each kernel makes E / K of the numbers

    f   region features of this stage;  phi: two linear layers with weight norm and ReLU
    P   class probabilities, M class layer of the stage before with its bias as last column
    x, y  centres of the boxes; 1 is the width, the height of the region's own image

    The graph layer, from v to h, is applied twice, with ReLU after each: D + 1 -> hidden -> E. The head
    returns [f; h], from which the new class and box layers predict.

Shapes: f (R, D), z (R, L), s (R, R), N and e (R, t), M (K, D + 1), v (R, D + 1), u (R, t, 2), w (kernels, R,
    t), h (R, E); R is the number of regions of one image: images are worked through one by one.

Departs from the paper:
    - Two graph layers, as in the official code; the paper prints one, without ReLU: `hidden=0`.
    - f, P and M are detached, as in the official code: nothing flows back to the stage before.
    - K, t, L, the softmax over the t scores and "argmax" are the official code's; the slides note that the
      paper does not say what K is.
    - Sigma_k is a full 2 x 2 matrix, as printed; in the official code it is diagonal. Sigma^-1 = A^T A with A
      lower triangular and a positive diagonal, so that it stays positive definite. Angles differ by at most
      pi, as in the official code. Scales start in 0.25..1, there in 0..1: near 0 a kernel sees nothing.
    - e_ij multiplies in both layers; in the official code in the first only. That code also divides w_k by
      its sum over the kernels, which the slides do not.
    - form "working" is what trains: M without its mean over classes, each row scaled to rms 1 and background
      to 0; s_ij divided by the root of L; w_k e_ij divided by its sum over the neighbours, for each kernel.
      As printed, on a trained detector of 24 classes h starts with a spread of 0.0001 of that of f, which
      `SGRNHead.diagnostics` tells, and soon the only neighbour that a region listens to is itself.
    - theta is the angle of (x_j - x_i, y_j - y_i), as printed. The official code divides x by the height and
      y by the width of the image, and swaps the arguments of the arc tangent.
    - No dropout (0.5 between the layers of the official code; the slides have none).
    - Ground truth joins the proposals, and scores are of the second stage or of the mean over stages; the
      official code adds no ground truth, and runs NMS over the detections of both stages.

Numbers: mAP rises by about 32 % on VG3000 and 28 % on ADE (abstract, relative to Faster R-CNN). A port by
    others has 11.2 and 11.5 VOC-style AP without and with it (VG, own split). With its stage it adds 1.09 M
    parameters for COCO. On the sample world the working form has 74.5 AP, an equally stacked plain stage 56.1
    (means of three seeds); the printed one has 55.7 where that stage has 55.4 (docs/log.md).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from detector.errors import ConfigError
from detector.interfaces import HeadInputs, Regions, SharedHead, previous_head
from detector.knowledge import FOREGROUND
from detector.options import check_options

#: Where scales of the kernels start, in units of the image's side and in radians.
SCALES_AT_START = (0.25, 1.0)


@dataclass(frozen=True)
class SGRNConfig:
    """Options of the head; the top of this file says what they mean."""

    needs_graph: ClassVar[bool] = False
    nodes: Literal["argmax", "soft"] = "argmax"
    form: Literal["printed", "working"] = "printed"
    neighbours: int = 32  #: t
    kernels: int = 8  #: K
    latent: int = 256  #: L, of z
    hidden: int = 512  #: between the two graph layers; 0: one layer
    width: int = 256  #: E, of h

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ConfigError: a word that is none of an option's, a number out of its range, or a width that the
                kernels do not divide.
        """
        check_options("head", self, from_zero=("hidden",))
        for name in ("hidden", "width"):
            value = getattr(self, name)
            if value % self.kernels:
                raise ConfigError(
                    f"head.{name}: found {value}; expected a multiple of the {self.kernels} kernels"
                )

    def build(self, inputs: HeadInputs) -> "SGRNHead":
        """Make the head around the one of the stage before.

        Raises:
            ConfigError: there is no stage before.
        """
        return SGRNHead(self, inputs)


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Who is connected to whom among the regions of one image, and where they lie.

    Attributes:
        index_Rt: int64, the t neighbours of each region.
        edge_Rt: their weights e_ij; a row sums to 1.
        position_Rt2: where they lie from the region, as distance and angle (see `pseudo_coordinates`).
    """

    index_Rt: Tensor
    edge_Rt: Tensor
    position_Rt2: Tensor


class RelationLearner(nn.Module):
    """Finds the neighbours of every region from what the regions look like.

    Args:
        width: D.
        latent: L.
        neighbours: t.
        scaled: divide scores by the root of L.
    """

    def __init__(self, width: int, latent: int, neighbours: int, *, scaled: bool) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.scale = 1 / math.sqrt(latent) if scaled else 1.0
        layers = (weight_norm(nn.Linear(width, latent)), weight_norm(nn.Linear(latent, latent)))
        self.embed = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU())  # phi

    def forward(self, features_RD: Tensor) -> tuple[Tensor, Tensor]:
        """Return index_Rt and edge_Rt; with fewer than t regions all of them are neighbours."""
        latent_RL = self.embed(features_RD)
        scores_RR = latent_RL @ latent_RL.T * self.scale
        scores_Rt, index_Rt = scores_RR.topk(min(self.neighbours, len(scores_RR)), dim=1)
        return index_Rt, scores_Rt.softmax(dim=1)


class GraphLayer(nn.Module):
    """Propagation over a region graph, then the linear layer: from v to h, without ReLU.

    Args:
        in_features: width of a node.
        out_features: width of h, a multiple of `kernels`.
        kernels: number of Gaussian kernels.
        averaged: divide what a kernel makes of the edges by its sum over the neighbours.
    """

    def __init__(self, in_features: int, out_features: int, kernels: int, *, averaged: bool) -> None:
        super().__init__()
        self.averaged = averaged
        self.transform = nn.Linear(in_features, out_features, bias=False)  # L, a block of rows a kernel
        distance, angle = torch.rand(kernels), (2 * torch.rand(kernels) - 1) * math.pi
        self.mean = nn.Parameter(torch.stack([distance, angle], dim=1))  # mu
        self.log_scale = nn.Parameter(torch.empty(kernels, 2).uniform_(*SCALES_AT_START).log())
        self.slant = nn.Parameter(torch.zeros(kernels))

    def forward(self, nodes_RV: Tensor, graph: RegionGraph) -> Tensor:
        """Return h, (R, out_features)."""
        weight_KRt = self.propagation_weights(graph)
        blocks = self.transform(nodes_RV).chunk(len(weight_KRt), dim=1)  # cheaper before than after the sum
        sums = [
            torch.einsum("rt,rte->re", weight_Rt, block_RE[graph.index_Rt])
            for weight_Rt, block_RE in zip(weight_KRt, blocks, strict=True)
        ]
        return torch.cat(sums, dim=1)

    def propagation_weights(self, graph: RegionGraph) -> Tensor:
        """Return w_k e_ij, (kernels, R, t); averaged, over its sum over the neighbours.

        The average is a softmax of logarithms: a kernel that sees nothing near still has its nearest.
        """
        log_weight_KRt = self.log_kernel_weights(graph.position_Rt2)
        if self.averaged:
            smallest = torch.finfo(torch.float32).tiny
            return (log_weight_KRt + graph.edge_Rt.clamp(min=smallest).log()).softmax(dim=2)
        return log_weight_KRt.exp() * graph.edge_Rt

    def log_kernel_weights(self, position_Rt2: Tensor) -> Tensor:
        """Return the logarithm of w_k(u), (kernels, R, t), at most 0."""
        offset_KRt2 = position_Rt2 - self.mean[:, None, None, :]
        distance, angle = offset_KRt2[..., 0], _nearest_turn(offset_KRt2[..., 1])
        root = (-self.log_scale).exp()[:, :, None, None]
        first, second = root[:, 0] * distance, self.slant[:, None, None] * distance + root[:, 1] * angle
        return -0.5 * (first.square() + second.square())


class SGRNHead(nn.Module):
    """[f; h] for every region.

    Args:
        config: the options.
        inputs: what the stage offers; the head of the stage before must be there.
    """

    def __init__(self, config: SGRNConfig, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        self.region = SharedHead(previous_head(inputs))
        width = self.region.out_features
        self.out_features = width + config.width
        working = config.form == "working"
        self.relations = RelationLearner(width, config.latent, config.neighbours, scaled=working)
        widths = [width + 1, config.hidden, config.width] if config.hidden else [width + 1, config.width]
        self.layers = nn.ModuleList(
            GraphLayer(before, after, config.kernels, averaged=working) for before, after in pairwise(widths)
        )
        self._observed: dict[str, Tensor] = {}

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return [f; h] as features_RD, and the losses of the shared head (the plain one has none)."""
        features_RD, losses = self.region(pooled_RCPP, regions)
        related_RE = features_RD.new_zeros(len(regions), self.config.width, dtype=torch.float32)
        with torch.autocast(pooled_RCPP.device.type, enabled=False):
            for image in range(regions.num_images):
                rows = torch.nonzero(regions.image_R == image).flatten()
                if torch.compiler.is_compiling() or len(rows) > 0:
                    related_RE[rows] = self.relate(features_RD[rows].detach().float(), regions[rows])
        self._observe(features_RD, related_RE)
        return torch.cat([features_RD, related_RE.to(features_RD.dtype)], dim=1), losses

    def relate(self, features_RD: Tensor, regions: Regions) -> Tensor:
        """Return h, (R, E), of the regions of one image, in float32."""
        index_Rt, edge_Rt = self.relations(features_RD)
        self._observed["edge_max"] = edge_Rt.detach().max(dim=1).values.mean()
        size_2 = regions.sizes_B2.index_select(0, regions.image_R[:1])[0]
        graph = RegionGraph(index_Rt, edge_Rt, pseudo_coordinates(regions.boxes_R4, index_Rt, size_2))
        states_RV = self.embed_nodes(regions)
        for layer in self.layers:
            states_RV = layer(states_RV, graph)
            if len(self.layers) > 1:
                states_RV = states_RV.relu()
        return states_RV

    def region_weights(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return the learned edges e, (R, R): who listens to whom, before the kernels weigh places."""
        features_RD, _ = self.region(pooled_RCPP, regions)
        weight_RR = torch.zeros(len(regions), len(regions), device=regions.boxes_R4.device)
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            if len(rows) > 0:
                index_Rt, edge_Rt = self.relations(features_RD[rows].detach().float())
                weight_RR[rows[:, None], rows[index_Rt]] = edge_Rt
        return weight_RR

    def feature_parts(self, pooled_RCPP: Tensor, regions: Regions) -> dict[str, Tensor]:
        """Return f and h apart."""
        features_RD, _ = self(pooled_RCPP, regions)
        own = self.region.out_features
        return {"f": features_RD[:, :own], "h": features_RD[:, own:]}

    def embed_nodes(self, regions: Regions) -> Tensor:
        """Return v, (R, D + 1): what the stage before takes each region for, as a row of its class layer."""
        assert regions.logits_RK is not None
        assert regions.weight_KD1 is not None
        weight_KD1, logits_RK = regions.weight_KD1.float(), regions.logits_RK.detach().float()
        if self.config.form == "working":
            weight_KD1 = standardise(weight_KD1)
        if self.config.nodes == "soft":
            return logits_RK.softmax(dim=1) @ weight_KD1
        return weight_KD1[logits_RK.argmax(dim=1)]

    def diagnostics(self) -> dict[str, Tensor]:
        """Return sd(h) / sd(f), near 0 when h has collapsed, and the mean largest edge of the last image."""
        return dict(self._observed)

    def _observe(self, features_RD: Tensor, related_RE: Tensor) -> None:
        if not torch.compiler.is_compiling() and len(features_RD) > 0:
            spread = features_RD.detach().float().std().clamp(min=1e-12)
            self._observed["context_sd_ratio"] = related_RE.detach().std() / spread


def pseudo_coordinates(boxes_R4: Tensor, index_Rt: Tensor, size_2: Tensor) -> Tensor:
    """Say where the neighbours of each box lie from it.

    Args:
        boxes_R4: xyxy px, of one image.
        index_Rt: neighbours of each box.
        size_2: (height, width) px of the image.

    Returns:
        position_Rt2: distance between the centres, the image being 1 wide and 1 high; angle in -pi..pi, 0 to
            the right and pi / 2 downwards.
    """
    centre_R2 = (boxes_R4[:, :2] + boxes_R4[:, 2:]).float() / 2 / size_2.flip(0)
    right_Rt, down_Rt = (centre_R2[index_Rt] - centre_R2[:, None]).unbind(dim=2)
    same_Rt = (right_Rt == 0) & (down_Rt == 0)
    angle_Rt = torch.atan2(
        down_Rt, right_Rt.masked_fill(same_Rt, 1.0)
    )  # 0; runtimes of exports say NaN there
    return torch.stack([(right_Rt.square() + down_Rt.square()).sqrt(), angle_Rt], dim=2)


def standardise(weight_KD1: Tensor) -> Tensor:
    """Subtract the mean over classes, then scale each class's row to rms 1; background becomes zeros."""
    standard_KD1 = torch.zeros_like(weight_KD1)
    centred = weight_KD1[FOREGROUND] - weight_KD1[FOREGROUND].mean(dim=0)
    standard_KD1[FOREGROUND] = centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
    return standard_KD1


def _nearest_turn(angle: Tensor) -> Tensor:
    """The same angle in -pi..pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
