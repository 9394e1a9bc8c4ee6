"""What the steps of a training say: read from the device, checked, and written to the log.

A program that reads a number from a GPU waits until the GPU has come so far, and then the GPU waits for the
program. So the numbers of several steps are read together. Each has its line in the log all the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.errors import TrainingError
from detector.processes import Processes
from detector.training_log import TrainingLog

#: Steps whose numbers are read together, by type of device; a CPU does not run ahead, so nothing waits.
STEPS_PER_READING = {"cpu": 1, "cuda": 10}

#: Below this ratio of spreads what a reasoning head adds is noise to the layers that read it.
COLLAPSED_SD_RATIO = 1e-3


@dataclass(frozen=True, eq=False)
class StepNumbers:
    """What one step says. Tensors are scalars that need not be computed yet.

    Attributes:
        step: number of steps done.
        lr: learning rate of this step.
        images: names of the files that it saw; empty where they are not known.
        losses: by name; their sum is what was minimised.
        norm: of the gradient, before it was clipped; empty where it may be infinite (fp16), else of one item.
        diagnostics: what the heads say about it.
    """

    step: int
    lr: float
    images: Sequence[str]
    losses: Mapping[str, Tensor]
    norm: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor]


class Readings:
    """Keeps the numbers of steps until they are read.

    Args:
        log: gets a line a step.
        processes: those that train together; losses are means over them.
        device: where the numbers are.
    """

    def __init__(self, log: TrainingLog, processes: Processes, device: torch.device) -> None:
        self._log = log
        self._processes = processes
        self._every = STEPS_PER_READING[device.type]
        self._waiting: list[tuple[StepNumbers, float]] = []

    @property
    def due(self) -> bool:
        """Whether enough steps wait to be read."""
        return self.waiting >= self._every

    @property
    def waiting(self) -> int:
        """How many steps wait to be read."""
        return len(self._waiting)

    def add(self, numbers: StepNumbers) -> None:
        """Take in a step, without a look at its numbers."""
        self._waiting.append((numbers, self._log.seconds))

    def read(self) -> list[dict[str, float]]:
        """Check and log the steps that were not read yet; all processes do so after the same step.

        Returns:
            the diagnostics of each.

        Raises:
            TrainingError: a number is not finite; the message names it, the step and its images.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        losses = torch.stack([loss.float() for one, _ in waiting for loss in one.losses.values()])
        others = [value for one, _ in waiting for value in (*one.norm.values(), *one.diagnostics.values())]
        mean = self._processes.mean(losses)
        values = iter(torch.cat([mean, *(value.float().reshape(1) for value in others)]).tolist())
        losses_by_step = [{name: next(values) for name in one.losses} for one, _ in waiting]
        found = []
        for (one, seconds), losses_read in zip(waiting, losses_by_step, strict=True):
            norm = {name: next(values) for name in one.norm}
            found.append({name: next(values) for name in one.diagnostics})
            check_finite({**losses_read, **norm}, one.step, one.images)
            self._log.step(one.step, one.lr, losses_read, found[-1], seconds)
        return found


def check_finite(numbers: Mapping[str, float], step: int, images: Sequence[str]) -> None:
    """Stop at the first number that is not finite.

    Raises:
        TrainingError: names the number, the step and the images of the batch, where they are known.
    """
    shown = f"; images of this step: {', '.join(images)}" if images else ""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"step {step}: {name} is {value}{shown}; "
                "try a lower train.lr, more train.warmup_iterations, or train.clip_norm"
            )


def add_ratios(ratios: dict[str, list[float]], diagnostics: Mapping[str, float]) -> None:
    """Add a step to the ratios of spreads of an epoch: for each name their sum and their number."""
    for name, value in diagnostics.items():
        if name.endswith("context_sd_ratio"):
            total, count = ratios.get(name, (0.0, 0))
            ratios[name] = [total + value, count + 1]


def warn_of_collapse(ratios: Mapping[str, Sequence[float]], log: TrainingLog) -> None:
    """Say so, once a run, when what a reasoning head adds was too small to be read during an epoch.

    Args:
        ratios: of a whole epoch, see `add_ratios`; the mean counts, single steps vary widely.
        log: where to say it.
    """
    for name, (total, count) in ratios.items():
        if total / count < COLLAPSED_SD_RATIO:
            log.warn(
                f"{name} was below {COLLAPSED_SD_RATIO} in an epoch: what the reasoning head adds is too "
                "small to be used; start from a trained baseline (--init), or take its working form"
            )
