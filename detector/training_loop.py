"""The loop: steps, epochs, and what is kept on the way."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
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
from detector.preparation import Inputs
from detector.processes import Processes
from detector.readings import Readings, add_ratios, warn_of_collapse
from detector.run_tables import save_metrics_table
from detector.sampling import batches_of, epoch_length, epoch_order, parts_of
from detector.stopping import StopRequest
from detector.training_log import TrainingLog
from detector.training_state import TrainingState, save_state
from detector.training_step import Part, take_step


@dataclass(frozen=True, eq=False)
class Loop:
    """What stays the same while a detector trains.

    Attributes:
        config: the run's configuration.
        inputs: what is trained and evaluated on.
        identity: of `inputs` (see `save_state`).
        out: run folder.
        device: where the model is.
        processes: those that train together.
        log: where messages and evaluations go.
        readings: where the numbers of steps go.
        stop: asked after each step.
    """

    config: Config
    inputs: Inputs
    identity: str
    out: Path
    device: torch.device
    processes: Processes
    log: TrainingLog
    readings: Readings
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
        TrainingError: a number is not finite, or the memory of the GPU is full; of one process, in an
            evaluation, the state before it is saved.
    """
    settings, images = loop.settings, loop.inputs.annotations.usable_images()
    augmentation = augmentation_of(loop.config)
    dataset = ImageDataset(loop.inputs.annotations, images, augmentation=augmentation, seed=settings.seed)
    net = _wrapped(state.model, loop)
    while state.epochs_done < settings.epochs:
        dataset.epoch = state.epochs_done + 1
        set_training(state.model, settings.part)
        try:
            ended = _fit_epoch(net, state, dataset, loop)
        except Exception as error:
            _after_failure(error, state, loop)
            raise
        if not ended:
            return False
        _end_epoch(state, loop)
    return True


def _fit_epoch(net: nn.Module, state: TrainingState, dataset: ImageDataset, loop: Loop) -> bool:
    """Run the steps of an epoch that are left; return whether it is over, or a stop was asked for."""
    settings, names = loop.settings, loop.inputs.annotations.file_names
    batches = _batches(state.epochs_done, dataset.images, loop)
    last = (state.epochs_done + 1) * len(batches)
    for sizes, parts in _loaded(batches[len(batches) - (last - state.step) :], dataset, loop):
        loop.readings.add(take_step(net, state, sizes, parts, settings, names))
        if loop.readings.due or state.step == last:
            _read(state, loop)
        if _wants_to_stop(loop):
            _keep(state, loop)
            return False
        if settings.save_every and state.step % settings.save_every == 0 and state.step < last:
            _keep(state, loop)
    return True


def _read(state: TrainingState, loop: Loop) -> None:
    """Check and log the steps that were not read yet."""
    for diagnostics in loop.readings.read():
        add_ratios(state.ratios, diagnostics)


def _after_failure(error: Exception, state: TrainingState, loop: Loop) -> None:
    """Save what can be saved, and raise what says better why a step failed."""
    if loop.processes.count == 1:  # others are in their step and would not join in
        _read(state, loop)  # a number that is not finite may be the reason
        if isinstance(error, InputError) and state.step:
            _keep(state, loop)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        raise TrainingError(
            f"step {state.step + 1}: the GPU's memory is full; take a smaller train.batch_size, a larger "
            "train.accumulate, a smaller model.min_size, or train.precision=bf16"
        ) from error


def _batches(epoch: int, images: np.ndarray, loop: Loop) -> list[np.ndarray]:
    """The batches of an epoch, over all processes: positions in `images`."""
    settings, annotations = loop.settings, loop.inputs.annotations
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
) -> Iterator[tuple[list[int], Iterator[Part]]]:
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


def _wants_to_stop(loop: Loop) -> bool:
    """Whether any process was asked to stop: all stop after the same step.

    Several processes must wait for each other to find out, and do so where they wait anyway.
    """
    if loop.processes.count == 1:
        return loop.stop.wanted
    if loop.readings.waiting:
        return False
    wanted = torch.tensor([float(loop.stop.wanted)], device=loop.device)
    return bool(loop.processes.mean(wanted) > 0)


def _keep(state: TrainingState, loop: Loop) -> None:
    """Save everything that the run needs to go on, and the weights that it would leave now."""
    _read(state, loop)
    state.seconds = loop.log.seconds
    save_state(state, loop.out, loop.identity, loop.processes)
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
        found = _evaluate(state, loop)
        if found:
            place = {"epoch": epoch, "step": state.step, "seconds": round(loop.log.seconds, 1)}
            state.result = {**place, **found.summary()}
            _keep_result(state, found, loop)
    warn_of_collapse(state.ratios, loop.log)
    state.epochs_done, state.ratios = epoch, {}
    _keep(state, loop)
    if found:
        save_json(state.result, loop.out / METRICS_FILE)


def _evaluate(state: TrainingState, loop: Loop) -> Evaluation | None:
    """Evaluate in the precision of the training; of several processes the first one gets something."""
    settings = loop.settings
    try:
        return evaluate(
            state.shown,
            loop.inputs.evaluated,
            train_images=loop.inputs.annotations.images_per_class().tolist(),
            batch_size=settings.eval_batch_size,
            precision=settings.precision,
            workers=settings.workers,
            processes=loop.processes,
        )
    except torch.cuda.OutOfMemoryError as error:
        if loop.processes.count == 1:  # others are in their part and would not join in
            _keep(state, loop)
        raise TrainingError(
            f"evaluation after epoch {state.epochs_done + 1}: the GPU's memory is full; take a smaller "
            f"train.eval_batch_size (now {settings.eval_batch_size}) and go on with --resume auto"
        ) from error


def _keep_result(state: TrainingState, evaluation: Evaluation, loop: Loop) -> None:
    loop.log.write(state.result)
    save_metrics_table(loop.out / LOG_FILE, loop.out / METRICS_TABLE)
    save_class_table(evaluation, loop.out / CLASS_TABLE)
    if loop.settings.eval_every and state.result["metrics"]["AP"] > state.best:
        state.best = state.result["metrics"]["AP"]
        save_weights(state.shown, loop.out, BEST_FILE)
