"""Reasoning-RCNN: regions are enriched with classifiers that a class graph has spread over related classes.

Paper: Xu, Jiang, Liang, Lin, Li: "Reasoning-RCNN: Unifying Adaptive Global Reasoning into Large-Scale Object
    Detection", CVPR 2019, section 3.2.
Official code: github.com/chanyn/Reasoning-RCNN, mmdet/models/detectors/reasoning_rcnn.py (read, not copied).
Fills: BoxHead of the second stage.
Needs: the class graph; class layer and logits of the stage before, whose head is used again to make f.

Equations:
    f' = P (alpha (x) E M) W_G              (equation 1)
    alpha = softmax(z W_s M^T)              (section 3.2.3), one for each image

    M   global semantic pool: the class layer of the stage before, its bias as last column; detached, read at
        every step
    E   class graph, with background as a class without edges
    P   class probabilities of the regions in the stage before
    z   one vector for the image: feature maps brought to one size, 3x3 convolution of stride 2, ReLU, mean

    The head returns [f; f'], from which the new class and box layers predict. alpha scales rows, so
    P (alpha (x) E M) W_G = P (alpha (x) E M W_G). E M W_G is the same for all images: it is computed once a
    step, and kept from one evaluation step to the next.

    With several graphs (relation and attribute, say) each gives its own f', with the same alpha and "W_G ...
    shared for all graphs" (section 3.2.2), and the head returns [f; f'_1; f'_2; ...].

Shapes: P (R, K), E (K, K), M (K, D + 1), alpha (K,), z (squeeze,), W_s (squeeze, D + 1), W_G (D + 1, E), f'
    (R, E); E and f' once for each of G graphs.

Departs from the paper:
    - As in the official code, whose parameter counts are the published ones: f is not average-pooled before
      its two linear layers; M has a bias column and a background row; z has D/16 channels, not D/64.
    - The mean that makes z leaves out the padding of a batch, so that an image does not see the others.
    - f and f' belong to the same region. In the official code regions are sampled anew in between.
    - f is that of the second stage's own boxes, which the first has moved, as in the official code; a stage
      with regions "kept" has the f and the boxes of the first, which is all that the paper's text says.
    - Scores are those of the second stage, as in the paper. The official code averages the logits of both
      stages: `model.class_scores=mean_logits`.
    - form "printed" is equation 1. "released" has what the official code adds: biases, a ReLU after W_s,
      and one after W_G before classes are mapped to regions. P keeps its gradient in both.
    - form "working" is equation 1 made trainable: from E M the mean over classes is subtracted and each row
      scaled to rms 1; P is detached; alpha is multiplied by C; background is left out of P, E and M. As
      printed, on a trained detector of 96 classes f' starts with a spread of 0.0002 of that of f, which
      `ReasoningHead.diagnostics` tells.
    - The f' of several graphs are concatenated; the paper shows none of its experiments with more than one.
    - Table 3: graph "identity" replaces E, by one identity whatever was given; attention "off" leaves alpha
      out and "uniform" makes it 1/C, which in the working form is the same; pool "region" replaces M by
      P^T [f; 1] / R, the features of the image's own R regions gathered by class, without gradient. The
      paper does not say how its region features are passed on: this is the reading in which only M changes.

Numbers: COCO, ResNet-101-FPN: AP 42.9, against 37.3 of Faster R-CNN (paper, table 2); identity 39.5, region
    feature 40.2, no attention 40.9, uniform 41.5 (table 3). VG1000 8.2 against 7.1, VG3000 4.3 against 3.7
    (table 1). The released form with its stage adds 1.03 M parameters for COCO, 2.21 M for VG1000, 4.77 M
    for VG3000: so do we.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.interfaces import HeadInputs, Regions, SharedHead, graphs_of, previous_head
from detector.knowledge import FOREGROUND, with_background
from detector.options import check_options
from detector.squeeze import Squeeze


@dataclass(frozen=True)
class ReasoningConfig:
    """Options of the reasoning head; the top of this file says what they mean."""

    needs_graph: ClassVar[bool] = True
    form: Literal["printed", "released", "working"] = "printed"
    attention: Literal["softmax", "uniform", "off"] = "softmax"
    pool: Literal["classifier", "region"] = "classifier"
    graph: Literal["given", "identity"] = "given"
    width: int = 256  #: E, of f'
    squeeze: int = 64  #: channels of z

    def __post_init__(self) -> None:
        """Check words and widths.

        Raises:
            ConfigError: a word that is none of an option's, or a width below 1.
        """
        check_options("head", self)

    def build(self, inputs: HeadInputs) -> "ReasoningHead":
        """Make the head around the one of the stage before.

        Raises:
            ConfigError: there is no stage before, or no graph.
        """
        return ReasoningHead(self, inputs)


class ReasoningHead(nn.Module):
    """[f; f'] for every region.

    Args:
        config: the options.
        inputs: what the stage offers; the head of the stage before and the graph must be there.
    """

    graphs: Tensor

    def __init__(self, config: ReasoningConfig, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        self.num_classes = inputs.num_classes
        self.region = SharedHead(previous_head(inputs))
        graphs_GCC = graphs_of(inputs) if config.graph == "given" else torch.eye(inputs.num_classes)[None]
        if config.form != "working":
            graphs_GCC = torch.stack([with_background(graph_CC) for graph_CC in graphs_GCC])
        self.register_buffer("graphs", graphs_GCC.clone())
        self.reasoned_width = config.width * len(graphs_GCC)
        self.out_features = self.region.out_features + self.reasoned_width
        pool_width, biased = self.region.out_features + 1, config.form == "released"
        if config.attention == "softmax":
            self.squeeze = Squeeze(inputs.in_channels, inputs.num_maps, config.squeeze)
            self.excite = nn.Linear(config.squeeze, pool_width, bias=biased)  # W_s
        self.transform = nn.Linear(pool_width, config.width, bias=biased)  # W_G
        self._kept: tuple[Tensor, Tensor] | None = None  # M and E M W_G of the last evaluation step
        self._observed: dict[str, Tensor] = {}
        cast("Any", self).register_load_state_dict_post_hook(_forget_after_loading)

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return [f; f'] as features_RD, and the losses of the shared head (the plain one has none)."""
        features_RD, losses = self.region(pooled_RCPP, regions)
        with torch.autocast(pooled_RCPP.device.type, enabled=False):
            reasoned_RE = self.reason(features_RD.float(), regions)
        self._observe(features_RD, reasoned_RE)
        return torch.cat([features_RD, reasoned_RE.to(features_RD.dtype)], dim=1), losses

    def reason(self, features_RD: Tensor, regions: Regions) -> Tensor:
        """Equation 1: f', (R, G E), in float32."""
        probability_RK, _ = self._probability_and_pool(regions)
        row_by_image = _rows_by_image(regions)
        pools = self._pools(features_RD, regions)
        if self.config.pool == "region":
            evolved = [self.evolve(pool) for pool in pools]
        else:
            evolved = [self._evolve_once(pools[0])] * regions.num_images
        reasoned_RE = features_RD.new_zeros(len(regions), self.reasoned_width)
        for rows, alpha_K, evolved_KE in zip(row_by_image, self.attend(regions, pools), evolved, strict=True):
            reasoned_RE[rows] = self.map_to_regions(probability_RK[rows], alpha_K, evolved_KE)
        return reasoned_RE

    def evolve(self, pool_KD1: Tensor) -> Tensor:
        """Spread a pool over each graph: E M W_G, (K, G E), without the bias of the released form."""
        if self.config.form == "working":
            evolved_GKE = F.linear(_standardise(self.graphs @ pool_KD1), self.transform.weight)
        else:
            evolved_GKE = self.graphs @ F.linear(pool_KD1, self.transform.weight)  # cheaper in this order
        return torch.cat(list(evolved_GKE), dim=1)

    def attend(self, regions: Regions, pools: list[Tensor]) -> list[Tensor]:
        """Weigh the classes for each image: alpha, (K,)."""
        if self.config.attention != "softmax":
            weight = 1.0 if self.config.attention == "off" else 1.0 / self.num_classes
            return [pool_KD1.new_full((len(pool_KD1),), weight) for pool_KD1 in pools]
        query_BD1 = self.excite(self.squeeze(regions.context, regions.sizes_B2))
        if self.config.form == "released":
            query_BD1 = query_BD1.relu()
        alphas = [(pool @ query).softmax(dim=0) for pool, query in zip(pools, query_BD1, strict=True)]
        self._observed["attention_max"] = torch.stack(alphas).detach().max()
        return alphas

    def map_to_regions(self, probability_RK: Tensor, alpha_K: Tensor, evolved_KE: Tensor) -> Tensor:
        """Map classes to the regions of one image: P (alpha (x) evolved), (R, G E)."""
        if self.config.form == "released":
            bias_E = self.transform.bias.repeat(len(self.graphs))
            return probability_RK @ (alpha_K[:, None] * evolved_KE + bias_E).relu()
        if self.config.form == "working" and self.config.attention != "off":
            alpha_K = alpha_K * self.num_classes
        return probability_RK @ (alpha_K[:, None] * evolved_KE)

    def feature_parts(self, pooled_RCPP: Tensor, regions: Regions) -> dict[str, Tensor]:
        """Return f and f' apart."""
        features_RD, _ = self(pooled_RCPP, regions)
        own = self.region.out_features
        return {"f": features_RD[:, :own], "f'": features_RD[:, own:]}

    def class_graphs(self) -> Tensor:
        """Return a view of E without background, (G, C, C)."""
        return self.graphs[:, -self.num_classes :, -self.num_classes :]

    def edge_matrices(self, graph: int) -> list[Tensor]:
        """Return a view of one graph without background."""
        return [self.class_graphs()[graph]]

    def class_attention(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return alpha of each image without background, (B, C)."""
        features_RD, _ = self.region(pooled_RCPP, regions)
        alphas = self.attend(regions, self._pools(features_RD.float(), regions))
        return torch.stack(alphas)[:, -self.num_classes :]

    def forget(self) -> None:
        """Drop what was kept for evaluation: after a change of E it is not true."""
        self._kept = None

    def diagnostics(self) -> dict[str, Tensor]:
        """Return sd(f') / sd(f), near 0 when f' has collapsed, and the largest alpha of the last pass."""
        return dict(self._observed)

    def train(self, mode: bool = True) -> "ReasoningHead":
        """Switch between training and evaluation, and forget what was kept for evaluation."""
        self.forget()
        return super().train(mode)

    def _probability_and_pool(self, regions: Regions) -> tuple[Tensor, Tensor]:
        """P and M, over the classes that take part in this form."""
        assert regions.logits_RK is not None
        assert regions.weight_KD1 is not None
        probability_RK, pool_KD1 = regions.logits_RK.float().softmax(dim=1), regions.weight_KD1.float()
        if self.config.form == "working":
            return probability_RK[:, FOREGROUND].detach(), pool_KD1[FOREGROUND]
        return probability_RK, pool_KD1

    def _pools(self, features_RD: Tensor, regions: Regions) -> list[Tensor]:
        """M of each image."""
        probability_RK, pool_KD1 = self._probability_and_pool(regions)
        if self.config.pool == "region":
            return [
                gather_by_class(probability_RK[rows], features_RD[rows]) for rows in _rows_by_image(regions)
            ]
        return [pool_KD1] * regions.num_images

    def _evolve_once(self, pool_KD1: Tensor) -> Tensor:
        """Evolve the pool; in evaluation take the last result while the pool is the same."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.evolve(pool_KD1)
        kept = self._kept
        if kept is None or kept[0].device != pool_KD1.device or not torch.equal(kept[0], pool_KD1):
            kept = self._kept = (pool_KD1, self.evolve(pool_KD1))
        return kept[1]

    def _observe(self, features_RD: Tensor, reasoned_RE: Tensor) -> None:
        if not torch.compiler.is_compiling() and len(features_RD) > 0:
            spread = features_RD.detach().float().std().clamp(min=1e-12)
            self._observed["context_sd_ratio"] = reasoned_RE.detach().std() / spread


def _rows_by_image(regions: Regions) -> list[Tensor]:
    return [torch.nonzero(regions.image_R == image).flatten() for image in range(regions.num_images)]


def gather_by_class(probability_RK: Tensor, features_RD: Tensor) -> Tensor:
    """Make a pool of one image's regions instead of classifiers: P^T [f; 1] / R, (K, D + 1), no gradient."""
    with torch.no_grad():
        ones_R1 = features_RD.new_ones(len(features_RD), 1)
        return probability_RK.T @ torch.cat([features_RD, ones_R1], dim=1) / max(len(features_RD), 1)


def _standardise(evolved_GKD: Tensor) -> Tensor:
    """Subtract each graph's mean over classes, then scale each class's row to rms 1."""
    centred = evolved_GKD - evolved_GKD.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=2, keepdim=True).sqrt().clamp(min=1e-12)


def _forget_after_loading(head: ReasoningHead, _incompatible_keys: object) -> None:
    head.forget()
