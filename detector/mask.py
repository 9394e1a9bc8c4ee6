"""The mask branch of Mask R-CNN: a small mask for the class of every box.

Paper: He, Gkioxari, Dollar, Girshick: "Mask R-CNN", ICCV 2017, section 3. Layers, loss and pasting are
torchvision's: RoIAlign at 14 px, four 3x3 convolutions, a deconvolution and one 28 x 28 map a class.

It stands behind whatever stages there are, reasoning ones included, and pools plain feature maps: what a
head adds to class and box is not in a mask. In training it learns from the foreground regions of the last
stage, each on the box that the stage was given; in evaluation it looks at the boxes that are left as
detections.

Departs from the paper, with torchvision: targets are the masks pooled to 28 px, not cut at one half, and the
class layer has a map for background too, which nothing reads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.ops import box_iou

from detector.config import MaskConfig
from detector.interfaces import FeatureMaps, Regions
from detector.knowledge import BACKGROUND
from detector.proposals import Target, to_regions
from detector.stage import RegionPool


class MaskBranch(nn.Module):
    """Masks for boxes of known class.

    Args:
        config: sizes.
        channels: channels of each feature map.
        num_classes: C.
        pool: RoIAlign, of the branch's own size.
    """

    def __init__(self, config: MaskConfig, channels: int, num_classes: int, pool: RegionPool) -> None:
        super().__init__()
        self.pool = pool
        self.head = MaskRCNNHeads(channels, (config.channels,) * config.convolutions, 1)
        self.predictor = MaskRCNNPredictor(config.channels, config.channels, num_classes + 1)

    def forward(self, regions: Regions) -> Tensor:
        """Return mask logits, (R, K, 2 P, 2 P) in float32."""
        logits: Tensor = self.predictor(self.head(self.pool(regions)))
        return logits.float()

    def losses(self, regions: Regions, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Binary cross-entropy on the map of the true class: the mean over foreground regions and pixels.

        Args:
            regions: of the last stage, with labels.
            targets: boxes (G, 4), labels (G,) and masks (G, H, W) uint8 of each image, in px of the batch.
        """
        assert regions.labels_R is not None
        foreground_R = regions.labels_R != BACKGROUND
        rows = [
            torch.nonzero((regions.image_R == image) & foreground_R).flatten()
            for image in range(regions.num_images)
        ]
        boxes = [regions.boxes_R4[index] for index in rows]
        truth = [target["boxes"] for target in targets]
        nearest = [_nearest(*pair) for pair in zip(boxes, truth, strict=True)]
        logits = self(regions[torch.cat(rows)])
        masks, labels = ([target[name] for target in targets] for name in ("masks", "labels"))
        return {"mask": maskrcnn_loss(logits, boxes, masks, labels, nearest)}

    def predict(self, detections: Sequence[Target], sizes_B2: Tensor, maps: FeatureMaps) -> list[Target]:
        """Add to the detections of each image masks, (N, 1, 2 P, 2 P): probabilities inside each box."""
        regions = to_regions([found["boxes"] for found in detections], sizes_B2, maps)
        labels = torch.cat([found["labels"] for found in detections])
        logits = self(regions)[torch.arange(len(labels), device=labels.device), labels]
        counts = [len(found["labels"]) for found in detections]
        masks = torch.split(logits.sigmoid()[:, None], counts)
        return [{**found, "masks": mask} for found, mask in zip(detections, masks, strict=True)]


def _nearest(boxes_N4: Tensor, truth_G4: Tensor) -> Tensor:
    """The ground-truth box that each box overlaps most; none where there are no boxes."""
    return box_iou(boxes_N4, truth_G4).argmax(dim=1) if len(boxes_N4) else boxes_N4.new_zeros(0).long()
