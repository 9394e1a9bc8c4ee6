"""The loop: steps, epochs, and what is kept on the way."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.annotations import Annotations
from detector.augmentation import Augmentation
from detector.checkpoint import (
    BEST_FILE,
    CLASS_TABLE,
    LOG_FILE,
    METRICS_FILE,
    METRICS_TABLE,
    save_weights,
)
from detector.config import Config, TrainConfig
from detector.data import ImageDataset, iter_batches, load_batches
from detector.errors import InputError, TrainingError
from detector.evaluate import evaluate
from detector.evaluation import Evaluation, save_class_table
from detector.files import save_json
from detector.freezing import set_training
from detector.processes import Processes
from detector.run_tables import save_metrics_table
from detector.sampling import batches_of, epoch_length, epoch_order, parts_of
from detector.stopping import StopRequest
from detector.training_log import TrainingLog
from detector.training_state import TrainingState, save_state

#: Below this ratio of spreads what a reasoning head adds is noise to the layers that read it.
COLLAPSED_SD_RATIO = 1e-3

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Loop:
    """What stays the same while a detector trains.

    Attributes:
        config: the run's configuration.
        annotations: what is trained on.
        evaluated: what is evaluated on.
        out: run folder.
        inputs: identity of data and graph (see `save_state`).
        device: where the model is.
        processes: those that train together.
        log: where steps and messages go.
        stop: asked after each step.
    """

    config: Config
    annotations: Annotations
    evaluated: Annotations
    out: Path
    inputs: str
    device: torch.device
    processes: Processes
    log: TrainingLog
    stop: StopRequest

    @property
    def settings(self) -> TrainConfig:
        """The training part of the configuration."""
        return self.config.train


def steps_in_epoch(config: TrainConfig, annotations: Annotations) -> int:
    """How many steps an epoch has."""
    images = epoch_length(annotations, annotations.usable_images(), config.sampling, config.repeat_threshold)
    return math.ceil(images / config.batch_size)


def augmentation_of(config: Config) -> Augmentation:
    """What the configuration does to training images."""
    model, settings = config.model, config.train
    return Augmentation(settings.flip, settings.jitter, model.min_size, settings.copy_paste, model.min_sizes)


def fit(state: TrainingState, loop: Loop) -> bool:
    """Run the steps that are left; return whether the run is finished, or was asked to stop.

    Raises:
        InputError: an image cannot be read; of one process, the state before that step is saved.
        TrainingError: a number is not finite, or the memory of the GPU is full.
    """
    settings, images = loop.settings, loop.annotations.usable_images()
    augmentation = augmentation_of(loop.config)
    dataset = ImageDataset(loop.annotations, images, augmentation=augmentation, seed=settings.seed)
    net = _wrapped(state.model, loop)
    for epoch in range(state.epochs_done, settings.epochs):
        dataset.epoch = epoch + 1
        batches = _batches(epoch, images, loop)
        done = state.step - epoch * len(batches)
        set_training(state.model, settings.part)
        observed = []
        try:
            for dataset_positions, parts in _loaded(batches[done:], dataset, loop):
                numbers = take_step(net, state, dataset_positions, parts, loop)
                observed.append(_diagnostics(state.model))
                loop.log.step(state.step, numbers.pop("lr"), numbers, observed[-1])
                if _wants_to_stop(loop):
                    _keep(state, loop)
                    return False
                last = state.step == (epoch + 1) * len(batches)
                if settings.save_every and state.step % settings.save_every == 0 and not last:
                    _keep(state, loop)
        except InputError:
            if state.step and loop.processes.count == 1:  # others are in their step and would not join in
                _keep(state, loop)
            raise
        warn_of_collapse(observed, loop.log)
        _end_epoch(state, loop)
    return True


def take_step(
    net: nn.Module,
    state: TrainingState,
    sizes: Sequence[int],
    parts: Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]],
    loop: Loop,
) -> dict[str, float]:
    """Take one step of the optimiser over all parts of a batch.

    Args:
        net: the model, or what trains it in several processes.
        state: changed in place.
        sizes: how many images each part has.
        parts: images and targets.
        loop: what stays the same.

    Returns:
        the losses by name, and the learning rate, "lr".

    Raises:
        InputError: an image cannot be read.
        TrainingError: a number is not finite.
    """
    settings = loop.settings
    sums: dict[str, Tensor] = {}
    shown: list[int] = []
    for number, (images, targets) in enumerate(parts, start=1):
        share = len(images) / sum(sizes)
        alone = number < len(sizes) and isinstance(net, DistributedDataParallel)
        with net.no_sync() if alone else nullcontext():  # type: ignore[operator]
            with autocast(settings, loop.device):
                losses = net(images, targets)
            total = torch.stack([loss.float() for loss in losses.values()]).sum() * share
            state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach().float() * share
        shown += [int(target["image"]) for target in targets]
    state.scaler.unscale_(state.optimizer)
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm or math.inf)
    values = loop.processes.mean(torch.stack(list(sums.values()))).tolist()
    numbers = dict(zip(sums, values, strict=True))
    checked = numbers if state.scaler.is_enabled() else {**numbers, "gradient norm": float(norm)}
    check_finite(checked, state.step + 1, [str(loop.annotations.file_names[image]) for image in shown])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    lr = float(state.schedule.get_last_lr()[0])
    with warnings.catch_warnings():  # in fp16 the scaler may have left the optimiser's step out
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        state.schedule.step()
    if state.average:
        state.average.update(state.model)
    state.step += 1
    return {**numbers, "lr": lr}


def autocast(settings: TrainConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as configured, on a device."""
    return torch.autocast(device.type, DTYPES.get(settings.precision), enabled=settings.precision in DTYPES)


