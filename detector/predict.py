"""A trained detector on image and video files: COCO results and pictures.

A file that cannot be read is reported and left out; the others are still done. Coordinates are px of the
image as it is stored: EXIF orientation is ignored here as in training.
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.data import load_image
from detector.detections import Detections
from detector.errors import InputError
from detector.files import atomic_path, check_folder_free, save_json
from detector.frames import VIDEO_SUFFIXES, check_video_reader, read_frames
from detector.inference import Detector
from detector.segmentation import decode_mask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
RESULTS_FILE = "detections.json"


@dataclass(frozen=True)
class MediaFile:
    """An image or video to predict, and what it is called in the results.

    Attributes:
        path: the file.
        name: path below the folder that was given, or the file's own name.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it has frames, by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    @property
    def place(self) -> str:
        """Where its picture is written, or the folder with those of its frames."""
        return self.name if self.is_video else str(Path(self.name).with_suffix(".png"))


@dataclass(frozen=True, eq=False)
class Shot:
    """One image, from a file of its own or out of a video.

    Attributes:
        name: of the file; of a frame the video's name and the frame's number, clip.mp4/000012.
        picture: where its picture is written, below the folder for results.
        pixels_3HW: uint8 RGB.
        facts: of a frame: `frame`, its number from 0, and `seconds`.
    """

    name: str
    picture: str
    pixels_3HW: Tensor
    facts: dict[str, Any]


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote.

    Attributes:
        results: COCO results: image_id (1.. in the order given), category_id of the training data, bbox
            (xywh, px) and score, from a model with masks segmentation (run lengths); besides, file_name and
            category_name, of a video frame and seconds.
        num_images: images and frames looked at.
        pictures: the pictures written.
        unreadable: a line for each file that could not be read.
    """

    results: list[dict[str, Any]]
    num_images: int
    pictures: list[Path]
    unreadable: list[str]


def find_media(paths: Sequence[Path]) -> list[MediaFile]:
    """Find the images and videos that files, folders and patterns such as shots/**/*.jpg name.

    Folders are searched with their subfolders, in name order.

    Raises:
        InputError: a path does not exist, a folder has no image or video, a pattern fits nothing, or two
            pictures would have one name.
    """
    media = [file for path in paths for file in _find(path)]
    first_by_place: dict[str, Path] = {}
    for file in media:
        other = first_by_place.setdefault(file.place, file.path)
        if other is not file.path:
            raise InputError(f"{file.path}: its picture would replace that of {other}; predict one at a time")
    return media


def _find(path: Path) -> list[MediaFile]:
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
        if not inside:
            raise InputError(f"{path}: no image in this folder; expected {', '.join(suffixes)}")
        return [MediaFile(file, file.relative_to(path).as_posix()) for file in inside]
    if path.exists():
        return [MediaFile(path, path.name)]
    if not glob.has_magic(str(path)):
        raise InputError(f"{path}: no such image, video or folder")
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.suffix.lower() in suffixes and match.is_file()]
    if not files:
        raise InputError(f"{path}: no image or video fits this pattern; expected {', '.join(suffixes)}")
    root = path
    while glob.has_magic(str(root)):
        root = root.parent
    return [MediaFile(file, file.relative_to(root).as_posix()) for file in files]


def predict(
    detector: Detector,
    paths: Sequence[Path],
    out: Path,
    *,
    every: int = 1,
    pictures: bool = True,
    overwrite: bool = False,
    on_image: Callable[[str], None] = lambda name: None,
) -> Predictions:
    """Detect objects in images and videos; write `out`/detections.json and a picture for each image.

    Args:
        detector: a loaded run (see `detector.load`).
        paths: image and video files, folders, patterns.
        out: folder to write into; made if its parent exists.
        every: look at every so many frames of a video.
        pictures: write pictures; else detections.json alone.
        overwrite: write into a folder that already holds something.
        on_image: called with the name of each image after it is done.

    Raises:
        InputError: see `find_media`.
        OutputExistsError: `out` holds something and `overwrite` is false.
        MissingResourceError: a video is among them and PyAV is not installed.
    """
    media = find_media(paths)
    if any(file.is_video for file in media):
        check_video_reader()
    check_folder_free(out, overwrite=overwrite)
    out.mkdir(exist_ok=True)
    (out / RESULTS_FILE).unlink(missing_ok=True)  # an old one would not belong to the new pictures
    results: list[dict[str, Any]] = []
    written: list[Path] = []
    unreadable: list[str] = []
    last_id = looked = 0
    for file in media:
        try:
            for shot in _shots(file, every):
                last_id += 1
                found = detector.find(shot.pixels_3HW)
                results.extend(_coco_results(detector, shot, last_id, found))
                if pictures:
                    written.append(_save_picture(detector, shot, found, out / shot.picture))
                on_image(shot.name)
                looked += 1
        except InputError as error:
            unreadable.append(str(error))
            last_id += 1  # stays free
    save_json(results, out / RESULTS_FILE)
    return Predictions(results, looked, written, unreadable)


def _shots(file: MediaFile, every: int) -> Iterator[Shot]:
    if not file.is_video:
        yield Shot(file.name, file.place, load_image(file.path), {})
        return
    for number, seconds, pixels_3HW in read_frames(file.path, every):
        name = f"{file.name}/{number:06d}"
        yield Shot(name, f"{name}.png", pixels_3HW, {"frame": number, "seconds": round(seconds, 3)})


def _coco_results(detector: Detector, shot: Shot, number: int, found: Detections) -> Iterator[dict[str, Any]]:
    classes = detector.run.classes
    columns = zip(found.boxes_xyxy.tolist(), found.class_N.tolist(), found.score_N.tolist(), strict=True)
    for row, ((left, top, right, bottom), class_index, score) in enumerate(columns):
        mask = {} if found.masks_N is None else {"segmentation": found.masks_N[row]}
        yield {
            "image_id": number,
            "file_name": shot.name,
            "category_id": classes.category_ids[class_index],
            "category_name": classes.names[class_index],
            "bbox": [round(side, 2) for side in (left, top, right - left, bottom - top)],
            "score": round(score, 5),
            **shot.facts,
            **mask,
        }


def _save_picture(detector: Detector, shot: Shot, found: Detections, path: Path) -> Path:
    from detector.pictures import draw_detections, tint

    names = [detector.class_names[class_index] for class_index in found.class_N]
    pixels_HW3 = shot.pixels_3HW.permute(1, 2, 0).numpy()
    if found.masks_N is not None:
        pixels_HW3 = tint(pixels_HW3, [decode_mask(runs) for runs in found.masks_N], found.class_N)
    picture = draw_detections(pixels_HW3, found.boxes_xyxy, names, found.score_N, found.class_N)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        picture.save(part, format="PNG")
    return path
