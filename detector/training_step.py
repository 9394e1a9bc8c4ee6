"""One step of a training: forward and backward over all parts of a batch, then the optimiser."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.config import TrainConfig
from detector.execution import autocast
from detector.readings import StepNumbers
from detector.training_state import TrainingState

Part = tuple[list[Tensor], list[dict[str, Tensor]]]


def take_step(
    net: nn.Module,
    state: TrainingState,
    sizes: Sequence[int],
    parts: Iterator[Part],
    settings: TrainConfig,
    file_names: np.ndarray,
) -> StepNumbers:
    """Take a step of the optimiser; nothing here waits for a GPU to have computed it.

    Args:
        net: the model of `state`, or what shares its gradients between processes.
        state: changed in place.
        sizes: how many images each part has.
        parts: images and targets of each; as many as `sizes`.
        settings: precision, limit of the gradient.
        file_names: (I,) str, of all images of the data set.

    Returns:
        what the step says, not yet computed where a GPU computes it.
    """
    losses, shown = _backward(net, state, sizes, parts, settings)
    state.scaler.unscale_(state.optimizer)
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm or math.inf)
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
    return StepNumbers(
        step=state.step,
        lr=lr,
        images=[str(file_names[image]) for image in shown],
        losses=losses,
        norm={} if state.scaler.is_enabled() else {"gradient norm": norm},
        diagnostics=state.model.diagnostics(),  # type: ignore[operator]
    )


def _backward(
    net: nn.Module, state: TrainingState, sizes: Sequence[int], parts: Iterator[Part], settings: TrainConfig
) -> tuple[dict[str, Tensor], list[int]]:
    """Add up the gradients of all parts; return the losses by name, and the positions of the images."""
    sums: dict[str, Tensor] = {}
    shown: list[int] = []
    device = next(state.model.parameters()).device
    for number, (images, targets) in enumerate(parts, start=1):
        share = len(images) / sum(sizes)
        alone = number < len(sizes) and isinstance(net, DistributedDataParallel)
        with net.no_sync() if alone else nullcontext():  # type: ignore[operator]
            with autocast(settings.precision, device):
                losses = net(images, targets)
            total = torch.stack([loss.float() for loss in losses.values()]).sum() * share
            state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach().float() * share
        shown += [int(target["image"]) for target in targets]
    return sums, shown
