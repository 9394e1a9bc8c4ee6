"""Training: checks first, then the loop, then what the run leaves behind."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detector.batch_search import check_alone, with_found_batch
from detector.card import TrainedOn
from detector.checkpoint import CONFIG_FILE, LOG_FILE, METRICS_FILE, RunClasses, load_config
from detector.config import Config
from detector.device import pick_device
from detector.environment import describe_environment
from detector.errors import DetectorError
from detector.execution import denormals_as_zero, deterministic_algorithms, seed_everything
from detector.files import load_json
from detector.optimizer import peak_lr
from detector.overrides import flatten, override
from detector.preparation import (
    Inputs,
    build_from,
    check_graph_wanted,
    classes_of,
    identity_of,
    load_inputs,
    start_state,
)
from detector.processes import Processes, join_processes
from detector.rcnn import RCNN
from detector.readings import Readings
from detector.run_folder import check_same_inputs, find_start, finish_run_folder, start_run_folder
from detector.stopping import StopRequest
from detector.trackers import Tracker, check_trackers, save_tracked_id, start_trackers
from detector.training_log import TrainingLog
from detector.training_loop import Loop, fit, steps_in_epoch
from detector.training_state import TrainingState, load_state


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
        InputError: the data is not what it should be, or not what the run to go on with learned from.
        ClassMatchError: graph, data and evaluation data do not name the same classes.
        OutputExistsError: `out` is there and `overwrite` is false.
        TrainingError: a loss is not finite, or the GPU's memory is full.
        MissingResourceError: no such device, or a tracker is not installed.
        DetectorError: a tracker does not start; a folder that was made for the run is gone again.
    """
    check_graph_wanted(config, graphs)
    check_trackers(trackers)
    with deterministic_algorithms(config.train.deterministic), join_processes(device) as processes:
        if auto_batch:
            check_alone(processes)
        if auto_batch and resume and (out / CONFIG_FILE).is_file():
            config = override(config, {"train.batch_size": load_config(out).train.batch_size})
            auto_batch = False
        start = find_start(config, out, resume=resume, overwrite=overwrite, writes=processes.first)
        inputs = load_inputs(config, data, graphs, (split, eval_split), max_images)
        identity = identity_of(inputs, init)
        classes = classes_of(inputs, identity)
        if start == "finished":
            check_same_inputs(classes, out)
            return load_json(out / METRICS_FILE) if processes.first else {}
        where = pick_device(device, processes.local_rank)
        config, found = with_found_batch(config, inputs, where) if auto_batch else (config, [])
        state, messages = _build(config, inputs, None if start == "state" else init, where, processes)
        if start == "state":
            load_state(state, out, identity, processes)
            messages.append(f"goes on after step {state.step} of the run in {out}")
        environment = describe_environment(where, processes.count)
        started = list[Tracker]()
        if processes.first:
            started = _begin(out, config, classes, environment, state, trackers)
        processes.gather(None)  # the others wait
        with (
            denormals_as_zero(),
            StopRequest(max_minutes) as stop,
            _log(out, state, processes, started, quiet) as log,
        ):
            for text in [*found, *messages]:
                log.message(text)
            readings = Readings(log, processes, where)
            loop = Loop(config, inputs, identity, out, where, processes, log, readings, stop)
            if not fit(state, loop):
                log.message(f"stopped after step {state.step}; --resume auto goes on from there")
                stop.leave()
                return {"stopped_after_step": state.step} if processes.first else {}
        if not processes.first:
            return {}
        names = [graph.name for graph in graphs]
        trained_on = TrainedOn(inputs.annotations, names, init.resolve().name if init else "")
        finish_run_folder(out, config, classes, environment, trained_on, state.result)
        return state.result


def _build(
    config: Config, inputs: Inputs, init: Path | None, device: torch.device, processes: Processes
) -> tuple[TrainingState, list[str]]:
    """Make what trains, before its first step, and say what there is to say about it."""
    seed = config.train.seed
    seed_everything(seed)
    model, messages = build_from(config, inputs, init)
    state = start_state(model.to(device), config, steps_in_epoch(config.train, inputs.annotations))
    if processes.rank:  # so that processes do not draw the same regions
        seed_everything(seed + processes.rank)
    return state, [*_opening_messages(config, inputs, model, processes), *messages]


def _begin(
    out: Path,
    config: Config,
    classes: RunClasses,
    environment: dict[str, Any],
    state: TrainingState,
    trackers: Sequence[str],
) -> list[Tracker]:
    """Make the folder the run's and start its trackers; where one does not start, all is as it was before."""
    fresh = not out.exists()
    if fresh:
        start_run_folder(out, config, classes, environment, state)
    try:
        started, tracked_id = start_trackers(trackers, out, state.step, flatten(config))
    except DetectorError:
        if fresh:  # so that the same command line may be given again
            shutil.rmtree(out)
        raise
    if not fresh:  # only now, as it clears a run that is there
        start_run_folder(out, config, classes, environment, state)
    if trackers:
        save_tracked_id(tracked_id, out)
    return started


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
