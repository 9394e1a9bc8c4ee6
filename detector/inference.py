"""A trained detector in Python: `load(run)(images)`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detector.checkpoint import TrainedRun, load_run
from detector.data import load_image, to_pixels
from detector.detections import Detections, to_arrays, to_detections
from detector.device import pick_device
from detector.errors import InputError
from detector.hub import PREFIX, fetch_run
from detector.segmentation import decode_mask
from detector.views import View, check_views, detect_in_views, list_views

#: Anything that can be looked at: a file, Pillow's image, an (H, W, 3) or (H, W) array, a (3, H, W) tensor.
Picture = str | Path | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """What was found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 xyxy in px of the image.
        names: class name of each.
        scores: (N,) float32, 0..1.
        masks: (N, H, W) bool; None from a detector without masks.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Detector:
    """A run that is ready to look at images; made by `load`.

    Attributes:
        run: model, classes and configuration.
        threshold: detections below this score are left out.
        views: what each image is looked at in besides the plain view (test-time augmentation).
    """

    run: TrainedRun
    threshold: float = 0.5
    views: tuple[View, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that it knows."""
        return self.run.classes.names

    def __call__(self, images: Iterable[Picture]) -> list[ImageDetections]:
        """Detect objects in images of any sizes, one after the other.

        Args:
            images: paths, Pillow images, uint8 arrays (H, W, 3) or (H, W), uint8 tensors (3, H, W), or either
                of these as floating point in 0..1. EXIF orientation is ignored, as in training.

        Raises:
            InputError: an image cannot be read or is none of these; or one image was given for the list.
        """
        if isinstance(images, (str, Path, Image.Image)) or getattr(images, "ndim", 4) < 4:
            raise InputError(f"images: found one {type(images).__name__}; expected a list: detect([image])")
        return [self._named(self.find(to_tensor(image))) for image in images]

    def find(self, pixels_3HW: Tensor) -> Detections:
        """Detect objects in one image of bytes, or of floating point in 0..1."""
        device = next(self.run.model.parameters()).device
        image = pixels_3HW.to(device).float()
        image = image if pixels_3HW.is_floating_point() else image.div_(255)
        with torch.inference_mode():
            (output,) = detect_in_views(self.run.model, [image], self.views)
        keep = output["scores"] >= self.threshold
        return to_detections([0], [to_arrays({name: value[keep] for name, value in output.items()})])

    def _named(self, found: Detections) -> ImageDetections:
        masks = found.masks_N
        return ImageDetections(
            boxes=found.boxes_xyxy,
            names=tuple(self.class_names[class_index] for class_index in found.class_N),
            scores=found.score_N,
            masks=None if masks is None else np.array([decode_mask(runs) for runs in masks], dtype=bool),
        )


def load(
    run: str | Path,
    *,
    threshold: float = 0.5,
    device: str = "auto",
    flip: bool = False,
    scales: Iterable[float] = (),
) -> Detector:
    """Load a run folder for looking at images.

    Args:
        run: folder made by `detector train`; or "hf://OWNER/NAME", perhaps with @REVISION, on the Hugging
            Face Hub.
        threshold: detections below this score are left out; it may be below the recipe's own.
        device: "auto" (a GPU when there is one), "cpu" or "cuda".
        flip: look at each image mirrored as well.
        scales: look at each image in these sizes as well, 1 being the model's own.

    Raises:
        InputError, ConfigError: see `load_run` and `detector.views`.
        MissingResourceError: no such device, or huggingface_hub is not installed.
        DetectorError: the Hub refuses, or cannot be reached.

    Example:
        >>> detect = load("run", threshold=0.3)  # doctest: +SKIP
        >>> [found] = detect(["photo.jpg"])  # doctest: +SKIP
        >>> found.names[0], found.scores[0], found.boxes[0]  # doctest: +SKIP
    """
    folder = fetch_run(run) if isinstance(run, str) and run.startswith(PREFIX) else Path(run)
    trained = load_run(folder, pick_device(device), score_threshold=threshold)
    views = list_views(flip=flip, scales=tuple(scales))
    check_views(trained.model, views)
    return Detector(trained, threshold, views)


def to_tensor(image: Any) -> Tensor:
    """Convert one `Picture` to (3, H, W), uint8 or float32 in 0..1.

    Raises:
        InputError: it cannot be read, or is of another kind, shape or range.
    """
    if isinstance(image, (str, Path)):
        return load_image(Path(image))
    if isinstance(image, Image.Image):
        return to_pixels(image)
    if isinstance(image, np.ndarray):
        _check_pixels(image.ndim in (2, 3), image)
        colours = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        image = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))
    _check_pixels(isinstance(image, Tensor), image)
    pixels: Tensor = image
    _check_pixels(pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.numel() > 0, pixels)
    if pixels.dtype == torch.uint8:
        return pixels
    _check_pixels(pixels.is_floating_point(), pixels)
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= 1:
        raise InputError(f"image: found numbers from {low:g} to {high:g}; expected 0..1, or uint8")
    return pixels.float()


def _check_pixels(right: bool, image: Any) -> None:
    if not right:
        shape = f" of shape {tuple(image.shape)} and {image.dtype}" if hasattr(image, "shape") else ""
        raise InputError(
            f"image: found {type(image).__name__}{shape}; expected a path, a Pillow image, an array "
            "(H, W, 3) or a tensor (3, H, W), uint8 or 0..1"
        )
