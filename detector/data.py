"""Images and targets for training and evaluation, in torchvision's contract.

Pixels are taken as they are stored: EXIF orientation is ignored, as COCO's annotations and pycocotools do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detector.annotations import Annotations, to_clipped_xyxy
from detector.augmentation import Augmentation, Target, paste_objects
from detector.errors import DetectorError, InputError
from detector.knowledge import FOREGROUND
from detector.segmentation import decode_mask

if TYPE_CHECKING:
    from PIL import Image


def load_image(path: Path) -> Tensor:
    """Decode an image file to (3, H, W) uint8 RGB. Grey, palette, CMYK, alpha and 16-bit are converted.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return to_pixels(image)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be decoded: {reason}; expected a whole image file") from error


def to_pixels(image: "Image.Image") -> Tensor:
    """Convert a Pillow image of any mode to (3, H, W) uint8 RGB."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip instead of scale
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    else:
        pixels = np.array((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ImageDataset(Dataset[Any]):
    """Images and targets of a split, in torchvision's contract.

    Args:
        annotations: the split.
        images: positions of the images to give, in that order.
        augmentation: what is done to them. What is random in it depends on `seed`, the epoch and the
            position of the image alone, so neither the number of workers nor the order of reading changes a
            run.
        seed: any number of 0 or more.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: np.ndarray,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.annotations = annotations
        self.images = images
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.epoch = 0  # set by the training loop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target] | DetectorError:
        """One image, (3, H, W) uint8, and its target: boxes (G, 4) float32, labels (G,), image (position).

        Where the annotations have masks, the target too: masks (G, H, W) uint8. Where the augmentation has
        short sides, the target has one of them: short_side, px, which the model resizes to in training.

        An error is returned, not raised: a worker process would turn it into a page of traceback.
        `iter_batches` raises it.
        """
        try:
            return self._load(int(self.images[index]))
        except DetectorError as error:
            return error

    def _load(self, image: int) -> tuple[Tensor, Target]:
        augmentation = self.augmentation
        rng = np.random.default_rng((self.seed, self.epoch, image))
        pixels, target = augmentation.apply(*self._read(image), rng)
        if augmentation.copy_paste and rng.random() < augmentation.copy_paste:
            other = augmentation.apply(*self._read(int(rng.choice(self.images))), rng)
            pixels, target = paste_objects(pixels, target, *other, rng)
        if augmentation.short_sides:
            target["short_side"] = torch.tensor(int(rng.choice(augmentation.short_sides)))
        return pixels, target

    def _read(self, image: int) -> tuple[Tensor, Target]:
        annotations = self.annotations
        pixels = load_image(annotations.image_path(image))
        height, width = (int(side) for side in annotations.sizes_I2[image])
        if tuple(pixels.shape[1:]) != (height, width):
            raise InputError(
                f"{annotations.image_path(image)}: the file is {pixels.shape[2]} x {pixels.shape[1]} px; "
                f"expected {width} x {height} as in {annotations.path.name} (EXIF orientation is ignored)"
            )
        first, end = annotations.offsets[image : image + 2]
        rows = np.arange(first, end)[annotations.usable_N[first:end]]
        boxes = to_clipped_xyxy(
            annotations.boxes_xywh[rows], np.tile(annotations.sizes_I2[image], (len(rows), 1))
        )
        target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(annotations.class_N[rows] + FOREGROUND.start),
            "image": torch.tensor(image),
            **_masks(annotations, rows, image),
        }
        return pixels, target


def _masks(annotations: Annotations, rows: np.ndarray, image: int) -> Target:
    """The target's masks, where there are any; none where the annotations were read without."""
    if annotations.segmentation_N is None:
        return {}
    masks = [decode_mask(annotations.run_lengths(int(row), image)) for row in rows]
    height, width = annotations.sizes_I2[image]
    stacked = np.stack(masks) if masks else np.zeros((0, height, width), dtype=np.uint8)
    return {"masks": torch.from_numpy(stacked)}


def load_batches(
    dataset: ImageDataset,
    batches: Sequence[np.ndarray],
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> DataLoader[Any]:
    """Make a loader of batches for `iter_batches`.

    A loader always has a generator of its own: torch would take a seed for workers from the global one, and
    an evaluation in between would then change the training that follows.

    Args:
        dataset: the images.
        batches: for each batch the places in the data set of its images.
        workers: processes that load; they share the annotations with this one.
        device: where the batches go; on the way to a GPU they lie in pinned memory.
    """
    return DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        generator=torch.Generator(),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.device(device).type == "cuda",
    )


def _collate(samples: list[Any]) -> Any:
    failure = next((sample for sample in samples if isinstance(sample, DetectorError)), None)
    return failure or tuple(list(column) for column in zip(*samples, strict=True))


def iter_batches(
    loader: DataLoader[Any], device: torch.device | str
) -> Iterator[tuple[list[Tensor], list[Target]]]:
    """Yield (images, targets) on a device; images are float32 (3, H, W) in 0..1.

    Scalars (image, short_side) stay on the CPU: the program reads them, and would wait for a GPU each time.

    Raises:
        InputError: an image cannot be read, or is not of the size that the JSON says.
    """
    for batch in loader:
        if isinstance(batch, DetectorError):
            raise batch
        images, targets = batch
        yield (
            [image.to(device, non_blocking=True).float().div_(255) for image in images],
            [
                {
                    name: value.to(device, non_blocking=True) if value.ndim else value
                    for name, value in target.items()
                }
                for target in targets
            ],
        )
