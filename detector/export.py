"""A trained detector as one file that runs without this package: ONNX, or torch.export's program.

    image     (3, height, width) float32 RGB in 0..1, of the one size that was exported
    boxes     (N, 4) float32 xyxy px of that image, best first
    classes   (N,) int64, positions in the list `classes` of the file's metadata
    scores    (N,) float32

Resizing to the model's own size, normalising, proposals, graph and NMS are inside. A file is written only
after it gave, on every image it was checked on, what the detector itself gives.
"""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from detector.checkpoint import TrainedRun, load_run
from detector.data import load_image
from detector.errors import ConfigError, DetectorError, InputError, MissingResourceError, OutputExistsError
from detector.export_operators import onnx_operators, program_operators
from detector.files import atomic_path
from detector.knowledge import FOREGROUND
from detector.nms import SoftNMSConfig
from detector.predict import find_media
from detector.rcnn import RCNN

FORMATS = ("onnx", "torch-export")
OPSET = 16  # the first whose RoIAlign is that of torchvision

#: Files that an export is checked on at most; each also mirrored, and an image without anything.
MOST_IMAGES = 8

#: How far that image is from grey. On one that is the same everywhere, places score alike, and which of them
#: comes first is nobody's promise.
GREY_NOISE = 0.01

#: What may differ between the detector and its export: another order of the same float32 sums.
BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3

#: Boxes, classes and scores of one image.
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
Runner = Callable[[Tensor], Columns]


@dataclass(frozen=True)
class Export:
    """What was written, and how near it is to the detector.

    Attributes:
        file: the file.
        format: "onnx" or "torch-export".
        height: of the images that it takes, px.
        width: of the images that it takes, px.
        images_checked: images that were compared.
        detections_compared: detections in them.
        box_difference_px: largest difference of a coordinate.
        score_difference: largest difference of a score.
        left_out: what the detector has and the file does not; "masks", or nothing.
    """

    file: str
    format: str
    height: int
    width: int
    images_checked: int
    detections_compared: int
    box_difference_px: float
    score_difference: float
    left_out: str


class PlainDetector(nn.Module):
    """One image in, three tensors out: the form in which a detector is exported.

    Args:
        model: its masks, where it has any, are left out.
    """

    def __init__(self, model: RCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, classes (0..C-1) and scores."""
        (found,) = self.model([image])
        return found["boxes"], found["labels"] - FOREGROUND.start, found["scores"]


def export_run(
    run: Path,
    out: Path,
    *,
    format: str,
    images: Sequence[Path],
    size: tuple[int, int] | None = None,
    threshold: float = 1.0,
    overwrite: bool = False,
) -> Export:
    """Export a run, check the export on images, and only then leave it in `out`.

    Args:
        run: run folder.
        out: file to write.
        format: "onnx" or "torch-export".
        images: image files, folders and patterns to check on; of more than `MOST_IMAGES` the first ones.
        size: (height, width) px of the images that the export takes; None: that of the first image. Images of
            other sizes are resized for the check.
        threshold: lowers the run's `model.score_threshold` where that is higher.
        overwrite: replace `out`.

    Raises:
        ConfigError: the format is not known, or duplicate removal is Soft-NMS.
        InputError: see `load_run` and `find_media`; or nothing was detected in the images, so that the check
            would say nothing.
        MissingResourceError: onnx or onnxruntime is not installed.
        OutputExistsError: `out` is there and `overwrite` is false.
        DetectorError: the model cannot be exported, or its export detects something else.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format}: expected {' or '.join(FORMATS)}")
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out}: already exists; give --overwrite to replace it, or another --out")
    if format == "onnx":
        _check_onnx()
    trained = load_run(run, torch.device("cpu"), score_threshold=threshold)
    _check_exportable(trained)
    left_out = "masks" if trained.model.mask else ""
    trained.model.mask = None
    pictures = _load_pictures(images, size)
    plain = PlainDetector(trained.model).eval()
    height, width = pictures[0].shape[1:]
    metadata = {
        "classes": json.dumps(trained.classes.names),
        "height": str(height),
        "width": str(width),
        "recipe": trained.config.recipe,
    }
    with atomic_path(out) as part:
        try:
            with _without_remarks(), torch.no_grad():
                export = _export_onnx if format == "onnx" else _export_program
                runner = export(plain, pictures[0], part, metadata)
        except Exception as error:  # exporters fail in many ways: each is an operator they do not know
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
            raise DetectorError(
                f"{run}: recipe {trained.config.recipe} cannot be exported as {format}: {reason[:300]}; "
                f"try --format {FORMATS[1 - FORMATS.index(format)]}"
            ) from error
        compared, box_difference, score_difference = _compare(plain, runner, pictures)
    return Export(
        str(out),
        format,
        height,
        width,
        len(pictures),
        compared,
        box_difference,
        score_difference,
        left_out,
    )


def _check_onnx() -> None:
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingResourceError(
                f"--format onnx needs {package}, which is not installed; pip install 'kgtool-detector[onnx]'"
            ) from error


