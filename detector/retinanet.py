"""RetinaNet: a dense head that classifies every anchor; alone a detector, or in front of region stages.

Paper: Lin, Goyal, Girshick, He, Dollar: "Focal Loss for Dense Object Detection", ICCV 2017. Towers, anchors
and losses are torchvision's.

    FL(p) = -alpha (1 - p)^gamma log p      (equation 5), alpha 0.25, gamma 2; where the class is absent, p is
                                            the probability of that, and alpha is 0.75

Alone (`stages=()`) the best anchors of each level are the regions, their scores are sigmoids, and duplicate
removal gives the detections. In front of stages they are what a first stage is elsewhere: Reasoning-RCNN "can
be stacked on any one/two-stage modern detection framework" (its section 3.1). Its paper does not say how, and
has no result with a one-stage detector. What a second stage needs, and where it is taken from here:

    boxes           the decoded boxes that remain after NMS at 0.7, whatever their class; in training also the
                    one nearest to each ground-truth box, which itself has no logits and is not added
    P, logits_RK    (0, z_1 ... z_C): the softmax over these is the sigmoid where only one class is likely
    M, weight_KD1   the last convolution of the class tower as one row a class: the mean over the anchors of
                    a cell, summed over the 3 x 3 window, which is how the class answers to a flat map; its
                    bias as last column; zeros for background, whose logit is 0
    f               two linear layers of the pyramid's width on the pooled map, since the dense head has no
                    region features of the width of M; they belong to the proposer (`box_head`)

Departs from the RetinaNet paper, with torchvision: P6 is made from P5, not C5; the box loss is L1 without
scaling of the deltas; losses are divided by each image's foreground anchors, then averaged over images. Ours:
the 1,000 candidates of a level are anchors, not pairs of anchor and class.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou, nms

from detector.boxes import clip_boxes, decode_boxes
from detector.config import RetinaNetConfig
from detector.interfaces import BoxHead, FeatureMaps, Regions
from detector.knowledge import FOREGROUND
from detector.proposals import Target, build_anchors, image_sizes, to_regions


class DenseProposals(nn.Module):
    """Classes and boxes of every anchor, and the best of them as regions with class logits.

    Args:
        config: anchors, matching and numbers.
        channels: channels of each feature map.
        num_maps: number of feature maps.
        num_classes: C.
        box_head: what a stage behind may build on; None when no stage follows, then every candidate is a
            region.

    Raises:
        ConfigError: the anchors have another number of levels.
    """

    def __init__(
        self,
        config: RetinaNetConfig,
        channels: int,
        num_maps: int,
        num_classes: int,
        box_head: BoxHead | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.anchors = build_anchors(config.anchor_sizes, config.aspect_ratios, num_maps)
        self.head = RetinaNetHead(channels, self.anchors.num_anchors_per_location()[0], num_classes)
        self.match = Matcher(config.foreground_iou, config.background_iou, allow_low_quality_matches=True)
        self.box_head = box_head

    def forward(
        self, batch: ImageList, maps: FeatureMaps, targets: Sequence[Target] | None
    ) -> tuple[Regions, dict[str, Tensor]]:
        """Return regions with logits and class weights, and in training the losses of all anchors."""
        outputs = {name: value.float() for name, value in self.head(list(maps.maps)).items()}
        anchors = self.anchors(batch, [feature.float() for feature in maps.maps])
        levels = [
            cells * per_cell
            for cells, per_cell in zip(
                (feature[0, 0].numel() for feature in maps.maps),
                self.anchors.num_anchors_per_location(),
                strict=True,
            )
        ]
        boxes, logits = [], []
        for image, anchors_N4 in enumerate(anchors):
            logits_NC, deltas_N4 = outputs["cls_logits"][image], outputs["bbox_regression"][image]
            truth_G4 = targets[image]["boxes"] if targets is not None else None
            size_12 = image_sizes(batch)[image : image + 1]
            boxes_N4 = clip_boxes(decode_boxes(deltas_N4.detach(), anchors_N4, (1, 1, 1, 1)), size_12)
            rows = self._choose(boxes_N4, logits_NC.detach().max(dim=1).values, levels, truth_G4)
            boxes.append(boxes_N4[rows])
            logits.append(logits_NC[rows])
        losses = {} if targets is None else self._losses(outputs, anchors, targets)
        regions = to_regions(boxes, image_sizes(batch), maps)
        return replace(
            regions, logits_RK=nn.functional.pad(torch.cat(logits), (1, 0)), weight_KD1=self.class_weights()
        ), losses

    def class_weights(self) -> Tensor:
        """Read the last convolution of the class tower as one row a class: weight_KD1, detached."""
        layer = self.head.classification_head.cls_logits
        weight_CD = layer.weight.detach().float().sum(dim=(2, 3)).unflatten(0, (-1, self.num_classes)).mean(0)
        bias_C = layer.bias.detach().float().view(-1, self.num_classes).mean(0)
        return nn.functional.pad(torch.cat([weight_CD, bias_C[:, None]], dim=1), (0, 0, FOREGROUND.start, 0))

    def _choose(
        self, boxes_N4: Tensor, score_N: Tensor, levels: list[int], truth_G4: Tensor | None
    ) -> Tensor:
        """Rows of the anchors of one image that become regions."""
        best = [
            level_scores.topk(min(self.config.candidates_per_level, len(level_scores))).indices
            for level_scores in torch.split(score_N, levels)
        ]
        starts = [sum(levels[:level]) for level in range(len(levels))]
        rows = torch.cat([rows + start for rows, start in zip(best, starts, strict=True)])
        if self.box_head is None:
            return rows
        limit = self.config.post_nms_test if truth_G4 is None else self.config.post_nms_train
        rows = rows[nms(boxes_N4[rows], score_N[rows], self.config.nms_iou)[:limit]]
        if truth_G4 is None or not len(truth_G4):
            return rows
        nearest_G = box_iou(truth_G4, boxes_N4).argmax(dim=1)
        chosen_N = torch.zeros(len(boxes_N4), dtype=torch.bool, device=boxes_N4.device)
        chosen_N[rows] = chosen_N[nearest_G] = True
        return torch.nonzero(chosen_N).flatten()

    def _losses(
        self, outputs: dict[str, Tensor], anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Focal loss of the classes and L1 of the boxes (torchvision's)."""
        shifted = [{**target, "labels": target["labels"] - FOREGROUND.start} for target in targets]
        matched = [
            self.match(box_iou(target["boxes"], anchors_N4))
            if len(target["boxes"])
            else torch.full((len(anchors_N4),), Matcher.BELOW_LOW_THRESHOLD, device=anchors_N4.device)
            for target, anchors_N4 in zip(targets, anchors, strict=True)
        ]
        losses = self.head.compute_loss(shifted, outputs, anchors, matched)
        return {"dense_class": losses["classification"], "dense_box": losses["bbox_regression"]}
