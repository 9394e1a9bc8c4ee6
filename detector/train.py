"""Training: checks first, then the loop, then what the run leaves behind."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from detector.batch_search import check_alone, with_found_batch
from detector.card import TrainedOn
from detector.checkpoint import (
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
    RunClasses,
    load_config,
)
from detector.config import WITHOUT_EFFECT, Config
from detector.device import pick_device
from detector.environment import describe_environment
from detector.errors import ConfigError, OutputExistsError, TrainingError
from detector.files import check_folder_free, load_json
from detector.optimizer import peak_lr
from detector.overrides import flatten, override
from detector.preparation import (
    Inputs,
    build_from,
    check_graph_wanted,
    identity_of,
    load_inputs,
    seed_everything,
    start_state,
)
from detector.processes import Processes, join_processes
from detector.rcnn import RCNN
from detector.run_folder import finish_run_folder, start_run_folder
from detector.stopping import StopRequest
from detector.trackers import Tracker, check_trackers, start_trackers
from detector.training_log import TrainingLog
from detector.training_loop import Loop, fit, steps_in_epoch
from detector.training_state import STATE_FILE, TrainingState, load_state


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
    resume: bool = False,
    max_minutes: float | None = None,
    trackers: Sequence[str] = (),
    auto_batch: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a detector and evaluate it; `out` becomes a run folder.

    Whatever can be wrong with the inputs is found before the first step and before `out` is touched, but for
    what only decoding an image tells. Weights and state are saved after every epoch, and when a signal, the
    clock or (of one process) bad input stops the run: from there it goes on with the same bits as if it had
    not stopped.
    Several processes that torchrun or SLURM started share the work; the first one writes.

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
        resume: go on with the run in `out` if it was stopped; a finished one is left as it is.
        max_minutes: stop after the step in which so many minutes have passed.
        trackers: show the log in these too, by name (see `detector.trackers`).
        auto_batch: instead of `config.train.batch_size` take the largest batch that fits into memory (see
            `detector.batch_search`); of a run that goes on, the number that it was started with.
        quiet: nothing on stderr.

    Returns:
        what metrics.json holds: the split, its number of images, the twelve COCO numbers, the time; of a run
        that the clock stopped, `stopped_after_step`; nothing in other processes than the first.

    Raises:
        ConfigError: a graph is missing or useless, parts of the configuration do not fit, or several
            processes shall find their batch.
        InputError: the data is not what it should be.
        ClassMatchError: graph, data and evaluation data do not name the same classes.
        OutputExistsError: `out` is there and `overwrite` is false.
        TrainingError: a loss is not finite, or the GPU's memory is full.
        MissingResourceError: no such device, or a tracker is not installed.
    """
    check_graph_wanted(config, graphs)
    check_trackers(trackers)
    with join_processes(device) as processes:
        if auto_batch:
            check_alone(processes)
        if auto_batch and resume and (out / CONFIG_FILE).is_file():
            config = override(config, {"train.batch_size": load_config(out).train.batch_size})
            auto_batch = False
        if resume and (out / METRICS_FILE).is_file() and not (out / STATE_FILE).is_file():
            check_same_config(config, out)
            return load_json(out / METRICS_FILE) if processes.first else {}
        going_on = resume and (out / STATE_FILE).is_file()
        begun = resume and is_only_begun(out)
        if going_on or begun:
            check_same_config(config, out)
        if not going_on and processes.first:
            check_run_folder_free(out, overwrite=overwrite or begun)
        target_device = pick_device(device, processes.local_rank)
        inputs = load_inputs(config, data, graphs, (split, eval_split), max_images)
        config, found = with_found_batch(config, inputs, target_device) if auto_batch else (config, [])
        seed_everything(config.train.seed)
        model, messages = build_from(config, inputs, None if going_on else init)
        state = start_state(model.to(target_device), config, steps_in_epoch(config.train, inputs.annotations))
        identity = identity_of(inputs, init)
        if processes.rank:  # so that processes do not draw the same regions
            seed_everything(config.train.seed + processes.rank)
        if going_on:
            load_state(state, out, identity, processes)
            messages.append(f"goes on after step {state.step} of the run in {out}")
        classes, environment = _classes_of(inputs), describe_environment(target_device, processes.count)
        if processes.first:
            start_run_folder(out, config, classes, environment, state)
        started = start_trackers(trackers if processes.first else (), out, state.step, flatten(config))
        processes.gather(None)  # the others wait
        opening = _opening_messages(config, inputs, model, processes)
        with (
            denormals_as_zero(),
            StopRequest(max_minutes) as stop,
            _log(out, state, processes, started, quiet) as log,
        ):
            for text in [*opening, *found, *messages]:
                log.message(text)
            loop = Loop(
                config,
                inputs.annotations,
                inputs.evaluated,
                out,
                identity,
                target_device,
                processes,
                log,
                stop,
            )
            if not _fit(state, loop):
                log.message(f"stopped after step {state.step}; --resume auto goes on from there")
                stop.leave()
                return {"stopped_after_step": state.step} if processes.first else {}
        if not processes.first:
            return {}
        names = [graph.name for graph in graphs]
        trained_on = TrainedOn(inputs.annotations, names, init.resolve().name if init else "")
        finish_run_folder(out, config, classes, environment, trained_on, state.result)
        return state.result


