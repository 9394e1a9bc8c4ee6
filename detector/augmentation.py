"""What training does to an image and its objects before the model sees them.

Mirror images, large-scale jitter and simple copy-paste (Ghiasi et al., "Simple Copy-Paste is a Strong Data
Augmentation Method for Instance Segmentation", CVPR 2021). Geometry is torchvision's (`transforms.v2`).

Everything random comes from the generator that is handed in, and nothing else: a run that is resumed, or has
more worker processes, sees the same pictures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

Target = dict[str, Tensor]

#: What is around an image that became smaller than its canvas: ImageNet's mean, which the model sees as 0.
FILL = {tv_tensors.Image: [124, 116, 104], "others": 0}

#: What a target has one of for each object.
PER_OBJECT = ("boxes", "labels", "masks")

#: With which chance each object of the other image is pasted.
PASTED_SHARE = 0.5


@dataclass(frozen=True)
class Augmentation:
    """What is done to the images of an epoch.

    Attributes:
        flip: probability of a horizontal flip.
        jitter: smallest and largest scale of large-scale jitter, 1 being as large as fits on the canvas; ():
            images stay as they are.
        canvas: side of the square, px, that jitter cuts or fills up images to.
        copy_paste: probability that objects of another image are pasted on one; both are jittered.
        short_sides: px, one of which each image gets as "short_side" of its target; (): none does.
    """

    flip: float = 0.0
    jitter: tuple[float, ...] = ()
    canvas: int = 0
    copy_paste: float = 0.0
    short_sides: tuple[int, ...] = ()

    def apply(self, pixels: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        """Flip and jitter one image.

        Args:
            pixels: (3, H, W) uint8.
            target: boxes (G, 4) xyxy px, labels (G,), perhaps masks (G, H, W).
            rng: what everything random is drawn from.

        Returns:
            the same of the changed image. Boxes lie inside it; with jitter, those of less than a pixel are
            gone, with their labels and masks.
        """
        flipped = rng.random() < self.flip
        if not flipped and not self.jitter:
            return pixels, target
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        masks = {"masks": tv_tensors.Mask(target["masks"])} if "masks" in target else {}
        shown = {"pixels": tv_tensors.Image(pixels), "boxes": boxes, **masks}
        if flipped:
            shown = {name: v2.functional.horizontal_flip(value) for name, value in shown.items()}
        sample = {**target, **shown}
        if self.jitter:
            with random_numbers(rng):
                sample = self._jittering(*size)(sample)
        plain = {name: value.as_subclass(Tensor) for name, value in sample.items()}
        return plain.pop("pixels"), plain

    def _jittering(self, height: int, width: int) -> v2.Compose:
        """The transforms for an image of a size; its sides keep a pixel, the longer one two.

        To one pixel alone torch 2.15 cannot resize an image of bytes.
        """
        least = 1.01 * max(2, max(height, width) / min(height, width)) / self.canvas
        low = max(self.jitter[0], least)
        return v2.Compose(
            [
                v2.ScaleJitter((self.canvas, self.canvas), (low, max(self.jitter[1], low)), antialias=True),
                v2.RandomCrop(self.canvas, pad_if_needed=True, fill=FILL),
                v2.ClampBoundingBoxes(),
                v2.SanitizeBoundingBoxes(),
            ]
        )


@contextmanager
def random_numbers(rng: np.random.Generator) -> Iterator[None]:
    """Inside the block torch draws on the CPU from a seed that `rng` draws; afterwards it goes on as before.

    Generators of GPUs are left alone, which `torch.manual_seed` would not do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield


def paste_objects(
    pixels: Tensor, target: Target, other_pixels: Tensor, other: Target, rng: np.random.Generator
) -> tuple[Tensor, Target]:
    """Paste about half of the objects of another image of the same size, each where it is.

    What lies below is cut: its mask loses the covered pixels, its box becomes the box of what is left, and an
    object of which nothing is left is gone. Where targets have no masks, the area of a box stands for its
    object: pasted objects bring what is around them. Without blending, which the paper found to be no better.

    Args:
        pixels: (3, H, W) uint8.
        target: boxes, labels, perhaps masks of `pixels`; what else it has stays.
        other_pixels: (3, H, W) uint8.
        other: the same of `other_pixels`.
        rng: what the objects are drawn with.
    """
    chosen = torch.from_numpy(rng.random(len(other["boxes"])) < PASTED_SHARE)
    names = [name for name in PER_OBJECT if name in target]
    pasted = {name: other[name][chosen] for name in names}
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    covered_HW = _areas(pasted, size).any(dim=0)
    whole_GHW = _areas(target, size)
    left_GHW = whole_GHW & ~covered_HW
    visible_G = left_GHW.flatten(1).any(dim=1)
    cut_G = visible_G & (left_GHW != whole_GHW).flatten(1).any(dim=1)
    below = {name: target[name].clone() for name in names}
    below["boxes"][cut_G] = masks_to_boxes(left_GHW[cut_G]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    if "masks" in below:
        below["masks"] = left_GHW.to(torch.uint8)
    joined = {name: torch.cat([below[name][visible_G], pasted[name]]) for name in names}
    return torch.where(covered_HW, other_pixels, pixels), {**target, **joined}


def _areas(target: Target, size: tuple[int, int]) -> Tensor:
    """The pixels of each object, (G, H, W) bool: its mask, or else every pixel that its box touches."""
    if "masks" in target:
        return target["masks"] > 0
    left, top, right, bottom = target["boxes"][:, :, None].unbind(dim=1)
    rows, columns = torch.arange(size[0]), torch.arange(size[1])
    high = (rows + 1 > top) & (rows < bottom)
    wide = (columns + 1 > left) & (columns < right)
    return high[:, :, None] & wide[:, None, :]
