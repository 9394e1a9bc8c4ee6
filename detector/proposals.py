"""Where to look: what stands in front of the region stages.

A **Proposer** gives the regions of a batch. The plain one is the region proposal network of Faster R-CNN,
which knows no classes. The dense head of RetinaNet (`retinanet.py`) is another: its regions come with class
logits, so that a stage behind it is a second one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

from detector.config import ProposalConfig
from detector.errors import ConfigError
from detector.interfaces import BoxHead, FeatureMaps, Regions

Target = dict[str, Tensor]


class Proposer(Protocol):
    """Gives the regions that the first stage looks at. It is an `nn.Module`."""

    box_head: BoxHead | None  #: a head that the first stage may build on; None where no class is known yet

    def __call__(
        self, batch: ImageList, maps: FeatureMaps, targets: Sequence[Target] | None
    ) -> tuple[Regions, dict[str, Tensor]]:
        """Return regions, and losses by name in training (none in evaluation).

        Args:
            batch: the padded images, with the size of each.
            maps: their features.
            targets: in training, boxes (G, 4) in px of the batch and labels (G,), 1..C. For every box of them
                a region is among those returned that is the box, or the nearest that was predicted.
        """


class RegionProposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no types
    """torchvision's region proposal network; a subclass, so that its tensors keep torchvision's names.

    Args:
        config: anchors and numbers.
        channels: channels of each feature map.
        num_maps: number of feature maps.

    Raises:
        ConfigError: the anchors have another number of levels.
    """

    box_head: BoxHead | None = None

    def __init__(self, config: ProposalConfig, channels: int, num_maps: int) -> None:
        anchors = build_anchors(config.anchor_sizes, config.aspect_ratios, num_maps)
        super().__init__(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=config.batch_size_per_image,
            positive_fraction=0.5,
            pre_nms_top_n={"training": config.pre_nms_train, "testing": config.pre_nms_test},
            post_nms_top_n={"training": config.post_nms_train, "testing": config.post_nms_test},
            nms_thresh=config.nms_iou,
        )
        self.config = config

    def forward(
        self, batch: ImageList, maps: FeatureMaps, targets: Sequence[Target] | None = None
    ) -> tuple[Regions, dict[str, Tensor]]:
        """Propose in float32: in half precision, coordinates above 256 px are no longer whole pixels."""
        self.nms_thresh = self.config.nms_iou if self.training else self.config.nms_iou_test
        with torch.autocast(batch.tensors.device.type, enabled=False):
            features = {str(level): feature.float() for level, feature in enumerate(maps.maps)}
            boxes, losses = super().forward(batch, features, targets)
        names = {"loss_objectness": "rpn_objectness", "loss_rpn_box_reg": "rpn_box"}
        regions = to_regions(boxes, image_sizes(batch), maps)
        if targets is not None:
            regions = _with_truth(regions, targets)
        return regions, {names[name]: loss for name, loss in losses.items()}


def build_anchors(
    sizes: tuple[tuple[int, ...], ...], aspect_ratios: tuple[float, ...], num_maps: int
) -> AnchorGenerator:
    """Make torchvision's anchors, the same aspect ratios (height / width) on every map.

    Args:
        sizes: px, those of each map.
        aspect_ratios: of every size.
        num_maps: feature maps that there are.

    Raises:
        ConfigError: as many levels of sizes as maps are expected.
    """
    if len(sizes) != num_maps:
        raise ConfigError(
            f"model.proposals.anchor_sizes: found {len(sizes)} levels; expected "
            f"{num_maps}, one for each feature map of the backbone"
        )
    return AnchorGenerator(sizes, (aspect_ratios,) * num_maps)


def image_sizes(batch: ImageList) -> Tensor:
    """Height and width of each image without padding, (B, 2) int64."""
    return torch.tensor(batch.image_sizes, device=batch.tensors.device)


def to_regions(boxes: Sequence[Tensor], sizes_B2: Tensor, maps: FeatureMaps) -> Regions:
    """Join the boxes (N, 4) of each image to regions of the batch; they carry no gradient."""
    images = [
        torch.full_like(boxes_N4[:, 0], image, dtype=torch.int64) for image, boxes_N4 in enumerate(boxes)
    ]
    return Regions(
        boxes_R4=torch.cat(list(boxes)).detach(),
        image_R=torch.cat(images),
        sizes_B2=sizes_B2,
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
