"""Detections on a split, and what is reported of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import Weights, load_run
from detector.coco_metrics import coco_curves
from detector.config import Precision
from detector.data import ImageDataset, iter_batches, load_batches
from detector.detections import Detections, to_arrays, to_detections
from detector.device import pick_device
from detector.errors import DetectorError
from detector.evaluation import Evaluation
from detector.evaluation_files import NO_FILES, EvaluationFiles
from detector.execution import autocast, set_memory_order
from detector.processes import ALONE, Processes
from detector.sampling import batches_of


def evaluate_run(
    run: Path,
    data: Path,
    split: str = "test",
    *,
    weights: Weights = "last",
    max_images: int | None = None,
    batch_size: int = 4,
    precision: Precision | None = None,
    backend: str = "auto",
    device: str = "auto",
    files: EvaluationFiles = NO_FILES,
) -> Evaluation:
    """Evaluate a run folder on a split of a data folder; classes are matched by name.

    Memory order is the run's (train.channels_last). Nothing is compiled: for one pass that would not pay.

    Args:
        run: the run folder.
        data: the data folder.
        split: of the data.
        weights: "last", or "best" of a run with several evaluations.
        max_images: the first so many images with boxes.
        batch_size: images at a time.
        precision: what the model computes in; None: what it was trained in (train.precision).
        backend: see `coco_curves`.
        device: "auto", "cpu" or "cuda".
        files: what to write.

    Raises:
        InputError: the run or the data is not what it should be.
        ClassMatchError: they do not name the same classes.
        MissingResourceError: no such device, or a package that is needed is not installed.
        OutputExistsError: a file to write is there.
        DetectorError: the GPU's memory is full.
    """
    files.check()
    trained = load_run(run, pick_device(device), weights=weights)
    masks = trained.config.model.mask is not None
    annotations = load_annotations(data, split, max_images=max_images, masks=masks)
    annotations = annotations.with_classes(trained.classes.names, owner=f"the run {run}")
    settings = trained.config.train
    set_memory_order(trained.model, settings)
    try:
        evaluation = evaluate(
            trained.model,
            annotations,
            train_images=trained.classes.train_images,
            batch_size=batch_size,
            precision=precision or settings.precision,
            backend=backend,
        )
    except torch.cuda.OutOfMemoryError as error:
        raise DetectorError(
            f"evaluation: the GPU's memory is full with {batch_size} images at a time; take a smaller "
            "--batch-size, or --precision bf16"
        ) from error
    assert evaluation is not None  # one process
    files.write(evaluation)
    return evaluation


def evaluate(
    model: nn.Module,
    annotations: Annotations,
    *,
    train_images: Sequence[int] = (),
    batch_size: int = 4,
    precision: Precision = "float32",
    workers: int = 0,
    backend: str = "auto",
    processes: Processes = ALONE,
) -> Evaluation | None:
    """Run a model over a split and compare what it finds with the truth.

    Of several processes, only the first one compares, and gets something.

    Args:
        model: any detector with torchvision's contract.
        annotations: the split.
        train_images: number of images that each class was trained on, for APr, APc and APf where the file of
            the split does not say which classes are rare.
        batch_size: images at a time.
        precision: what the model computes in; boxes and scores come out in float32 all the same.
        workers: processes that load images.
        backend: see `coco_curves`.
        processes: those that share the images.
    """
    detections = detect(
        model, annotations, batch_size=batch_size, precision=precision, workers=workers, processes=processes
    )
    if not processes.first:
        return None
    with_masks = detections.masks_N is not None and annotations.segmentation_N is not None
    return Evaluation(
        annotations,
        detections,
        tuple(train_images),
        coco_curves(annotations, detections, backend=backend),
        coco_curves(annotations, detections, backend=backend, overlap="segm") if with_masks else None,
    )


def detect(
    model: nn.Module,
    annotations: Annotations,
    *,
    batch_size: int = 4,
    precision: Precision = "float32",
    workers: int = 0,
    processes: Processes = ALONE,
) -> Detections:
    """Run a model over every image of a split, on its own device; it is left in the mode it was in.

    Several processes take the images in turns, each image once, and all get all detections, in the same
    order whatever their number. What counts is the first one's model: each has batch statistics of its own.
    """
    processes.copy_from_first(model.buffers())
    device = next(model.parameters()).device
    mine = np.arange(annotations.num_images)[processes.rank :: processes.count]
    dataset = ImageDataset(replace(annotations, segmentation_N=None), mine)
    loader = load_batches(dataset, batches_of(np.arange(len(mine)), batch_size), workers, device)
    training = model.training
    model.eval()
    found: dict[int, dict[str, Any]] = {}
    with torch.inference_mode(), autocast(precision, device):
        for pixels, targets in iter_batches(loader, device):
            outputs = [to_arrays(output) for output in model(pixels)]
            found |= {int(target["image"]): output for target, output in zip(targets, outputs, strict=True)}
    model.train(training)
    output_by_image = {image: output for part in processes.gather(found) for image, output in part.items()}
    images = sorted(output_by_image)
    return to_detections(images, [output_by_image[image] for image in images])