def check_finite(numbers: Mapping[str, float], step: int, images: Sequence[str]) -> None:
    """Stop at the first number that is not finite.

    Raises:
        TrainingError: names the number, the step and the images of the batch.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
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
    for name in observed[0] if observed else ():
        mean = sum(diagnostics[name] for diagnostics in observed) / len(observed)
        if name.endswith("context_sd_ratio") and mean < COLLAPSED_SD_RATIO:
            log.warn(
                f"{name} was below {COLLAPSED_SD_RATIO} in an epoch: what the reasoning head adds is too "
                "small to be used; start from a trained baseline (--init), or take its working form"
            )


def _batches(epoch: int, images: np.ndarray, loop: Loop) -> list[np.ndarray]:
    """The batches of an epoch, over all processes: positions in `images`."""
    settings, annotations = loop.settings, loop.annotations
    rng = np.random.default_rng((settings.seed, epoch))
    order = epoch_order(annotations, images, settings.sampling, settings.repeat_threshold, rng)
    sizes_I2 = annotations.sizes_I2[images]
    wide_I = sizes_I2[:, 1] > sizes_I2[:, 0] if settings.group_shapes else None
    batches = batches_of(order, settings.batch_size, wide_I)
    if wide_I is not None:
        rng.shuffle(batches)
    return batches


def _loaded(
    batches: Sequence[np.ndarray], dataset: ImageDataset, loop: Loop
) -> Iterator[tuple[list[int], Iterator[Any]]]:
    """For each batch what this process sees of it: how many images each part has, and the parts."""
    processes, settings = loop.processes, loop.settings
    parts = [parts_of(batch, processes.rank, processes.count, settings.accumulate) for batch in batches]
    loader = load_batches(dataset, [part for step in parts for part in step], settings.workers, loop.device)
    images = iter_batches(loader, loop.device)
    for step in parts:
        yield [len(part) for part in step], islice(images, len(step))


def _wrapped(model: nn.Module, loop: Loop) -> nn.Module:
    if loop.processes.count == 1:
        return model
    devices = [loop.device.index] if loop.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def _diagnostics(model: nn.Module) -> dict[str, float]:
    found: dict[str, float] = model.diagnostics()  # type: ignore[operator]
    return found


def _wants_to_stop(loop: Loop) -> bool:
    """Whether any process was asked to stop: all stop after the same step."""
    wanted = torch.tensor([float(loop.stop.wanted)], device=loop.device)
    return bool(loop.processes.mean(wanted) > 0) if loop.processes.count > 1 else loop.stop.wanted


def _keep(state: TrainingState, loop: Loop) -> None:
    """Save everything that the run needs to go on, and the weights that it would leave now."""
    state.seconds = loop.log.seconds
    save_state(state, loop.out, loop.inputs, loop.processes)
    if loop.processes.first:
        save_weights(state.shown, loop.out)


def _end_epoch(state: TrainingState, loop: Loop) -> None:
    """Evaluate where it is due, keep the best weights, and then the state.

    In this order: a run that is killed in between does the evaluation again. metrics.json comes after the
    state: alone it would say that the run is finished.
    """
    settings, epoch = loop.settings, state.epochs_done + 1
    found = None
    if epoch == settings.epochs or (settings.eval_every and epoch % settings.eval_every == 0):
        found = evaluate(
            state.shown,
            loop.evaluated,
            train_images=loop.annotations.images_per_class().tolist(),
            workers=settings.workers,
            processes=loop.processes,
        )
        if found:
            place = {"epoch": epoch, "step": state.step, "seconds": round(loop.log.seconds, 1)}
            state.result = {**place, **found.summary()}
            _keep_result(state, found, loop)
    state.epochs_done = epoch
    _keep(state, loop)
    if found:
        save_json(state.result, loop.out / METRICS_FILE)


def _keep_result(state: TrainingState, evaluation: Evaluation, loop: Loop) -> None:
    loop.log.write(state.result)
    save_metrics_table(loop.out / LOG_FILE, loop.out / METRICS_TABLE)
    save_class_table(evaluation, loop.out / CLASS_TABLE)
    if loop.settings.eval_every and state.result["metrics"]["AP"] > state.best:
        state.best = state.result["metrics"]["AP"]
        save_weights(state.shown, loop.out, BEST_FILE)
