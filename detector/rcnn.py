"""Region-based detectors as a tuple of stages: one is Faster R-CNN, a second reasons."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detector.backbone import Backbone, build_backbone
from detector.boxes import sample_labels
from detector.config import ModelConfig, ProposalConfig
from detector.ensemble import combine_logits
from detector.errors import ConfigError
from detector.interfaces import (
    BoxHead,
    DuplicateRemoval,
    FeatureMaps,
    HeadInputs,
    Regions,
    RemovalInputs,
)
from detector.stage import RegionPool, Stage, StageOutput

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]

Target = dict[str, Tensor]


class RCNN(nn.Module):
    """Backbone, region proposals and one or more region stages.

    Training: `model(images, targets)` returns losses by name. Evaluation: `model(images)` returns one dict
    an image with boxes (xyxy px of the image as given), labels (1..C) and scores, best first. This is
    torchvision's contract.

    Args:
        config: thresholds and numbers of regions.
        backbone: images to feature maps.
        proposals: torchvision's region proposal network.
        stages: one after the other on the same regions, each on the boxes that the one before has refined.
        duplicate_removal: what stays of several boxes on one object, after the last stage.
    """

    def __init__(
        self,
        config: ModelConfig,
        backbone: Backbone,
        proposals: RegionProposalNetwork,
        stages: Sequence[Stage],
        duplicate_removal: DuplicateRemoval,
    ) -> None:
        super().__init__()
        self.config = config
        self.transform = GeneralizedRCNNTransform(
            config.min_size, config.max_size, IMAGENET_MEAN, IMAGENET_STD
        )
        self.backbone = backbone
        self.proposals = proposals
        self.stages = cast("Sequence[Stage]", nn.ModuleList(stages))
        self.duplicate_removal = duplicate_removal

    @property
    def messages(self) -> tuple[str, ...]:
        """What to tell the user about weights that were loaded while building."""
        return self.backbone.messages

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return losses in training, detections in evaluation.

        Args:
            images: (3, H, W) in 0..1, of any sizes.
            targets: in training, a dict an image with boxes (G, 4) and labels (G,), 1..C; G may be 0.
        """
        if self.training:
            assert targets is not None
            return self._losses(images, targets)
        return self._detections(images)

    def diagnostics(self) -> dict[str, float]:
        """Numbers about the last forward pass, such as `stage2_attention_max`."""
        return {
            f"stage{number}_{name}": value
            for number, stage in enumerate(self.stages, start=1)
            for name, value in stage.head.diagnostics().items()
        }

    def _losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        batch, targets = self.transform(list(images), list(targets))
        maps = self.backbone(batch.tensors)
        boxes, losses = self._propose(batch, maps, targets)
        regions = _with_truth(_regions(boxes, batch, maps), targets)
        regions = self._sample(self.stages[0].assign(regions, targets))
        for number, stage in enumerate(self.stages, start=1):
            if number > 1:
                regions = stage.assign(regions, targets)
            output = stage(regions)
            losses |= {f"stage{number}_{name}": loss for name, loss in stage.losses(regions, output).items()}
            regions = stage.refine(regions, output)
        _, removal_losses = self._remove_duplicates(regions, output.features_RD, targets)
        return losses | {f"duplicates_{name}": loss for name, loss in removal_losses.items()}

    def _detections(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        batch, _ = self.transform(list(images))
        maps = self.backbone(batch.tensors)
        boxes, _ = self._propose(batch, maps, None)
        regions = _regions(boxes, batch, maps)
        seen: list[Regions] = []
        outputs: list[StageOutput] = []
        for stage in self.stages:
            seen.append(regions)
            outputs.append(stage(regions))
            regions = stage.refine(regions, outputs[-1])
        logits_RK = combine_logits(self.config.class_scores, self.stages, seen, outputs)
        regions = replace(regions, logits_RK=logits_RK)
        detections, _ = self._remove_duplicates(regions, outputs[-1].features_RD, None)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        in_px_of_image: list[dict[str, Tensor]] = self.transform.postprocess(
            detections, batch.image_sizes, sizes
        )
        return in_px_of_image

    def _remove_duplicates(
        self, regions: Regions, features_RD: Tensor, targets: Sequence[Target] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        assert regions.logits_RK is not None
        scores_RK = regions.logits_RK.float().softmax(dim=1)
        return self.duplicate_removal(scores_RK, regions.boxes_R4, features_RD, regions, targets)

    def _sample(self, regions: Regions) -> Regions:
        assert regions.labels_R is not None
        chosen = []
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            count, fraction = self.config.regions_per_image, self.config.positive_fraction
            chosen.append(rows[sample_labels(regions.labels_R[rows], count, fraction)])
        return regions[torch.cat(chosen)]

    def _propose(
        self, batch: ImageList, maps: FeatureMaps, targets: Sequence[Target] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Run the RPN in float32: in half precision, coordinates above 256 px are no longer whole pixels."""
        settings = self.config.proposals
        self.proposals.nms_thresh = settings.nms_iou if self.training else settings.nms_iou_test
        with torch.autocast(batch.tensors.device.type, enabled=False):
            features = {str(level): feature.float() for level, feature in enumerate(maps.maps)}
            boxes, losses = self.proposals(batch, features, targets)
        names = {"loss_objectness": "rpn_objectness", "loss_rpn_box_reg": "rpn_box"}
        return boxes, {names[name]: loss for name, loss in losses.items()}


def build_model(config: ModelConfig, num_classes: int, graph_CC: Tensor | None) -> RCNN:
    """Make a detector.

    Args:
        config: the model part of a run's configuration.
        num_classes: C, without background.
        graph_CC: class graph in the data's class order, without background; None when no head needs one. To
            load a run's weights, zeros do: a head keeps its graph among its weights.

    Raises:
        ConfigError: the parts of `config` do not fit together, or a graph is needed and missing.
        InputError, MissingResourceError: see `build_backbone`.
    """
    if not config.stages:
        raise ConfigError("model.stages: found none; expected one or more region stages")
    backbone = build_backbone(config.backbone)
    proposals = _build_proposals(config.proposals, backbone)
    pool = RegionPool(backbone.strides, config.roi_size, config.roi_sampling_ratio)
    stages: list[Stage] = []
    previous: BoxHead | None = None
    for stage_config in config.stages:
        previous = stage_config.head.build(
            HeadInputs(
                backbone.out_channels, len(backbone.strides), config.roi_size, num_classes, graph_CC, previous
            )
        )
        stages.append(Stage(stage_config, previous, num_classes, pool))
    removal = config.duplicate_removal.build(
        RemovalInputs(
            stages[-1].head.out_features, num_classes, config.score_threshold, config.detections_per_image
        )
    )
    return RCNN(config, backbone, proposals, stages, removal)


def _build_proposals(config: ProposalConfig, backbone: Backbone) -> RegionProposalNetwork:
    if len(config.anchor_sizes) != len(backbone.strides):
        raise ConfigError(
            f"model.proposals.anchor_sizes: found {len(config.anchor_sizes)} levels; expected "
            f"{len(backbone.strides)}, one for each feature map of the backbone"
        )
    anchors = AnchorGenerator(config.anchor_sizes, (config.aspect_ratios,) * len(config.anchor_sizes))
    return RegionProposalNetwork(
        anchors,
        RPNHead(backbone.out_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.batch_size_per_image,
        positive_fraction=0.5,
        pre_nms_top_n={"training": config.pre_nms_train, "testing": config.pre_nms_test},
        post_nms_top_n={"training": config.post_nms_train, "testing": config.post_nms_test},
        nms_thresh=config.nms_iou,
    )


def _regions(boxes: Sequence[Tensor], batch: ImageList, maps: FeatureMaps) -> Regions:
    counts = torch.tensor([len(boxes_N4) for boxes_N4 in boxes])
    return Regions(
        boxes_R4=torch.cat(list(boxes)).detach(),
        image_R=torch.repeat_interleave(torch.arange(len(boxes)), counts).to(boxes[0].device),
        sizes_B2=torch.tensor(batch.image_sizes, device=boxes[0].device),
        context=maps,
    )


def _with_truth(regions: Regions, targets: Sequence[Target]) -> Regions:
    """Add each image's ground-truth boxes as regions: there are good ones from the first step."""
    boxes, images = [regions.boxes_R4], [regions.image_R]
    for image, target in enumerate(targets):
        boxes.append(target["boxes"])
        images.append(torch.full_like(target["labels"], image))
    boxes_R4 = torch.cat(boxes)
    proposed_R = torch.arange(len(boxes_R4), device=boxes_R4.device) < len(regions)
    return replace(regions, boxes_R4=boxes_R4, image_R=torch.cat(images), proposed_R=proposed_R)
