"""Training: checks first, then the loop, then what the run leaves behind."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import (
    CLASSES_FILE,
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
    RunClasses,
    load_fitting_weights,
    save_classes,
    save_config,
    save_weights,
)
from detector.config import Config
from detector.data import ImageDataset, build_loader, iter_batches
from detector.device import pick_device
from detector.errors import ConfigError, InputError, OutputExistsError, TrainingError
from detector.evaluate import evaluate
from detector.files import check_folder_free, save_json
from detector.freezing import freeze_others, set_training
from detector.knowledge import Knowledge, load_knowledge
from detector.optimizer import build_optimizer, build_schedule
from detector.rcnn import RCNN, build_model
from detector.training_log import TrainingLog

#: Below this ratio of spreads what a reasoning head adds is noise to the layers that read it.
COLLAPSED_SD_RATIO = 1e-3


def train(
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
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a detector and evaluate it; `out` becomes a run folder.

    Whatever can be wrong with the inputs is found before the first step and before `out` is touched, but for
    what only decoding an image tells. The weights are saved after every epoch, and when bad input or the user
    stops the first.

    Args:
        config: the whole configuration.
        data: data folder (see `detector.annotations`).
        out: run folder to make.
        graphs: class-graph files, one or more for a recipe that needs one.
        init: run folder whose weights to start from, where name and shape fit; of the same classes.
        split: what to train on.
        eval_split: what to evaluate on; its class names must be those of `split`.
        max_images: use the first so many images with boxes of each split.
        device: "auto", "cpu" or "cuda".
        overwrite: replace a run that is already in `out`.
        quiet: nothing on stderr.

    Returns:
        what metrics.json holds: the split, its number of images, the twelve COCO numbers, the time.

    Raises:
        ConfigError: a graph is missing or useless, or parts of the configuration do not fit.
        InputError: the data is not what it should be.
        ClassMatchError: graph, data and evaluation data do not name the same classes.
        OutputExistsError: `out` is there and `overwrite` is false.
        TrainingError: a loss is not finite.
    """
    check_graph_wanted(config, graphs)
    check_run_folder_free(out, overwrite=overwrite)
    target_device = pick_device(device)
    masks = config.model.mask is not None
    annotations = load_annotations(data, split, max_images=max_images, masks=masks)
    evaluated = load_annotations(data, eval_split, max_images=max_images, masks=masks)
    evaluated = evaluated.with_classes(annotations.class_names, owner=str(annotations.path))
    if len(annotations.usable_images()) == 0:
        raise InputError(f"{annotations.path}: no image with a box to train on; expected one or more")
    names, synsets = annotations.class_names, annotations.synsets
    knowledge = [load_knowledge(graph, names, synsets) for graph in graphs]
    seed_everything(config.train.seed)
    weights = torch.stack([part.graph_CC for part in knowledge]) if knowledge else None
    model = build_model(config.model, annotations.num_classes, weights)
    messages = list(model.messages)
    if init:
        messages.append(load_fitting_weights(model, init, names))
    freeze_others(model, config.train.part)
    model.to(target_device)
    _start_run_folder(out, config, annotations, knowledge)
    steps_per_epoch = math.ceil(len(annotations.usable_images()) / config.train.batch_size)
    with (
        denormals_as_zero(),
        TrainingLog(out / LOG_FILE, config.train.epochs, steps_per_epoch, quiet=quiet) as log,
    ):
        messages += [message for part in knowledge for message in part.messages]
        for text in [*_opening_messages(config, annotations, evaluated, model), *messages]:
            log.message(text)
        try:
            return fit(model, config, annotations, evaluated, out, target_device, log)
        except (InputError, KeyboardInterrupt, SystemExit):
            _save_first_steps(model, out, log)
            raise


def fit(
    model: RCNN,
    config: Config,
    annotations: Annotations,
    evaluated: Annotations,
    out: Path,
    device: torch.device,
    log: TrainingLog,
) -> dict[str, Any]:
    """Run all epochs; save the weights after each; return the result of the last evaluation."""
    settings = config.train
    dataset = ImageDataset(annotations, annotations.usable_images(), flip=settings.flip, seed=settings.seed)
    order = torch.Generator().manual_seed(settings.seed)
    loader = build_loader(dataset, settings.batch_size, workers=settings.workers, shuffle=order)
    optimizer = build_optimizer(model, settings)
    schedule = build_schedule(optimizer, settings, len(loader))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    step, result = 0, {}
    for epoch in range(1, settings.epochs + 1):
        dataset.epoch = epoch
        observed = []
        set_training(model, settings.part)
        for images, targets in iter_batches(loader, device):
            step += 1
            losses = model(images, targets)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            numbers = to_numbers(losses)
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm or math.inf)
            check_finite({**numbers, "gradient norm": float(norm)}, step, dataset, targets)
            optimizer.step()
            observed.append(model.diagnostics())
            log.step(step, float(schedule.get_last_lr()[0]), numbers, observed[-1])
            schedule.step()
        save_weights(model, out)
        warn_of_collapse(observed, log)
        last = epoch == settings.epochs
        if last or (settings.eval_every and epoch % settings.eval_every == 0):
            result = {
                "epoch": epoch,
                "step": step,
                "seconds": round(log.seconds, 1),
                **evaluate(model, evaluated),
            }
            log.write(result)
            save_json(result, out / METRICS_FILE)
    return result


