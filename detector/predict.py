"""A trained detector on image files: COCO results and pictures.

An image that cannot be read is reported and left out; the others are still done. Coordinates are px of the
image as it is stored: EXIF orientation is ignored here as in training.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.checkpoint import TrainedRun
from detector.data import load_image
from detector.errors import InputError
from detector.evaluate import Detections, to_arrays, to_detections
from detector.files import atomic_path, check_folder_free, save_json
from detector.segmentation import decode_mask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
RESULTS_FILE = "detections.json"


@dataclass(frozen=True)
class ImageFile:
    """An image to predict, and what it is called in the results.

    Attributes:
        path: the file.
        name: path below the folder that was given, or the file's own name.
    """

    path: Path
    name: str

    @property
    def picture(self) -> str:
        """Name of its picture: the same place, as PNG."""
        return str(Path(self.name).with_suffix(".png"))


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote.

    Attributes:
        results: COCO results: image_id (1.. in the order given), category_id of the training data, bbox
            (xywh, px) and score, from a model with masks segmentation (run lengths); besides, file_name and
            category_name.
        pictures: the pictures written.
        unreadable: a line for each image that could not be read.
    """

    results: list[dict[str, Any]]
    pictures: list[Path]
    unreadable: list[str]


def find_images(paths: Sequence[Path]) -> list[ImageFile]:
    """Find the images that files and folders name. Folders are searched with their subfolders, in name order.

    Raises:
        InputError: a path does not exist, a folder has no image, or two pictures would have one name.
    """
    images: list[ImageFile] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise InputError(f"{path}: no image in this folder; expected {', '.join(IMAGE_SUFFIXES)}")
            images += [ImageFile(file, file.relative_to(path).as_posix()) for file in inside]
        elif path.exists():
            images.append(ImageFile(path, path.name))
        else:
            raise InputError(f"{path}: no such image or folder")
    first_by_picture: dict[str, Path] = {}
    for image in images:
        other = first_by_picture.setdefault(image.picture, image.path)
        if other is not image.path:
            raise InputError(
                f"{image.path}: its picture would replace that of {other}; predict one at a time"
            )
    return images


def predict(
    run: TrainedRun,
    paths: Sequence[Path],
    out: Path,
    *,
    threshold: float = 0.5,
    overwrite: bool = False,
    on_image: Callable[[ImageFile], None] = lambda image: None,
) -> Predictions:
    """Detect objects in images; write `out`/detections.json and a picture for each image.

    Args:
        run: a loaded run.
        paths: image files and folders.
        out: folder to write into; made if its parent exists.
        threshold: detections below this score are left out. One below the run's own `model.score_threshold`
            needs a run that was loaded with it (see `load_run`).
        overwrite: write into a folder that already holds something.
        on_image: called after each image.

    Raises:
        InputError: see `find_images`.
        OutputExistsError: `out` holds something and `overwrite` is false.
    """
    images = find_images(paths)
    check_folder_free(out, overwrite=overwrite)
    out.mkdir(exist_ok=True)
    done = Predictions([], [], [])
    for number, image in enumerate(images, start=1):
        try:
            pixels_3HW = load_image(image.path)
        except InputError as error:
            done.unreadable.append(str(error))
            continue
        found = _above(run, pixels_3HW, threshold)
        done.results.extend(_coco_results(run, image, number, found))
        done.pictures.append(_save_picture(run, pixels_3HW, found, out / image.picture))
        on_image(image)
    save_json(done.results, out / RESULTS_FILE)
    return done


def _above(run: TrainedRun, pixels_3HW: torch.Tensor, threshold: float) -> Detections:
    """The detections of one image with at least a score, best first."""
    device = next(run.model.parameters()).device
    with torch.inference_mode():
        (output,) = run.model([pixels_3HW.to(device).float().div(255)])
    keep = output["scores"] >= threshold
    return to_detections([0], [to_arrays({name: value[keep] for name, value in output.items()})])


def _coco_results(
    run: TrainedRun, image: ImageFile, number: int, found: Detections
) -> Iterator[dict[str, Any]]:
    columns = zip(found.boxes_xyxy.tolist(), found.class_N.tolist(), found.score_N.tolist(), strict=True)
    for row, ((left, top, right, bottom), class_index, score) in enumerate(columns):
        mask = {} if found.masks_N is None else {"segmentation": found.masks_N[row]}
        yield {
            "image_id": number,
            "file_name": image.name,
            "category_id": run.classes.category_ids[class_index],
            "category_name": run.classes.names[class_index],
            "bbox": [round(side, 2) for side in (left, top, right - left, bottom - top)],
            "score": round(score, 5),
            **mask,
        }


def _save_picture(run: TrainedRun, pixels_3HW: torch.Tensor, found: Detections, path: Path) -> Path:
    from detector.pictures import draw_detections, tint

    names = [run.classes.names[class_index] for class_index in found.class_N]
    pixels_HW3 = pixels_3HW.permute(1, 2, 0).numpy()
    if found.masks_N is not None:
        pixels_HW3 = tint(pixels_HW3, [decode_mask(runs) for runs in found.masks_N], found.class_N)
    picture = draw_detections(pixels_HW3, found.boxes_xyxy, names, found.score_N, found.class_N)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        picture.save(part, format="PNG")
    return path
