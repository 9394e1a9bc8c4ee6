"""A training without training: all checks of `train`, one batch, and nothing is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detector.batch_search import with_found_batch
from detector.config import Config
from detector.data import ImageDataset, iter_batches, load_batches
from detector.device import pick_device
from detector.execution import autocast, seed_everything
from detector.freezing import set_training
from detector.preparation import build_from, check_graph_wanted, load_inputs
from detector.readings import check_finite
from detector.run_folder import check_run_folder_free
from detector.training_loop import augmentation_of, steps_in_epoch


def rehearse(
    config: Config,
    data: Path,
    out: Path,
    *,
    graphs: Sequence[Path] = (),
    init: Path | None = None,
    split: str = "train",
    eval_split: str = "test",
    max_images: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    auto_batch: bool = False,
) -> dict[str, Any]:
    """Check configuration, data, graphs, model and `out`; run one batch forward and backward.

    Args:
        config: see `detector.train.train`, as all others.
        data: data folder.
        out: run folder that would be made; it is not touched.
        graphs: class-graph files.
        init: run to start from.
        split: what would be trained on.
        eval_split: what would be evaluated on.
        max_images: images of each split.
        device: "auto", "cpu" or "cuda".
        overwrite: a run in `out` may be replaced.
        auto_batch: find the batch first.

    Returns:
        images, classes, weights, images a step and steps that there would be, the losses of the batch, and
        messages.

    Raises:
        ConfigError, InputError, ClassMatchError, OutputExistsError, TrainingError: as `train`.
    """
    check_graph_wanted(config, graphs)
    check_run_folder_free(out, overwrite=overwrite)
    target_device = pick_device(device)
    inputs = load_inputs(config, data, graphs, (split, eval_split), max_images)
    config, found = with_found_batch(config, inputs, target_device) if auto_batch else (config, [])
    seed_everything(config.train.seed)
    model, messages = build_from(config, inputs, init)
    model.to(target_device)
    set_training(model, config.train.part)
    images = inputs.annotations.usable_images()[: config.train.batch_size]
    dataset = ImageDataset(
        inputs.annotations, images, augmentation=augmentation_of(config), seed=config.train.seed
    )
    dataset.epoch = 1
    (batch,) = iter_batches(load_batches(dataset, [np.arange(len(images))]), target_device)
    with autocast(config.train.precision, target_device):
        losses = model(*batch)
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([gradient.float().norm() for gradient in gradients]))
    numbers = {name: float(loss.detach()) for name, loss in losses.items()}
    names = [str(inputs.annotations.file_names[image]) for image in images]
    check_finite({**numbers, "gradient norm": float(norm)}, 1, names)
    return {
        "recipe": config.recipe,
        "device": str(target_device),
        "train_images": len(inputs.annotations.usable_images()),
        "eval_images": inputs.evaluated.num_images,
        "classes": inputs.annotations.num_classes,
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "batch_size": config.train.batch_size,
        "steps": config.train.epochs * steps_in_epoch(config.train, inputs.annotations),
        "losses": numbers,
        "messages": [*found, *messages],
    }
