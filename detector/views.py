"""One image looked at several times, mirrored and in several sizes: test-time augmentation.

The regions of all views come into the coordinates of the plain view and go through the model's own
duplicate removal together. Masks are read from the plain view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detector.errors import ConfigError
from detector.interfaces import Regions
from detector.nms import NMS
from detector.rcnn import IMAGENET_MEAN, IMAGENET_STD, RCNN


@dataclass(frozen=True)
class View:
    """A way to look at an image besides the plain one.

    Attributes:
        flip: mirrored, left and right.
        scale: how much larger than the model's own size, above 0.
    """

    flip: bool = False
    scale: float = 1.0


def list_views(*, flip: bool = False, scales: Sequence[float] = ()) -> tuple[View, ...]:
    """List the views besides the plain one: each scale, and with `flip` all of them mirrored too.

    Raises:
        ConfigError: a scale is not above 0.
    """
    for scale in scales:
        if not 0 < scale < float("inf"):
            raise ConfigError(f"scale {scale}: expected a number above 0")
    every = [View(mirrored, scale) for scale in dict.fromkeys((1.0, *scales)) for mirrored in (False, True)]
    return tuple(view for view in every[1:] if flip or not view.flip)


def check_views(model: RCNN, views: Sequence[View]) -> None:
    """Check that the model can join views.

    Raises:
        ConfigError: its duplicate removal is learned: it reads features, which differ from view to view.
    """
    if views and not isinstance(model.duplicate_removal, NMS):
        raise ConfigError(
            "test-time augmentation: this model's duplicate removal is learned and reads one view alone; "
            "expected NMS; leave out flip and scales"
        )


def detect_in_views(model: RCNN, images: Sequence[Tensor], views: Sequence[View]) -> list[dict[str, Tensor]]:
    """Return detections as `model(images)` does, from the plain view and others together.

    Args:
        model: in evaluation mode.
        images: (3, H, W) in 0..1, of any sizes.
        views: see `list_views`; none gives exactly `model(images)`.

    Raises:
        ConfigError: see `check_views`.
    """
    check_views(model, views)
    batch, plain, last = model.look(images)
    seen = [plain, *(_seen_in(view, model, images, plain) for view in views)]
    joined = replace(
        plain,
        boxes_R4=torch.cat([regions.boxes_R4 for regions in seen]),
        image_R=torch.cat([regions.image_R for regions in seen]),
        logits_RK=torch.cat([_logits(regions) for regions in seen]),
    )
    return model.decide(images, batch, joined, last)


def _seen_in(view: View, model: RCNN, images: Sequence[Tensor], plain: Regions) -> Regions:
    """The regions of one view, in px of the plain view's batch."""
    config = model.config
    transform = GeneralizedRCNNTransform(
        max(1, round(config.min_size * view.scale)),
        max(1, round(config.max_size * view.scale)),
        IMAGENET_MEAN,
        IMAGENET_STD,
    )
    shown = [image.flip(-1) if view.flip else image for image in images]
    _, regions, _ = model.look(shown, transform.eval())
    size_R2, wanted_R2 = (sizes[regions.image_R].flip(1) for sizes in (regions.sizes_B2, plain.sizes_B2))
    boxes_R4 = regions.boxes_R4
    if view.flip:
        right_to_left = size_R2[:, :1] - boxes_R4[:, [2, 0]]
        boxes_R4 = torch.stack(
            [right_to_left[:, 0], boxes_R4[:, 1], right_to_left[:, 1], boxes_R4[:, 3]], dim=1
        )
    return replace(regions, boxes_R4=boxes_R4 * (wanted_R2 / size_R2).repeat(1, 2))


def _logits(regions: Regions) -> Tensor:
    assert regions.logits_RK is not None
    return regions.logits_RK
