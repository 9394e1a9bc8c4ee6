"""What a detector makes of annotated objects: the features of their regions, before and after reasoning."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from detector.annotations import Annotations
from detector.data import ImageDataset, iter_batches, load_batches
from detector.errors import InputError
from detector.head_views import EnrichingHead
from detector.knowledge import FOREGROUND
from detector.rcnn import RCNN
from detector.sampling import batches_of


@dataclass(frozen=True, eq=False)
class RegionFeatures:
    """Features of N annotated objects.

    Attributes:
        parts: by name, each (N, its width) float32. The first is what is known of a region before anything is
            added to it; a detector that adds nothing has "f" alone.
        joined: whether the class layer reads the parts side by side.
        class_N: classes, 0..C-1.
        image_N: which image of the annotations each object is in.
        boxes_N4: xyxy px of the image.
    """

    parts: dict[str, np.ndarray]
    joined: bool
    class_N: np.ndarray
    image_N: np.ndarray
    boxes_N4: np.ndarray


def region_features(model: RCNN, annotations: Annotations) -> RegionFeatures:
    """Gather the features of every annotated object of a split.

    As in training, the annotated boxes join the proposals, so that a head that lets regions see each other
    has all of them to look at. Behind RetinaNet's dense head an object has the predicted box nearest to its
    own. What the last stage that adds something makes of it counts; of a plain detector, the last stage.

    Args:
        model: in evaluation mode.
        annotations: classes in the model's order; no masks needed.

    Raises:
        InputError: an image cannot be read, there is no object, or the detector has no region stages.
    """
    if not len(model.stages):
        raise InputError("found a detector without region stages; expected one that has features of regions")
    images = annotations.usable_images()
    if not len(images):
        raise InputError(f"{annotations.path}: found no annotated object; expected one or more")
    dataset = ImageDataset(replace(annotations, segmentation_N=None), images)
    device = next(model.parameters()).device
    loader = load_batches(dataset, batches_of(np.arange(len(images)), 1), device=device)
    rows: list[tuple[dict[str, Tensor], Tensor, np.ndarray, Tensor]] = []
    joined = False
    with torch.inference_mode():
        for pixels, (target,) in iter_batches(loader, device):
            parts, joined = _parts_of_image(model, pixels[0], target)
            image_G = np.full(len(target["labels"]), int(target["image"]))
            rows.append((parts, target["labels"] - FOREGROUND.start, image_G, target["boxes"]))
    return RegionFeatures(
        {name: _stack([parts[name] for parts, *_ in rows]) for name in rows[0][0]},
        joined,
        _stack([class_G for _, class_G, _, _ in rows]),
        np.concatenate([image_G for _, _, image_G, _ in rows]),
        _stack([boxes_G4 for *_, boxes_G4 in rows]),
    )


def _parts_of_image(model: RCNN, image: Tensor, target: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The parts of the features of each object, and whether they are the halves of what the head returns."""
    batch, (resized,) = model.transform([image], [target])
    proposed, _ = model.proposals(batch, model.backbone(batch.tensors), [resized])
    rows_G = box_iou(resized["boxes"], proposed.boxes_R4).argmax(dim=1)
    seen, outputs, _ = model.walk(proposed)
    for stage, regions in reversed(list(zip(model.stages, seen, strict=True))):
        if isinstance(stage.head, EnrichingHead):
            parts = stage.head.feature_parts(stage.pool_maps(regions), regions)
            joined = sum(part.shape[1] for part in parts.values()) == stage.head.out_features
            return {name: part[rows_G].float() for name, part in parts.items()}, joined
    return {"f": outputs[-1].features_RD[rows_G].float()}, False


def _stack(tensors: list[Tensor]) -> np.ndarray:
    stacked: np.ndarray = torch.cat(tensors).cpu().numpy()
    return stacked
