"""One region stage: assign, pool, head, predict, loss, refine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign

from detector.boxes import assign_boxes, clip_boxes, decode_boxes, encode_boxes
from detector.class_losses import build_class_loss, prior_bias
from detector.config import StageConfig
from detector.interfaces import BoxHead, Regions, ScoreUpdate
from detector.knowledge import BACKGROUND, FOREGROUND

#: Smooth L1 turns from quadratic to linear here (torchvision's and Detectron's value).
BOX_LOSS_BETA = 1 / 9

#: Regions are pooled from maps up to this stride; a coarser one serves proposals and context only.
COARSEST_POOLED_STRIDE = 32


@dataclass(frozen=True, eq=False)
class StageOutput:
    """What one stage predicts for its regions.

    Attributes:
        features_RD: what class and box were predicted from.
        logits_RK: class logits, background first.
        deltas_R4: box deltas, the same for all classes.
        losses: the head's own losses.
    """

    features_RD: Tensor
    logits_RK: Tensor
    deltas_R4: Tensor
    losses: dict[str, Tensor]


class RegionPool(nn.Module):
    """RoIAlign on the map that fits a region's size (FPN, equation 1); torchvision's, in the regions' order.

    Args:
        strides: px of one cell of each feature map; none: heads pool for themselves and get maps of no size.
        roi_size: P, side of the pooled map.
        sampling_ratio: points a bin and side.
    """

    def __init__(self, strides: Sequence[int], roi_size: int, sampling_ratio: int) -> None:
        super().__init__()
        self.names = [str(level) for level, stride in enumerate(strides) if stride <= COARSEST_POOLED_STRIDE]
        self.align = MultiScaleRoIAlign(self.names, roi_size, sampling_ratio)

    def forward(self, regions: Regions) -> Tensor:
        """Return pooled_RCPP."""
        maps = regions.context
        if not self.names:
            return maps.maps[0].new_zeros(len(regions), maps.maps[0].shape[1], 0, 0)
        height, width = (side * maps.strides[0] for side in maps.maps[0].shape[-2:])
        pooled_maps = {name: maps.maps[int(name)] for name in self.names}
        sizes = [(height, width)] * regions.num_images
        if regions.num_images == 1:  # nothing to sort, and nothing here that an export could not follow
            alone: Tensor = self.align(pooled_maps, [regions.boxes_R4], sizes)
            return alone
        order = torch.argsort(regions.image_R, stable=True)
        counts = torch.bincount(regions.image_R, minlength=regions.num_images).tolist()
        boxes = list(torch.split(regions.boxes_R4[order], counts))
        pooled: Tensor = self.align(pooled_maps, boxes, sizes)
        return pooled[torch.argsort(order)]


class Stage(nn.Module):
    """A head with its class layer and its class-agnostic box layer.

    Args:
        config: thresholds and weights.
        head: turns pooled maps into features.
        num_classes: C.
        pool: RoIAlign, without weights, the same for all stages.
        score_update: changes the class logits; None: they stay as the class layer gives them.
        keep: the next stage looks at the same boxes and gets the features made here.
    """

    def __init__(
        self,
        config: StageConfig,
        head: BoxHead,
        num_classes: int,
        pool: RegionPool,
        score_update: ScoreUpdate | None = None,
        *,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.pool = pool
        self.head = head
        self.class_layer = nn.Linear(head.out_features, num_classes + 1)
        self.box_layer = nn.Linear(head.out_features, 4)
        self.score_update = score_update
        self.keep = keep
        self.class_loss = build_class_loss(config.class_loss, num_classes)
        if self.class_loss.prior:
            nn.init.constant_(self.class_layer.bias[FOREGROUND], prior_bias(self.class_loss.prior))

    def forward(self, regions: Regions) -> StageOutput:
        """Predict class and box of every region."""
        features_RD, losses = self.head(self.pool_maps(regions), regions)
        logits_RK = self.class_layer(features_RD)
        if self.score_update is not None:
            logits_RK = self.score_update(logits_RK, regions)
        return StageOutput(features_RD, logits_RK, self.box_layer(features_RD), losses)

    def pool_maps(self, regions: Regions) -> Tensor:
        """Return pooled_RCPP for the head; maps of no size where the features are there already."""
        if regions.features_RD is not None:
            return regions.features_RD[:, :0, None, None]
        pooled_RCPP: Tensor = self.pool(regions)
        return pooled_RCPP

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars of the head and of the score update about the last forward pass."""
        update = self.score_update.diagnostics() if self.score_update is not None else {}
        return {**self.head.diagnostics(), **update}

    def assign(self, regions: Regions, targets: Sequence[dict[str, Tensor]]) -> Regions:
        """Give every region the ground truth it overlaps by `foreground_iou` or more; rows stay."""
        labels_R = torch.full_like(regions.image_R, BACKGROUND)
        truth_R4 = regions.boxes_R4.clone()
        for image, target in enumerate(targets):
            rows = torch.nonzero(regions.image_R == image).flatten()
            labels_R[rows], truth_R4[rows] = assign_boxes(
                regions.boxes_R4[rows], target["boxes"], target["labels"], self.config.foreground_iou
            )
        return replace(regions, labels_R=labels_R, truth_R4=truth_R4)

    def losses(self, regions: Regions, output: StageOutput) -> dict[str, Tensor]:
        """Loss of the class and smooth L1 of the box, weighted; means over the regions learnt from.

        The box loss is summed over foreground regions and divided by the number of all, as in torchvision.
        With `hard_regions` only so many regions of each image count, those of the highest loss (OHEM:
        Shrivastava, Gupta, Girshick, CVPR 2016).
        """
        assert regions.labels_R is not None
        assert regions.truth_R4 is not None
        class_R = self.class_loss(output.logits_RK, regions.labels_R)
        rows = torch.nonzero(regions.labels_R != BACKGROUND).flatten()
        wanted = encode_boxes(regions.boxes_R4[rows], regions.truth_R4[rows], self.config.box_std)
        deltas = output.deltas_R4[rows].float()
        box_loss = F.smooth_l1_loss(deltas, wanted, beta=BOX_LOSS_BETA, reduction="none").sum(dim=1)
        box_R = torch.zeros_like(class_R).index_put((rows,), box_loss)
        if self.config.hard_regions:
            hard = hard_rows((class_R + box_R).detach(), regions.image_R, self.config.hard_regions)
            class_R, box_R = class_R[hard], box_R[hard]
        count = max(len(class_R), 1)
        losses = {"class": class_R.sum() / count, "box": box_R.sum() / count, **output.losses}
        return {name: loss * self.config.loss_weight for name, loss in losses.items()}

    def refine(self, regions: Regions, output: StageOutput) -> Regions:
        """Return the same regions in the same order as the next stage sees them.

        Boxes are moved and clipped, without gradient; for a stage that keeps them they stay, and the features
        come along. Logits and class layer come along; targets are dropped.
        """
        boxes_R4 = regions.boxes_R4
        if not self.keep:
            moved = decode_boxes(output.deltas_R4.detach(), boxes_R4, self.config.box_std)
            boxes_R4 = clip_boxes(moved, regions.sizes_B2[regions.image_R])
        return replace(
            regions,
            boxes_R4=boxes_R4,
            features_RD=output.features_RD if self.keep else None,
            logits_RK=output.logits_RK,
            weight_KD1=torch.cat([self.class_layer.weight, self.class_layer.bias[:, None]], dim=1).detach(),
            labels_R=None,
            truth_R4=None,
        )


def hard_rows(loss_R: Tensor, image_R: Tensor, count: int) -> Tensor:
    """Return the rows of the `count` highest losses of each image; all of them where it has fewer."""
    hard = [torch.zeros_like(image_R[:0])]
    for image in image_R.unique().tolist():  # type: ignore[no-untyped-call]
        rows = torch.nonzero(image_R == image).flatten()
        hard.append(rows[loss_R[rows].argsort(descending=True, stable=True)[:count]])
    return torch.cat(hard)
