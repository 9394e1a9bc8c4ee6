"""Non-maximum suppression as the duplicate removal of a detector: greedy, the plain one, and Soft-NMS.

Neither has weights: both are silent in training.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from detector.boxes import above_threshold, greedy_nms
from detector.errors import ConfigError
from detector.interfaces import Regions, RemovalInputs

Detections = dict[str, Tensor]


@dataclass(frozen=True)
class GreedyNMSConfig:
    """Options of greedy suppression: of two boxes of one class that overlap much, the lower score goes."""

    iou: float = 0.5  #: how much

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ConfigError: it is no share.
        """
        _check_share("iou", self.iou)

    def build(self, inputs: RemovalInputs) -> "NMS":
        """Make it."""
        threshold = inputs.score_threshold
        return NMS(partial(greedy_nms, score_threshold=threshold, iou=self.iou, limit=inputs.limit))


@dataclass(frozen=True)
class SoftNMSConfig:
    """Options of Soft-NMS: scores of overlapping boxes of one class fall, and no box goes at once.

    Set `model.score_threshold` to 0.001 or so with it: every box keeps a score.
    """

    method: Literal["linear", "gaussian"] = "gaussian"
    iou: float = 0.3  #: linear: boxes that overlap by less keep their score
    sigma: float = 0.5  #: gaussian: the larger, the less scores fall

    def __post_init__(self) -> None:
        """Check word and ranges.

        Raises:
            ConfigError: one of them is wrong.
        """
        if self.method not in ("linear", "gaussian"):
            raise ConfigError(
                f'setting model.duplicate_removal.method: found "{self.method}"; expected linear or gaussian'
            )
        _check_share("iou", self.iou)
        if not 0 < self.sigma < math.inf:
            raise ConfigError(
                f"setting model.duplicate_removal.sigma: found {self.sigma}; expected a number above 0"
            )

    def build(self, inputs: RemovalInputs) -> "NMS":
        """Make it."""
        threshold = inputs.score_threshold
        return NMS(partial(soft_nms, config=self, score_threshold=threshold, limit=inputs.limit))


class NMS(nn.Module):
    """Suppression within each class of each image.

    Args:
        select: (boxes_R4, scores_RK) of one image to (boxes_N4, scores_N, labels_N) of its detections.
    """

    def __init__(self, select: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> None:
        super().__init__()
        self.select = select

    def forward(
        self,
        scores_RK: Tensor,
        boxes_R4: Tensor,
        features_RD: Tensor,
        regions: Regions,
        targets: Sequence[Detections] | None,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Return detections in evaluation; nothing in training."""
        if targets is not None:
            return [], {}
        detections = []
        for image in range(regions.num_images):
            rows = regions.image_R == image
            boxes, scores, labels = self.select(boxes_R4[rows], scores_RK[rows])
            detections.append({"boxes": boxes, "scores": scores, "labels": labels})
        return detections, {}


def soft_nms(
    boxes_R4: Tensor, scores_RK: Tensor, *, config: SoftNMSConfig, score_threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best box, lower the scores of the boxes of its class that overlap it, and again.

    Soft-NMS (Bodla, Singh, Chellappa, Davis: "Improving Object Detection With One Line of Code", ICCV 2017).
    A taken box lowers the score s of another, which it overlaps by o, to s (1 - o) where o is at least `iou`
    (linear, equation 2) or to s exp(-o^2 / sigma) (gaussian, equation 3). Scores only fall, so
    taking the best box of all classes at once gives the same as one class after the other, and it may stop at
    the limit.

    Args:
        boxes_R4: boxes of one image, one a region, shared by all classes.
        scores_RK: class probabilities with background.
        config: the method and its parameter.
        score_threshold: a detection's score is above this, 0 or more, also after it fell.
        limit: detections kept at most.

    Returns:
        boxes_N4, scores_N as they fell (descending), labels_N (int64, 1..C).
    """
    boxes_N4, scores_N, labels_N = above_threshold(boxes_R4, scores_RK, score_threshold)
    taken: list[int] = []
    final: list[Tensor] = []
    while len(taken) < min(limit, len(scores_N)):
        best = int(scores_N.argmax())
        if scores_N[best] <= score_threshold:
            break
        taken.append(best)
        final.append(scores_N[best].clone())
        rivals = torch.nonzero(labels_N == labels_N[best]).flatten()
        scores_N[rivals] *= _decay(box_iou(boxes_N4[best : best + 1], boxes_N4[rivals])[0], config)
        scores_N[best] = 0.0  # a taken box is not taken again
    scores = torch.stack(final) if final else scores_N[:0]
    return boxes_N4[taken], scores, labels_N[taken]


def _decay(overlap_N: Tensor, config: SoftNMSConfig) -> Tensor:
    if config.method == "linear":
        return torch.where(overlap_N >= config.iou, 1 - overlap_N, 1.0)
    return torch.exp(-overlap_N.square() / config.sigma)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(
            f"setting model.duplicate_removal.{name}: found {value}; expected a number from 0 to 1"
        )