def _check_exportable(run: TrainedRun) -> None:
    """Refuse what an exporter would follow for one image only, and so get wrong for others."""
    removal = run.config.model.duplicate_removal
    if isinstance(removal, SoftNMSConfig):
        raise ConfigError(
            f"{run.folder}: its duplicate removal is Soft-NMS, which takes one box after the other and "
            "cannot be exported; expected greedy NMS or a learned one"
        )


def _load_pictures(paths: Sequence[Path], size: tuple[int, int] | None) -> list[Tensor]:
    """The images to check on, all of one size: as given, mirrored, and one without anything."""
    files = [file for file in find_media(paths) if not file.is_video][:MOST_IMAGES]
    if not files:
        raise InputError("images to check the export on: found videos alone; expected an image")
    height, width = size or load_image(files[0].path).shape[1:]
    pictures = []
    for file in files:
        pixels = Image.fromarray(load_image(file.path).permute(1, 2, 0).numpy())
        fitted = np.array(pixels.resize((width, height), Image.Resampling.BILINEAR))
        pictures.append(torch.from_numpy(fitted).permute(2, 0, 1).float().div(255).contiguous())
    noise = torch.rand(pictures[0].shape, generator=torch.Generator().manual_seed(0))
    grey = 0.5 + GREY_NOISE * (2 * noise - 1)
    return [*pictures, *(picture.flip(-1) for picture in pictures), grey]


def _export_onnx(plain: PlainDetector, example: Tensor, path: Path, metadata: dict[str, str]) -> Runner:
    """Write ONNX by tracing: the way for which torchvision has its operators."""
    import onnx

    tracing = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    with onnx_operators(OPSET):
        torch.onnx.export(
            plain,
            (example,),
            str(path),
            opset_version=OPSET,
            input_names=["image"],
            output_names=["boxes", "classes", "scores"],
            **tracing,  # type: ignore[arg-type]
        )
    document = onnx.load(str(path))
    onnx.helper.set_model_props(document, metadata)
    onnx.save(document, str(path))
    return _onnx_runner(path)


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def runner(image: Tensor) -> Columns:
        boxes, classes, scores = session.run(None, {"image": image.numpy()})
        return boxes, classes, scores

    return runner


def _export_program(plain: PlainDetector, example: Tensor, path: Path, metadata: dict[str, str]) -> Runner:
    """Write torch.export's program, and read it again."""
    with program_operators():
        program = torch.export.export(plain, (example,), strict=True)
    with path.open("wb") as written:
        torch.export.save(program, written, extra_files={"metadata.json": json.dumps(metadata)})
    with path.open("rb") as stored:
        module = torch.export.load(stored).module()

    def runner(image: Tensor) -> Columns:
        with torch.no_grad():
            boxes, classes, scores = (column.numpy() for column in module(image))
        return boxes, classes, scores

    return runner


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence what exporters say about how they trace: the comparison says whether it matters.

    Where it fails, torch prints all that it has traced; it does so below Python's own stdout.
    """
    before, stdout = logging.root.manager.disable, os.dup(1)
    logging.disable(logging.WARNING)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        logging.disable(before)


def _compare(plain: PlainDetector, runner: Runner, pictures: Sequence[Tensor]) -> tuple[int, float, float]:
    """Compare an export with the detector: detections compared, largest differences of box and score.

    Raises:
        InputError: the detector finds nothing.
        DetectorError: the export finds something else, or fails.
    """
    count, box_difference, score_difference = 0, 0.0, 0.0
    for number, picture in enumerate(pictures, start=1):
        with torch.inference_mode():
            boxes, classes, scores = (column.numpy() for column in plain(picture))
        try:
            found = runner(picture)
        except Exception as error:  # whatever a runtime says
            raise DetectorError(
                f"check image {number}: the export fails: {str(error)[:300]}; no file left"
            ) from error
        differences = _differences((boxes, classes, scores), found)
        if differences is None:
            raise DetectorError(
                f"check image {number}: the export detects something else ({len(found[0])} detections; "
                f"expected {len(boxes)} within {BOX_TOLERANCE_PX} px and {SCORE_TOLERANCE}); no file left"
            )
        count += len(boxes)
        box_difference = max(box_difference, differences[0])
        score_difference = max(score_difference, differences[1])
    if not count:
        raise InputError(
            "images to check the export on: the detector finds nothing in them, so the check would say "
            "nothing; give other --images or a lower --threshold"
        )
    return count, box_difference, score_difference


def _differences(expected: Columns, found: Columns) -> tuple[float, float] | None:
    """Largest differences of coordinates and scores, in any order of equals; None where they do not match."""
    if len(expected[0]) != len(found[0]):
        return None
    free_N = np.ones(len(found[0]), dtype=bool)
    box_difference = score_difference = 0.0
    for box_4, class_index, score in zip(*expected, strict=True):
        distance_N = np.abs(found[0] - box_4).max(axis=1)
        score_N = np.abs(found[2] - score)
        fits_N = free_N & (found[1] == class_index)
        fits_N &= (distance_N <= BOX_TOLERANCE_PX) & (score_N <= SCORE_TOLERANCE)
        if not fits_N.any():
            return None
        row = int(np.where(fits_N, distance_N, np.inf).argmin())
        free_N[row] = False
        box_difference = max(box_difference, float(distance_N[row]))
        score_difference = max(score_difference, float(score_N[row]))
    return box_difference, score_difference
