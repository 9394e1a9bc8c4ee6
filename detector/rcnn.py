"""Detectors as proposals and a tuple of region stages: one is Faster R-CNN, a second reasons.

With the dense head of RetinaNet as proposals, no stage is RetinaNet, and one that reasons a second.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detector.backbone import Backbone, build_backbone
from detector.boxes import sample_labels
from detector.config import ModelConfig, ProposalConfig
from detector.ensemble import combine_logits
from detector.errors import ConfigError
from detector.interfaces import (
    BoxHead,
    DuplicateRemoval,
    HeadInputs,
    Regions,
    RemovalInputs,
    SharedHead,
    TwoLinear,
    UpdateInputs,
)
from detector.mask import MaskBranch
from detector.positions import PositionCounts
from detector.proposals import Proposer, RegionProposals, Target
from detector.retinanet import DenseProposals
from detector.stage import RegionPool, Stage, StageOutput

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class RCNN(nn.Module):
    """Backbone, proposals and the region stages.

    Training: `model(images, targets)` returns losses by name. Evaluation: `model(images)` returns one dict
    an image with boxes (xyxy px of the image as given), labels (1..C) and scores, best first, and with a
    mask branch masks (N, 1, H, W), probabilities. This is torchvision's contract.

    Args:
        config: thresholds and numbers of regions.
        backbone: images to feature maps.
        proposals: where to look; RetinaNet's also say what is there.
        stages: one after the other on the same regions, each on the boxes that the one before has refined or,
            where it keeps them, on the same.
        duplicate_removal: what stays of several boxes on one object, after the last stage.
        mask: gives every detection a mask; None: boxes only.
    """

    def __init__(
        self,
        config: ModelConfig,
        backbone: Backbone,
        proposals: Proposer,
        stages: Sequence[Stage],
        duplicate_removal: DuplicateRemoval,
        mask: MaskBranch | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.transform = self._transform_to(config.min_size)
        self.backbone = backbone
        self.proposals = proposals
        self.stages = cast("Sequence[Stage]", nn.ModuleList(stages))
        self.duplicate_removal = duplicate_removal
        self.mask = mask

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
            targets: in training, a dict an image with boxes (G, 4) and labels (G,), 1..C; G may be 0. A mask
                branch needs masks (G, H, W) too, uint8. With short_side, a number of px, an image is resized
                to that instead of to `min_size`.
        """
        if self.training:
            assert targets is not None
            return self._losses(images, targets)
        return self.decide(images, *self.look(images))

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars about the last forward pass, such as `stage2_attention_max` (see `BoxHead`)."""
        return {
            f"stage{number}_{name}": value
            for number, stage in enumerate(self.stages, start=1)
            for name, value in stage.diagnostics().items()
        }

    def _losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        batch, targets = self._resize(images, targets)
        maps = self.backbone(batch.tensors)
        regions, losses = self.proposals(batch, maps, targets)
        output: StageOutput | None = None
        for number, stage in enumerate(self.stages, start=1):
            regions = stage.assign(regions, targets)
            if number == 1:
                regions = self.sample(regions)
            assigned, output = regions, stage(regions)
            losses |= {f"stage{number}_{name}": loss for name, loss in stage.losses(regions, output).items()}
            regions = stage.refine(regions, output)
        if self.mask:
            losses |= self.mask.losses(assigned, targets)
        _, removal_losses = self._remove_duplicates(regions, output, targets)
        return losses | {f"duplicates_{name}": loss for name, loss in removal_losses.items()}

    def _resize(
        self, images: Sequence[Tensor], targets: Sequence[Target]
    ) -> tuple[ImageList, Sequence[Target]]:
        """Resize and normalise a batch, every image to its own short side where targets name one."""
        if not any("short_side" in target for target in targets):
            batch, resized = self.transform(list(images), list(targets))
            return batch, resized
        pairs = []
        for image, target in zip(images, targets, strict=True):
            transform = self._transform_to(int(target.get("short_side", self.config.min_size)))
            pairs.append(transform.resize(transform.normalize(image), dict(target)))
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image, _ in pairs]
        pixels = self.transform.batch_images([image for image, _ in pairs], self.transform.size_divisible)
        return ImageList(pixels, sizes), [target for _, target in pairs]

    def _transform_to(self, short_side: int) -> GeneralizedRCNNTransform:
        return GeneralizedRCNNTransform(short_side, self.config.max_size, IMAGENET_MEAN, IMAGENET_STD)

    def look(
        self, images: Sequence[Tensor], transform: GeneralizedRCNNTransform | None = None
    ) -> tuple[ImageList, Regions, StageOutput | None]:
        """Run everything before duplicate removal, in evaluation.

        Args:
            images: (3, H, W) in 0..1, of any sizes.
            transform: resizes and normalises in place of the model's own.

        Returns:
            the batch, its regions with the class logits that count, and what the last stage said.
        """
        batch, _ = (transform or self.transform)(list(images))
        regions, _ = self.proposals(batch, self.backbone(batch.tensors), None)
        _, outputs, regions = self.walk(regions)
        return batch, regions, outputs[-1] if outputs else None

    def walk(self, regions: Regions) -> tuple[list[Regions], list[StageOutput], Regions]:
        """Send proposals through the stages, in evaluation.

        Returns:
            the regions that each stage got, what it said, and the regions as the last one leaves them, with
            the class logits that count; always the same rows.
        """
        seen: list[Regions] = []
        outputs: list[StageOutput] = []
        for stage in self.stages:
            seen.append(regions)
            outputs.append(stage(regions))
            regions = stage.refine(regions, outputs[-1])
        if outputs:
            logits_RK = combine_logits(self.config.class_scores, self.stages, seen, outputs)
            regions = replace(regions, logits_RK=logits_RK)
        return seen, outputs, regions

    def score(self, regions: Regions) -> Tensor:
        """Return scores_RK of the last stage; sigmoids where the dense head has the last word."""
        assert regions.logits_RK is not None
        logits_RK = regions.logits_RK.float()
        return self.stages[-1].class_loss.scores(logits_RK) if len(self.stages) else logits_RK.sigmoid()

    def decide(
        self, images: Sequence[Tensor], batch: ImageList, regions: Regions, last: StageOutput | None
    ) -> list[dict[str, Tensor]]:
        """Turn what `look` returned for `images` into detections, in px of the images."""
        detections = self.find(regions, last)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        in_px_of_image: list[dict[str, Tensor]] = self.transform.postprocess(
            detections, batch.image_sizes, sizes
        )
        return in_px_of_image

    def find(self, regions: Regions, last: StageOutput | None) -> list[dict[str, Tensor]]:
        """Return the detections among regions whose logits and boxes are final, in px of the batch."""
        detections, _ = self._remove_duplicates(regions, last, None)
        return self.mask.predict(detections, regions.sizes_B2, regions.context) if self.mask else detections

    def _remove_duplicates(
        self, regions: Regions, last: StageOutput | None, targets: Sequence[Target] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        scores_RK = self.score(regions)
        features_RD = last.features_RD if last else regions.boxes_R4[:, :0]
        return self.duplicate_removal(scores_RK, regions.boxes_R4, features_RD, regions, targets)

    def sample(self, regions: Regions) -> Regions:
        """Draw the regions of each image that are learnt from: `regions_per_image`, by their labels."""
        assert regions.labels_R is not None
        chosen = []
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            count, fraction = self.config.regions_per_image, self.config.positive_fraction
            chosen.append(rows[sample_labels(regions.labels_R[rows], count, fraction)])
        return regions[torch.cat(chosen)]


def build_model(
    config: ModelConfig,
    num_classes: int,
    graphs: Tensor | None,
    counts_CC: Tensor | None = None,
    own_CC: Tensor | None = None,
    positions: PositionCounts | None = None,
) -> RCNN:
    """Make a detector.

    Args:
        config: the model part of a run's configuration.
        num_classes: C, without background.
        graphs: class graphs in the data's class order, without background: (C, C), or (G, C, C) for several;
            None when no head needs one. To load a run's weights, zeros do: a head keeps its graphs among its
            weights.
        counts_CC: the counts behind a graph in the same order, for a score update; as with graphs, zeros do
            to load a run's weights.
        own_CC: pairs of boxes in the training images, for a score update that asks them how far to trust the
            counts; None: there are none to ask.
        positions: the counts by where a class stands, for a score update that asks for them.

    Raises:
        ConfigError: the parts of `config` do not fit together, or a graph is needed and missing.
        InputError, MissingResourceError: see `build_backbone`.
    """
    if not config.stages and isinstance(config.proposals, ProposalConfig):
        raise ConfigError("model.stages: found none; expected one or more, or RetinaNet's proposals alone")
    backbone = build_backbone(config.backbone)
    proposals = _build_proposals(config, backbone, num_classes)
    top = backbone.take_top()
    pooled_strides = backbone.strides if config.roi_align else ()
    pool = RegionPool(pooled_strides, config.roi_size, config.roi_sampling_ratio)
    stages: list[Stage] = []
    previous: BoxHead | None = proposals.box_head
    for number, stage_config in enumerate(config.stages):
        previous = stage_config.head.build(
            HeadInputs(
                backbone.out_channels,
                len(backbone.strides),
                config.roi_size,
                num_classes,
                graphs,
                previous,
                top,
            )
        )
        if stage_config.regions == "kept":
            _check_shared(number, previous)
        keep = any(after.regions == "kept" for after in config.stages[number + 1 : number + 2])
        chosen = stage_config.score_update
        update_inputs = UpdateInputs(num_classes, counts_CC, own_CC, positions)
        update = chosen.build(update_inputs) if chosen else None
        stages.append(Stage(stage_config, previous, num_classes, pool, update, keep=keep))
    removal = config.duplicate_removal.build(
        RemovalInputs(
            stages[-1].head.out_features if stages else 0,
            num_classes,
            config.score_threshold,
            config.detections_per_image,
        )
    )
    mask = _build_mask(config, backbone, num_classes) if config.mask else None
    return RCNN(config, backbone, proposals, stages, removal, mask)


def _check_shared(number: int, head: BoxHead) -> None:
    if not any(isinstance(part, SharedHead) for part in cast("nn.Module", head).modules()):
        raise ConfigError(
            f"model.stages.{number}.regions: found kept with {type(head).__name__}, which reads pooled maps; "
            "expected refined, or a head on that of the stage before, such as SharedHeadConfig"
        )


def _build_mask(config: ModelConfig, backbone: Backbone, num_classes: int) -> MaskBranch:
    assert config.mask is not None
    if not config.stages:
        raise ConfigError(
            "model.mask: found no region stages in front of the mask branch; expected one or more"
        )
    pool = RegionPool(backbone.strides, config.mask.roi_size, config.roi_sampling_ratio)
    return MaskBranch(config.mask, backbone.out_channels, num_classes, pool)


def _build_proposals(
    config: ModelConfig, backbone: Backbone, num_classes: int
) -> RegionProposals | DenseProposals:
    """The type of the proposals' configuration says which they are."""
    channels, num_maps = backbone.out_channels, len(backbone.strides)
    if isinstance(config.proposals, ProposalConfig):
        return RegionProposals(config.proposals, channels, num_maps)
    box_head = TwoLinear(channels * config.roi_size**2, channels) if config.stages else None
    return DenseProposals(config.proposals, channels, num_maps, num_classes, box_head)
