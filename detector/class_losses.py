"""Losses of the class of a region: cross-entropy, and two for long-tailed data.

Each maps (logits_RK, labels_R) to a loss for every region, and logits to scores. Background is label 0.

    softmax     cross-entropy
    seesaw      Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021
    eql_v2      Tan et al., "Equalization Loss v2", CVPR 2021

What the two for long tails have seen of each class is part of the model's state.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

ClassLossName = Literal["softmax", "seesaw", "eql_v2"]

#: Losses whose scores are the softmax of the logits.
SOFTMAX_LOSSES: tuple[ClassLossName, ...] = ("softmax", "seesaw")


class ClassLoss(Protocol):
    """What a stage learns classes with; an `nn.Module`."""

    prior: float  #: score that each class starts with; 0: whatever the class layer gives

    def __call__(self, logits_RK: Tensor, labels_R: Tensor) -> Tensor:
        """The loss of each region, (R,) float32."""

    def scores(self, logits_RK: Tensor) -> Tensor:
        """Scores in 0..1, (R, K); background's is not used."""


def build_class_loss(name: ClassLossName, num_classes: int) -> ClassLoss:
    """Make a loss for C classes and background."""
    if name == "seesaw":
        return SeesawLoss(num_classes)
    return EqualizationLossV2(num_classes) if name == "eql_v2" else SoftmaxLoss()


class SoftmaxLoss(nn.Module):
    """Cross-entropy of a softmax over classes and background."""

    prior = 0.0

    def forward(self, logits_RK: Tensor, labels_R: Tensor) -> Tensor:
        """The loss of each region."""
        return F.cross_entropy(logits_RK.float(), labels_R, reduction="none")

    def scores(self, logits_RK: Tensor) -> Tensor:
        """Probabilities."""
        return logits_RK.softmax(dim=1)


class SeesawLoss(nn.Module):
    """Cross-entropy in which a region of class i pushes a class j away by the factor S_ij (equations 3 to 6).

        loss    = -log(e^{z_i} / (sum_j S_ij e^{z_j} + e^{z_i})),   j other than i
        S_ij    = M_ij C_ij
        M_ij    = min(1, (N_j / N_i)^p)             rare classes are pushed less
        C_ij    = max(1, (sigma_j / sigma_i)^q)     wrong ones that are likely are pushed more

    N counts the regions of each class seen so far, sigma is the softmax, without gradient.

    Departures: background takes part as a class with S = 1 to and from it, in place of the paper's separate
    objectness branch; the class layer is a plain one, not normalised; sigma_i has no floor in C_ij.

    Args:
        num_classes: C.
        p: strength of mitigation.
        q: strength of compensation.
    """

    prior = 0.0
    seen_K: Tensor

    def __init__(self, num_classes: int, p: float = 0.8, q: float = 2.0) -> None:
        super().__init__()
        self.p, self.q = p, q
        self.register_buffer("seen_K", torch.zeros(num_classes + 1))

    def forward(self, logits_RK: Tensor, labels_R: Tensor) -> Tensor:
        """The loss of each region; in training the regions are counted first."""
        logits_RK = logits_RK.float()
        if self.training:
            self.seen_K += _sum_over_processes(torch.bincount(labels_R, minlength=len(self.seen_K)).float())
        log_seen_K = self.seen_K.clamp(min=1).log()
        mitigation_RK = (self.p * (log_seen_K - log_seen_K[labels_R][:, None])).clamp(max=0)
        log_score_RK = logits_RK.detach().log_softmax(dim=1)
        own_R1 = log_score_RK.gather(1, labels_R[:, None])
        compensation_RK = (self.q * (log_score_RK - own_R1)).clamp(min=0)
        with_background_RK = (labels_R == 0)[:, None] | (
            torch.arange(logits_RK.shape[1], device=labels_R.device) == 0
        )
        log_factor_RK = (mitigation_RK + compensation_RK).masked_fill(with_background_RK, 0.0)
        return F.cross_entropy(logits_RK + log_factor_RK, labels_R, reduction="none")

    def scores(self, logits_RK: Tensor) -> Tensor:
        """Probabilities."""
        return logits_RK.softmax(dim=1)


class EqualizationLossV2(nn.Module):
    """A sigmoid a class, whose gradients are balanced by what each class has got so far (equations 3 to 7).

        loss    = sum_j w_j BCE(z_j, [j is the label])
        w_j     = 1 + alpha (1 - f(g_j)) where j is the label, else f(g_j)
        f(g)    = 1 / (1 + e^{-gamma (g - mu)})
        g_j     = positive / negative gradients of class j, both weighted, summed since the start

    The logit of background is that of no class being there, as in the authors' code: it has weight 1, and the
    score of a class is sigmoid(z_j) (1 - sigmoid(z_0)). Before the first step g_j is 1.

    Args:
        num_classes: C.
        gamma: how steep f is.
        mu: where f is one half.
        alpha: how much more a positive counts at most.
    """

    prior = 0.001
    positive_K: Tensor
    negative_K: Tensor

    def __init__(self, num_classes: int, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0) -> None:
        super().__init__()
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.register_buffer("positive_K", torch.zeros(num_classes + 1))
        self.register_buffer("negative_K", torch.zeros(num_classes + 1))

    def forward(self, logits_RK: Tensor, labels_R: Tensor) -> Tensor:
        """The loss of each region; in training the gradients are added up after it."""
        logits_RK = logits_RK.float()
        target_RK = F.one_hot(labels_R, logits_RK.shape[1]).float()
        ratio_K = torch.where(
            self.negative_K > 0,
            self.positive_K / self.negative_K.clamp(min=1e-12),
            torch.ones_like(self.negative_K),
        )
        f_K = torch.sigmoid(self.gamma * (ratio_K - self.mu))
        weight_RK = torch.where(target_RK > 0, 1 + self.alpha * (1 - f_K), f_K)
        weight_RK[:, 0] = 1
        loss_RK = F.binary_cross_entropy_with_logits(logits_RK, target_RK, reduction="none")
        if self.training:
            gradient_RK = (logits_RK.detach().sigmoid() - target_RK).abs() * weight_RK
            self.positive_K += _sum_over_processes((gradient_RK * target_RK).sum(dim=0))
            self.negative_K += _sum_over_processes((gradient_RK * (1 - target_RK)).sum(dim=0))
        return (loss_RK * weight_RK).sum(dim=1)

    def scores(self, logits_RK: Tensor) -> Tensor:
        """Sigmoids, each times the probability that something is there."""
        score_RK = logits_RK.sigmoid()
        return torch.cat([score_RK[:, :1], score_RK[:, 1:] * (1 - score_RK[:, :1])], dim=1)


def prior_bias(prior: float) -> float:
    """The bias of a sigmoid that gives a score to begin with."""
    return -math.log((1 - prior) / prior)


def _sum_over_processes(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values