def _save_first_steps(model: RCNN, out: Path, log: TrainingLog) -> None:
    """Save the weights of a run that stops inside its first epoch; later the last whole epoch's stay."""
    if log.steps_done and not (out / WEIGHTS_FILE).exists():
        save_weights(model, out)
        log.message(f"stopped in the first epoch: {WEIGHTS_FILE} has the weights after step {log.steps_done}")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Treat denormal numbers as zero inside the block: on a CPU each would cost a hundred normal ones.

    The setting is the whole thread's, so it is taken back: a program that trains may need them elsewhere.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def check_graph_wanted(config: Config, graphs: Sequence[Path]) -> None:
    """Check that a graph is given exactly when a head reads one.

    Raises:
        ConfigError: it is missing or would be ignored.
    """
    needed = any(stage.head.needs_graph for stage in config.model.stages)
    if needed and not graphs:
        raise ConfigError(
            f"recipe {config.recipe} needs a class graph and got none; give --graph FILE "
            "(made by kgtool build-relation or build-attribute)"
        )
    if graphs and not needed:
        raise ConfigError(
            f"--graph {graphs[0]}: no head of recipe {config.recipe} reads a graph; leave --graph out, or "
            "take a recipe with one (detector recipes)"
        )


def check_run_folder_free(out: Path, *, overwrite: bool) -> None:
    """Check that `out` may become a run folder.

    Raises:
        OutputExistsError: it holds something; with `overwrite`, something that is not a run.
        DetectorError: it is a file, or the folder around it does not exist.
    """
    check_folder_free(out, overwrite=overwrite)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG_FILE).is_file():
        raise OutputExistsError(f"{out}: holds other things than a run; give another --out")


def check_finite(
    numbers: Mapping[str, float], step: int, dataset: ImageDataset, targets: Sequence[Mapping[str, Tensor]]
) -> None:
    """Stop at the first number that is not finite.

    Raises:
        TrainingError: names the number, the step and the images of the batch.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            images = [str(dataset.annotations.file_names[int(target["image"])]) for target in targets]
            raise TrainingError(
                f"step {step}: {name} is {value}; images of this step: {', '.join(images)}; "
                "try a lower train.lr, more train.warmup_iterations, or train.clip_norm"
            )


def warn_of_collapse(observed: Sequence[Mapping[str, float]], log: TrainingLog) -> None:
    """Say so, once a run, when what a reasoning head adds was too small to be read during an epoch.

    Args:
        observed: what the heads said at each step of the epoch; the mean counts, single steps vary widely.
        log: where to say it.
    """
    for name in observed[0]:
        mean = sum(diagnostics[name] for diagnostics in observed) / len(observed)
        if name.endswith("context_sd_ratio") and mean < COLLAPSED_SD_RATIO:
            log.warn(
                f"{name} was below {COLLAPSED_SD_RATIO} in an epoch: what the reasoning head adds is too "
                "small to be used; start from a trained baseline (--init), or take its working form"
            )


def to_numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Bring named losses to the CPU in one copy."""
    values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))


def _start_run_folder(
    out: Path, config: Config, annotations: Annotations, knowledge: Sequence[Knowledge]
) -> None:
    """Make the folder, or clear the run that is in it, and write what is known before training."""
    out.mkdir(exist_ok=True)
    for name in (WEIGHTS_FILE, METRICS_FILE, LOG_FILE, CONFIG_FILE, CLASSES_FILE):
        (out / name).unlink(missing_ok=True)
    category_ids = tuple(annotations.category_ids.tolist())
    graph_hashes = tuple(part.graph_hash for part in knowledge)
    save_config(config, out)
    save_classes(RunClasses(annotations.class_names, annotations.synsets, category_ids, graph_hashes), out)


def _opening_messages(
    config: Config, annotations: Annotations, evaluated: Annotations, model: RCNN
) -> list[str]:
    million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    device = next(model.parameters()).device
    left_out = ", ".join(f"{count} {reason}" for reason, count in annotations.skipped().items() if count)
    return [
        f"{config.recipe}: {million:.2f} M parameters on {device}, {annotations.num_classes} classes",
        f"training on {len(annotations.usable_images())} images of {annotations.path}"
        + (f"; left out: {left_out}" if left_out else ""),
        f"evaluating on {evaluated.num_images} images of {evaluated.path}",
    ]
