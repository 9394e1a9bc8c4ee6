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
from detector.boxes import greedy_nms, sample_labels
from detector.config import ModelConfig, ProposalConfig
from detector.ensemble import combine_logits
from detector.errors import ConfigError
from detector.interfaces import BoxHead, FeatureMaps, HeadInputs, Regions
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
    """

    def __init__(
        self,
        config: ModelConfig,
        backbone: Backbone,
        proposals: RegionProposalNetwork,
        stages: Sequence[Stage],
    ) -> None:
        super().__init__()
        self.config = config
        self.transform = GeneralizedRCNNTransform(
            config.min_size, config.max_size, IMAGENET_MEAN, IMAGENET_STD
        )
        self.backbone = backbone
        self.proposals = proposals
        self.stages = cast("Sequence[Stage]", nn.ModuleList(stages))

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
        boxes = [
            torch.cat([proposed, target["boxes"]]) for proposed, target in zip(boxes, targets, strict=True)
        ]
        regions = self._sample(self.stages[0].assign(_regions(boxes, batch, maps), targets))
        for number, stage in enumerate(self.stages, start=1):
            if number > 1:
                regions = stage.assign(regions, targets)
            output = stage(regions)
            losses |= {f"stage{number}_{name}": loss for name, loss in stage.losses(regions, output).items()}
            regions = stage.refine(regions, output)
        return losses

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
        detections = [self._select(regions[regions.image_R == image]) for image in range(regions.num_images)]
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        in_px_of_image: list[dict[str, Tensor]] = self.transform.postprocess(
            detections, batch.image_sizes, sizes
        )
        return in_px_of_image

    def _select(self, regions: Regions) -> dict[str, Tensor]:
        assert regions.logits_RK is not None
        boxes, scores, labels = greedy_nms(
            regions.boxes_R4,
            regions.logits_RK.float().softmax(dim=1),
            score_threshold=self.config.score_threshold,
            iou=self.config.nms_iou,
            limit=self.config.detections_per_image,
        )
        return {"boxes": boxes, "scores": scores, "labels": labels}

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
    return RCNN(config, backbone, proposals, stages)


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
