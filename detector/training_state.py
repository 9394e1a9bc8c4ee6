"""All that changes while a detector trains, and its file: what a stopped run goes on from, to the same bits.

state.pt is written by torch and read with `weights_only`: tensors, numbers and text, and nothing that runs.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detector.errors import InputError
from detector.files import atomic_path
from detector.processes import Processes
from detector.weight_average import WeightAverage

STATE_FILE = "state.pt"
_FORMAT = 2
_PLACE = ("step", "epochs_done", "seconds", "best", "result", "ratios")


@dataclass(eq=False)
class TrainingState:
    """Weights, optimiser, schedule and where the run stands, always between two steps.

    Attributes:
        model: what trains.
        optimizer: its optimiser.
        schedule: stepped once a step.
        scaler: of the loss; does nothing but in fp16.
        epochs: of the whole run.
        steps_per_epoch: in each.
        average: moving average of the weights; None without one.
        step: steps done.
        epochs_done: epochs done, their evaluation included.
        seconds: time spent before this process.
        best: AP of the best evaluation so far, -1 before the first.
        result: the last evaluation.
        ratios: what the heads said in this epoch so far (see `readings.add_ratios`).
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    epochs: int
    steps_per_epoch: int
    average: WeightAverage | None = None
    step: int = 0
    epochs_done: int = 0
    seconds: float = 0.0
    best: float = -1.0
    result: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, list[float]] = field(default_factory=dict)

    @property
    def shown(self) -> nn.Module:
        """The model to evaluate and to keep: the average where there is one."""
        return self.average.model if self.average else self.model


def save_state(state: TrainingState, folder: Path, inputs: str, processes: Processes) -> None:
    """Write state.pt, atomically. Every process calls this; the first one writes.

    Args:
        state: what to write, with the state of every generator of random numbers.
        folder: the run.
        inputs: identity of data and graph, which must be the same when the run goes on.
        processes: those that train together.
    """
    random_states = processes.gather(_random_state())
    if not processes.first:
        return
    document = {
        "format": _FORMAT,
        "inputs": inputs,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": _plain(state.schedule.state_dict()),
        "scaler": state.scaler.state_dict(),
        "average": state.average
        and {"model": state.average.model.state_dict(), "steps": state.average.steps},
        **{name: getattr(state, name) for name in _PLACE},
        "random": random_states,
    }
    with atomic_path(folder / STATE_FILE) as part:
        torch.save(document, part)


def load_state(state: TrainingState, folder: Path, inputs: str, processes: Processes) -> None:
    """Bring a stopped run back into objects built from the same configuration.

    Args:
        state: changed in place.
        folder: the run.
        inputs: as for `save_state`.
        processes: those that train together; as many as before, for the same bits.

    Raises:
        InputError: state.pt is broken or of another version, or data or graph have changed.
    """
    path = folder / STATE_FILE
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        found = (document["format"], document["inputs"])
    except Exception as error:  # whatever torch meets in a file that is not its own
        raise _unreadable(path, error) from error
    if found[0] != _FORMAT:
        raise InputError(
            f"{path}: found format {found[0]}; expected {_FORMAT}; train with the version that wrote it, or "
            "start anew with --overwrite"
        )
    if found[1] != inputs:
        raise InputError(
            f"{path}: was written for other data or another graph; expected the same --data and --graph; "
            "give them, or start anew with --overwrite"
        )
    try:
        _set(state, document)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # of another version of the code
        raise _unreadable(path, error) from error
    if len(document["random"]) == processes.count:
        _set_random_state(document["random"][processes.rank])


def _set(state: TrainingState, document: dict[str, Any]) -> None:
    state.model.load_state_dict(document["model"])
    state.optimizer.load_state_dict(document["optimizer"])
    state.schedule.load_state_dict(document["schedule"])
    state.scaler.load_state_dict(document["scaler"])
    if state.average:
        state.average.model.load_state_dict(document["average"]["model"])
        state.average.steps = document["average"]["steps"]
    for name in _PLACE:
        setattr(state, name, document[name])


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0].partition(". ")[0]  # after that torch advises to unpickle it
    return InputError(
        f"{path}: cannot be read: {reason}; expected the state of a stopped run; start anew with --overwrite"
    )


def _plain(schedule: dict[str, Any]) -> dict[str, Any]:
    """A schedule's state without functions, which are made again from the configuration."""
    return {name: value for name, value in schedule.items() if not callable(value)}


def _random_state() -> dict[str, Any]:
    name, keys, *place = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *place],
    }


def _set_random_state(found: dict[str, Any]) -> None:
    torch.set_rng_state(found["torch"])
    if len(found["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(found["cuda"])
    version, internal, gauss = found["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *place = found["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *place))