def _log(
    out: Path, state: TrainingState, processes: Processes, trackers: Sequence[Tracker], quiet: bool
) -> TrainingLog:
    """The run's log; of other processes than the first, nothing."""
    first = processes.first
    return TrainingLog(
        out / LOG_FILE if first else Path(os.devnull),
        state.epochs,
        state.steps_per_epoch,
        quiet=quiet or not first,
        seconds=state.seconds,
        trackers=trackers,
    )


def _fit(state: TrainingState, loop: Loop) -> bool:
    """As `fit`, with a message that helps where the memory of a GPU is full."""
    try:
        return fit(state, loop)
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"step {state.step + 1}: the GPU's memory is full; take a smaller train.batch_size, a larger "
            "train.accumulate, a smaller model.min_size, or train.precision=bf16"
        ) from error


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


def check_same_config(config: Config, out: Path) -> None:
    """Check that a run goes on as it was started.

    Raises:
        ConfigError: a setting is another; the message names the first.
    """
    stored, wanted = load_config(out), flatten(config)
    if stored.recipe != config.recipe:
        raise ConfigError(f"{out}: is a run of recipe {stored.recipe}; found --recipe {config.recipe}")
    for key, value in flatten(stored).items():
        if wanted.get(key) != value and key not in WITHOUT_EFFECT:
            raise ConfigError(
                f"{out}: was started with {key}={value}; found {wanted.get(key)}; a run goes on with "
                "the same settings; give them, or start anew with --overwrite"
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


def _classes_of(inputs: Inputs) -> RunClasses:
    annotations = inputs.annotations
    return RunClasses(
        names=annotations.class_names,
        synsets=annotations.synsets,
        category_ids=tuple(annotations.category_ids.tolist()),
        graph_hashes=tuple(part.graph_hash for part in inputs.knowledge),
        train_images=tuple(annotations.images_per_class().tolist()),
    )


def is_only_begun(out: Path) -> bool:
    """Say whether a run was killed before it had kept anything to go on from."""
    kept = (STATE_FILE, WEIGHTS_FILE, METRICS_FILE)
    return (out / CONFIG_FILE).is_file() and not any((out / name).exists() for name in kept)


def _opening_messages(config: Config, inputs: Inputs, model: RCNN, processes: Processes) -> list[str]:
    annotations, evaluated = inputs.annotations, inputs.evaluated
    million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    device = next(model.parameters()).device
    left_out = ", ".join(f"{count} {reason}" for reason, count in annotations.skipped().items() if count)
    messages = [
        f"{config.recipe}: {million:.2f} M parameters on {device}, {annotations.num_classes} classes"
        + (f", {processes.count} processes" if processes.count > 1 else ""),
        f"training on {len(annotations.usable_images())} images of {annotations.path}"
        + (f"; left out: {left_out}" if left_out else ""),
        f"evaluating on {evaluated.num_images} images of {evaluated.path}",
    ]
    lr = peak_lr(config.train)
    if lr != config.train.lr:
        messages.append(
            f"lr {lr:.3g}: {config.train.lr:.3g} is for {config.train.reference_batch} images a step"
        )
    return messages
