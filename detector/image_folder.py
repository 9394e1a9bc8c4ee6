"""Pictures in folders, one folder a class: what a backbone is pre-trained on as a classifier.

DIR/train/dog/xyz.jpg is a picture of the class "dog", at any depth below that folder.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from detector.augmentation import random_numbers
from detector.data import load_image
from detector.errors import ClassMatchError, DetectorError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

#: Where a picture is cut in evaluation: the short side is so much longer than the cut (256 px for 224).
RESIZE = 256 / 224

#: Area of a random cut in training, as shares of the picture (Szegedy et al. 2015).
CUT_AREA = (0.08, 1.0)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The pictures of a split.

    Attributes:
        folder: of the split.
        class_names: names of its folders, sorted.
        paths: of the pictures, sorted by class, then by path.
        labels_I: int64, position of each picture's class in `class_names`.
    """

    folder: Path
    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels_I: np.ndarray

    def check_same_classes(self, other: "LabelledImages") -> None:
        """Check that both splits name the same classes.

        Raises:
            ClassMatchError: one has a class that the other lacks.
        """
        for name in sorted(set(self.class_names) ^ set(other.class_names)):
            has, lacks = (self, other) if name in self.class_names else (other, self)
            raise ClassMatchError(
                f'{lacks.folder}: found no class "{name}", which {has.folder} has; expected the same folders'
            )


def load_labelled_images(data: Path, split: str) -> LabelledImages:
    """Find the pictures of a split and their classes.

    Raises:
        InputError: the folder is missing, or has no class, or a class without a picture.
    """
    folder = data / split
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected DIR/{split}/CLASS/picture.jpg")
    class_names = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if len(class_names) < 2:
        raise InputError(f"{folder}: found {len(class_names)} folders; expected a folder for each class")
    paths_by_class = [_pictures(folder / name) for name in class_names]
    for name, paths in zip(class_names, paths_by_class, strict=True):
        if not paths:
            raise InputError(f"{folder / name}: found no picture; expected files such as {SUFFIXES[0]}")
    labels_I = np.repeat(np.arange(len(class_names)), [len(paths) for paths in paths_by_class])
    return LabelledImages(folder, class_names, tuple(chain.from_iterable(paths_by_class)), labels_I)


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )


class SquareImages(Dataset[Any]):
    """Square cuts of pictures, (3, size, size) uint8, with their labels.

    Args:
        images: the pictures.
        size: side of the cut, px.
        cut: "random" cuts of random area and shape for training, or the "centre".
        flip: probability of a horizontal flip. Cut and flip depend on `seed`, the epoch and the position of
            the picture alone, so neither the number of workers nor the order of reading changes a run.
        seed: any number of 0 or more.
    """

    def __init__(
        self,
        images: LabelledImages,
        size: int,
        *,
        cut: Literal["random", "centre"] = "centre",
        flip: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.images = images
        self.seed = seed
        self.epoch = 0  # set by the training loop
        if cut == "random":
            random_cut = v2.RandomResizedCrop(size, scale=CUT_AREA, antialias=True)
            self.transform = v2.Compose([random_cut, v2.RandomHorizontalFlip(flip)])
        else:
            self.transform = v2.Compose(
                [v2.Resize(round(size * RESIZE), antialias=True), v2.CenterCrop(size)]
            )

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | DetectorError:
        """One picture and its label. An error is returned, as in `detector.data.ImageDataset`."""
        try:
            pixels = load_image(self.images.paths[index])
        except DetectorError as error:
            return error
        with random_numbers(np.random.default_rng((self.seed, self.epoch, index))):
            return self.transform(pixels), int(self.images.labels_I[index])


def iter_squares(
    dataset: SquareImages,
    batch_size: int,
    device: torch.device | str,
    *,
    workers: int = 0,
    shuffle: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images_B3HW, labels_B) on a device: float32 in 0..1, and int64. `shuffle` draws the order.

    Raises:
        InputError: a picture cannot be read.
    """
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle is not None,
        generator=shuffle or torch.Generator(),
        num_workers=workers,
        collate_fn=_collate,
    )
    for batch in loader:
        if isinstance(batch, DetectorError):
            raise batch
        images, labels = batch
        yield images.to(device).float().div_(255), labels.to(device)


def _collate(samples: Sequence[Any]) -> Any:
    failure = next((sample for sample in samples if isinstance(sample, DetectorError)), None)
    if failure is not None:
        return failure
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)
