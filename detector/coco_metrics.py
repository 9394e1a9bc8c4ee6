"""COCO's precision and recall, and the numbers that everybody reports of them.

pycocotools is the reference. hotcoco, where it is installed, gives the same bits many times faster. Classes
do not see each other in COCO's evaluation, so they are evaluated a block at a time, which bounds memory.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from detector.annotations import Annotations
from detector.detections import Detections
from detector.errors import MissingResourceError
from detector.frequencies import FREQUENCIES

#: The twelve numbers in the order in which COCOeval gives them.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

#: The IoU from which a detection counts as right, 0.5 to 0.95.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

#: Number of classes that are evaluated at a time; changes no number.
BLOCK_SIZE = 128

Overlap = Literal["bbox", "segm"]

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # sizes of boxes, in COCOeval's order
_MOST = 2  # of 1, 10 and 100 detections in an image


@dataclass(frozen=True, eq=False)
class Curves:
    """What COCOeval accumulates; -1 where the split has nothing to find.

    Attributes:
        class_C: which class each place of axis C is; classes are in the order of their category ids.
        precision_TRCA: (10, 101, C, 4) float64, by IoU threshold, recall 0, 0.01, ... 1, class, and size of
            boxes (all, small, medium, large), with 100 detections of each class in an image.
        recall_TCAM: (10, C, 4, 3) float64, the last axis being 1, 10 and 100 detections.
    """

    class_C: np.ndarray
    precision_TRCA: np.ndarray
    recall_TCAM: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """AP over IoU 0.5 to 0.95, AP at 0.5 and AR of each class, in the order of the annotations' classes.

    (C,) float64, 0..1; -1 where the split has no box of a class.
    """

    ap_C: np.ndarray
    ap50_C: np.ndarray
    ar_C: np.ndarray


def coco_metrics(
    annotations: Annotations,
    detections: Detections,
    *,
    backend: str = "auto",
    overlap: Overlap = "bbox",
) -> dict[str, float]:
    """Compute AP, AP50, ..., ARl as COCOeval does; see `coco_curves`."""
    return summarize(coco_curves(annotations, detections, backend=backend, overlap=overlap))


def coco_curves(
    annotations: Annotations,
    detections: Detections,
    *,
    backend: str = "auto",
    overlap: Overlap = "bbox",
    block_size: int = BLOCK_SIZE,
) -> Curves:
    """Match detections with the truth and accumulate, as COCOeval does (COCO's detection evaluation).

    Args:
        annotations: the split, every box of the file included; crowd boxes absorb detections.
        detections: what was found, classes in the order of `annotations`.
        backend: "pycocotools", "hotcoco", or "auto": hotcoco where it is installed.
        overlap: of what the IoU is taken, boxes or masks; both sides must have masks for "segm".
        block_size: classes at a time.

    Raises:
        MissingResourceError: the backend is not installed.
    """
    num_classes = annotations.num_classes
    class_C = np.zeros(num_classes, dtype=np.int64)
    precision_TRCA = np.full((len(IOU_THRESHOLDS), 101, num_classes, 4), -1.0)
    recall_TCAM = np.full((len(IOU_THRESHOLDS), num_classes, 4, 3), -1.0)
    first = 0
    for block, matched in match_blocks(
        annotations, detections, backend=backend, overlap=overlap, block_size=block_size
    ):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            matched.accumulate()
        places = slice(first, first + len(block))
        class_C[places] = block
        precision_TRCA[:, :, places] = matched.eval["precision"][..., _MOST]
        recall_TCAM[:, places] = matched.eval["recall"]
        first += len(block)
    return Curves(class_C, precision_TRCA, recall_TCAM)


def match_blocks(
    annotations: Annotations,
    detections: Detections,
    *,
    backend: str = "auto",
    overlap: Overlap = "bbox",
    block_size: int = BLOCK_SIZE,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Match detections with the truth, a block of classes at a time; see `coco_curves`.

    Yields:
        the positions of the block's classes, in the order of their category ids, and the backend's COCOeval
        after `evaluate`, which has seen these classes alone.
    """
    backend_classes = _import_backend(backend)
    order = np.argsort(annotations.category_ids)
    blocks = [order[start : start + block_size] for start in range(0, len(order), block_size)]
    images = _images(annotations)
    place_of_class = np.empty(annotations.num_classes, dtype=np.int64)
    place_of_class[order] = np.arange(len(order))
    truth_block_N = place_of_class[annotations.class_N] // block_size
    found_block_N = place_of_class[detections.class_N] // block_size
    for number, block in enumerate(blocks):
        truth_rows, found_rows = (
            np.flatnonzero(truth_block_N == number),
            np.flatnonzero(found_block_N == number),
        )
        truth = {
            "info": {},
            "images": images,
            "categories": _categories(annotations, block),
            "annotations": list(_boxes(annotations, truth_rows, masks=overlap == "segm")),
        }
        found = _results(annotations, detections.select(found_rows), overlap)
        yield block, _match(backend_classes, truth, found, overlap)


def summarize(curves: Curves) -> dict[str, float]:
    """Return the twelve numbers by the names of `METRICS`, 0..1, to the bit those of COCOeval.

    -1 where the split has nothing of that size.
    """
    precision, recall = curves.precision_TRCA, curves.recall_TCAM
    parts = [precision[..., _ALL], precision[0, ..., _ALL], precision[5, ..., _ALL]]
    parts += [precision[..., size] for size in (_SMALL, _MEDIUM, _LARGE)]
    parts += [recall[..., _ALL, most] for most in range(_MOST + 1)]
    parts += [recall[..., size, _MOST] for size in (_SMALL, _MEDIUM, _LARGE)]
    return {name: mean_of_found(part) for name, part in zip(METRICS, parts, strict=True)}


def frequency_metrics(curves: Curves, frequencies: Sequence[str]) -> dict[str, float]:
    """Return APr, APc and APf: the mean AP of rare, common and frequent classes, 0..1.

    LVIS's groups, by COCO's rules: LVIS's own evaluation takes 300 detections an image, and leaves out those
    of classes that an image was not searched for.

    Args:
        curves: of the split.
        frequencies: "r", "c" or "f" of each class; empty where it is not known for any.

    Returns:
        nothing where a class has no group; -1 for a group without boxes.
    """
    if not frequencies or "" in frequencies:
        return {}
    group_C = np.array(frequencies)[curves.class_C]
    return {
        f"AP{group}": mean_of_found(curves.precision_TRCA[:, :, group_C == group, _ALL])
        for group in FREQUENCIES
    }


def class_metrics(curves: Curves) -> ClassMetrics:
    """Return AP, AP50 and AR of every class."""
    precision, recall = curves.precision_TRCA[..., _ALL], curves.recall_TCAM[..., _ALL, _MOST]

    def in_order(values_C: np.ndarray) -> np.ndarray:
        ordered_C = np.empty(len(values_C))
        ordered_C[curves.class_C] = values_C
        return ordered_C

    return ClassMetrics(
        ap_C=in_order(precision.mean(axis=(0, 1))),
        ap50_C=in_order(precision[0].mean(axis=0)),
        ar_C=in_order(recall.mean(axis=0)),
    )


def mean_of_found(values: np.ndarray) -> float:
    """Average what is not -1; -1 where nothing is left."""
    found = values[values > -1]
    return float(np.mean(found)) if len(found) else -1.0


def _import_backend(backend: str) -> tuple[Any, Any]:
    if backend == "auto":
        backend = "hotcoco" if find_spec("hotcoco") else "pycocotools"
    try:
        if backend == "hotcoco":
            hotcoco = import_module("hotcoco")
            return hotcoco.COCO, hotcoco.COCOeval
        return import_module("pycocotools.coco").COCO, import_module("pycocotools.cocoeval").COCOeval
    except ImportError as error:
        raise MissingResourceError(f"{backend} is not installed: pip install {backend}") from error


def _match(backend_classes: tuple[Any, Any], truth: dict[str, Any], found: Any, overlap: Overlap) -> Any:
    """COCOeval after its `evaluate`."""
    coco_class, eval_class = backend_classes
    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        truth_api = _coco_api(coco_class, truth)
        empty = {**truth, "annotations": []}
        found_api = truth_api.loadRes(found) if len(found) else _coco_api(coco_class, empty)
        matched = eval_class(truth_api, found_api, overlap)
        matched.evaluate()
    return matched


def _coco_api(coco_class: Any, dataset: dict[str, Any]) -> Any:
    """Make the backend's data set object from a dictionary, without a file."""
    api = coco_class()
    api.dataset = dataset
    api.createIndex()
    return api


def _images(annotations: Annotations) -> list[dict[str, int]]:
    sizes = zip(annotations.image_ids.tolist(), annotations.sizes_I2.tolist(), strict=True)
    return [{"id": image, "height": height, "width": width} for image, (height, width) in sizes]


def _categories(annotations: Annotations, block: np.ndarray) -> list[dict[str, Any]]:
    ids = annotations.category_ids[block].tolist()
    return [
        {"id": category, "name": annotations.class_names[place]}
        for category, place in zip(ids, block.tolist(), strict=True)
    ]


def _boxes(annotations: Annotations, rows: np.ndarray, *, masks: bool) -> Iterator[dict[str, Any]]:
    """Boxes of the file as COCO has them; masks as run lengths."""
    image_N = np.searchsorted(annotations.offsets, rows, side="right") - 1
    columns = zip(
        rows.tolist(),
        image_N.tolist(),
        annotations.image_ids[image_N].tolist(),
        annotations.category_ids[annotations.class_N[rows]].tolist(),
        annotations.boxes_xywh[rows].tolist(),
        annotations.area_N[rows].tolist(),
        annotations.crowd_N[rows].tolist(),
        strict=True,
    )
    for number, (row, image, image_id, category, box, area, crowd) in enumerate(columns, start=1):
        yield {
            "id": number,  # from 1: pycocotools takes a match with box 0 for none
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            **({"segmentation": annotations.run_lengths(row, image)} if masks else {}),
        }


def _results(
    annotations: Annotations, detections: Detections, overlap: Overlap
) -> np.ndarray | list[dict[str, Any]]:
    """Boxes as (N, 7) float64: image id, left, top, width, height, score, category id; masks as objects."""
    image_N = annotations.image_ids[detections.image_N]
    category_N = annotations.category_ids[detections.class_N]
    if overlap == "bbox":
        return np.column_stack([image_N, detections.boxes_xywh(), detections.score_N, category_N])
    assert detections.masks_N is not None
    columns = zip(
        image_N.tolist(), category_N.tolist(), detections.masks_N, detections.score_N.tolist(), strict=True
    )
    return [
        {"image_id": image, "category_id": category, "segmentation": runs, "score": score}
        for image, category, runs, score in columns
    ]
