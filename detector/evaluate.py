"""COCO metrics of boxes and masks: detections on a split, and the twelve numbers everybody reports.

pycocotools is the reference. hotcoco, where it is installed, gives the same numbers many times faster.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import load_run
from detector.data import ImageDataset, iter_batches, load_batches
from detector.device import pick_device
from detector.errors import MissingResourceError
from detector.knowledge import FOREGROUND
from detector.processes import ALONE, Processes
from detector.sampling import batches_of
from detector.segmentation import RunLengths, encode_masks

#: The twelve numbers in the order in which COCOeval gives them.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


#: A pixel belongs to a mask from this probability on.
MASK_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes, and masks, that a model found, N of them, as columns.

    Attributes:
        image_N: int64 position of the image in its split.
        boxes_xyxy: (N, 4) float32 px of the image as stored.
        class_N: int64, 0..C-1 in the order of the model's classes.
        score_N: float32, 0..1.
        masks_N: run lengths of each mask; None from a model without masks.
    """

    image_N: np.ndarray
    boxes_xyxy: np.ndarray
    class_N: np.ndarray
    score_N: np.ndarray
    masks_N: list[RunLengths] | None = None

    def __len__(self) -> int:
        return len(self.image_N)


def evaluate_run(
    run: Path,
    data: Path,
    split: str = "test",
    *,
    max_images: int | None = None,
    batch_size: int = 4,
    backend: str = "auto",
    device: str = "auto",
) -> dict[str, Any]:
    """Evaluate a run folder on a split of a data folder; classes are matched by name.

    Raises:
        InputError: the run or the data is not what it should be.
        ClassMatchError: they do not name the same classes.
        MissingResourceError: no such device, or the backend is not installed.
    """
    trained = load_run(run, pick_device(device))
    masks = trained.config.model.mask is not None
    annotations = load_annotations(data, split, max_images=max_images, masks=masks)
    annotations = annotations.with_classes(trained.classes.names, owner=f"the run {run}")
    return evaluate(trained.model, annotations, batch_size=batch_size, backend=backend)


def evaluate(
    model: nn.Module,
    annotations: Annotations,
    *,
    batch_size: int = 4,
    workers: int = 0,
    backend: str = "auto",
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Run a model over a split: the name of its file, the number of images, and the twelve metrics.

    Where model and annotations have masks, `mask_metrics` are the twelve with the overlap of masks.

    Args:
        model: any detector with torchvision's contract.
        annotations: the split.
        batch_size: images at a time.
        workers: processes that load images.
        backend: see `coco_metrics`.
        processes: those that share the images; only the first one gets the metrics.
    """
    detections = detect(model, annotations, batch_size=batch_size, workers=workers, processes=processes)
    if not processes.first:
        return {}
    result: dict[str, Any] = {
        "data": annotations.path.name,
        "num_images": annotations.num_images,
        "metrics": coco_metrics(annotations, detections, backend=backend),
    }
    if detections.masks_N is not None and annotations.segmentation_N is not None:
        result["mask_metrics"] = coco_metrics(annotations, detections, backend=backend, overlap="segm")
    return result


def detect(
    model: nn.Module,
    annotations: Annotations,
    *,
    batch_size: int = 4,
    workers: int = 0,
    processes: Processes = ALONE,
) -> Detections:
    """Run a model over every image of a split, on its own device; it is left in the mode it was in.

    Several processes take the images in turns, each image once, and all get all detections, in the same
    order whatever their number.
    """
    device = next(model.parameters()).device
    mine = np.arange(annotations.num_images)[processes.rank :: processes.count]
    dataset = ImageDataset(replace(annotations, segmentation_N=None), mine)
    loader = load_batches(dataset, batches_of(np.arange(len(mine)), batch_size), workers, device)
    training = model.training
    model.eval()
    found: dict[int, dict[str, Any]] = {}
    with torch.inference_mode():
        for pixels, targets in iter_batches(loader, device):
            outputs = [to_arrays(output) for output in model(pixels)]
            found |= {int(target["image"]): output for target, output in zip(targets, outputs, strict=True)}
    model.train(training)
    output_by_image = {image: output for part in processes.gather(found) for image, output in part.items()}
    images = sorted(output_by_image)
    return to_detections(images, [output_by_image[image] for image in images])


def to_arrays(output: dict[str, Tensor]) -> dict[str, Any]:
    """Bring what a model found in one image to the CPU; masks, cut at one half, as run lengths."""
    arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in output.items() if name != "masks"}
    if "masks" in output:
        arrays["masks"] = encode_masks((output["masks"][:, 0] >= MASK_THRESHOLD).cpu().numpy())
    return arrays


def to_detections(images: Sequence[int], outputs: Sequence[dict[str, Any]]) -> Detections:
    """Join what `to_arrays` made of each image as columns."""
    counts = [len(output["scores"]) for output in outputs]

    def column(name: str, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([output[name] for output in outputs] or [empty])

    with_masks = bool(outputs) and "masks" in outputs[0]
    return Detections(
        image_N=np.repeat(np.array(images, dtype=np.int64), counts),
        boxes_xyxy=column("boxes", np.zeros((0, 4), dtype=np.float32)),
        class_N=column("labels", np.zeros(0, dtype=np.int64)) - FOREGROUND.start,
        score_N=column("scores", np.zeros(0, dtype=np.float32)),
        masks_N=[runs for output in outputs for runs in output["masks"]] if with_masks else None,
    )


def coco_metrics(
    annotations: Annotations,
    detections: Detections,
    *,
    backend: str = "auto",
    overlap: Literal["bbox", "segm"] = "bbox",
) -> dict[str, float]:
    """Compute AP, AP50, ..., ARl as COCOeval does (COCO's detection evaluation).

    Args:
        annotations: the split, every box of the file included; crowd boxes absorb detections.
        detections: what was found, classes in the order of `annotations`.
        backend: "pycocotools", "hotcoco", or "auto": hotcoco where it is installed.
        overlap: of what the IoU is taken, boxes or masks; both sides must have masks for "segm".

    Returns:
        the twelve numbers by the names of `METRICS`, 0..1; -1 where the split has nothing of that size.

    Raises:
        MissingResourceError: the backend is not installed.
    """
    if backend == "auto":
        backend = "hotcoco" if find_spec("hotcoco") else "pycocotools"
    coco_class, eval_class = _import_backend(backend)
    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        truth = _coco_api(coco_class, _ground_truth(annotations, masks=overlap == "segm"))
        rows = (_mask_results if overlap == "segm" else _result_rows)(annotations, detections)
        found = truth.loadRes(rows) if len(rows) else _coco_api(coco_class, _no_boxes(annotations))
        evaluation = eval_class(truth, found, overlap)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(METRICS, evaluation.stats, strict=True)}


def _import_backend(backend: str) -> tuple[Any, Any]:
    try:
        if backend == "hotcoco":
            hotcoco = import_module("hotcoco")
            return hotcoco.COCO, hotcoco.COCOeval
        return import_module("pycocotools.coco").COCO, import_module("pycocotools.cocoeval").COCOeval
    except ImportError as error:
        raise MissingResourceError(f"{backend} is not installed: pip install {backend}") from error


def _coco_api(coco_class: Any, dataset: dict[str, Any]) -> Any:
    """Make the backend's data set object from a dictionary, without a file."""
    api = coco_class()
    api.dataset = dataset
    api.createIndex()
    return api


def _ground_truth(annotations: Annotations, *, masks: bool) -> dict[str, Any]:
    """The split as a COCO dictionary, as it was in the file; masks as run lengths."""
    image_N = np.repeat(annotations.image_ids, np.diff(annotations.offsets)).tolist()
    category_N = annotations.category_ids[annotations.class_N].tolist()
    columns = zip(
        image_N,
        category_N,
        annotations.boxes_xywh.tolist(),
        annotations.area_N.tolist(),
        annotations.crowd_N.tolist(),
        strict=True,
    )
    boxes = [
        {
            "id": row,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for row, (image, category, box, area, crowd) in enumerate(columns, start=1)
    ]
    if masks:
        image_of_row = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
        for row, box in enumerate(boxes):
            box["segmentation"] = annotations.run_lengths(row, int(image_of_row[row]))
    return {**_no_boxes(annotations), "annotations": boxes}


def _no_boxes(annotations: Annotations) -> dict[str, Any]:
    images = [
        {"id": image, "height": height, "width": width}
        for image, (height, width) in zip(
            annotations.image_ids.tolist(), annotations.sizes_I2.tolist(), strict=True
        )
    ]
    names = zip(annotations.category_ids.tolist(), annotations.class_names, strict=True)
    categories = [{"id": category, "name": name} for category, name in names]
    return {"info": {}, "images": images, "categories": categories, "annotations": []}


def _result_rows(annotations: Annotations, detections: Detections) -> np.ndarray:
    """(N, 7) float64: image id, left, top, width, height, score, category id."""
    boxes = detections.boxes_xyxy.astype(np.float64)
    return np.column_stack(
        [
            annotations.image_ids[detections.image_N],
            boxes[:, :2],
            boxes[:, 2:] - boxes[:, :2],
            detections.score_N,
            annotations.category_ids[detections.class_N],
        ]
    )


def _mask_results(annotations: Annotations, detections: Detections) -> list[dict[str, Any]]:
    assert detections.masks_N is not None
    columns = zip(
        annotations.image_ids[detections.image_N].tolist(),
        annotations.category_ids[detections.class_N].tolist(),
        detections.masks_N,
        detections.score_N.tolist(),
        strict=True,
    )
    return [
        {"image_id": image, "category_id": category, "segmentation": runs, "score": score}
        for image, category, runs, score in columns
    ]
