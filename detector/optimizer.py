"""Optimiser and learning-rate schedule of a training configuration."""

import math
from bisect import bisect_right

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from detector.config import TrainConfig

#: Where linear warm-up starts, as a share of the learning rate.
WARMUP_START = 1e-3


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Make the optimiser of the parameters that train."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = parameters[0].is_cuda or None  # one kernel for all tensors; on a CPU torch chooses
    lr, decay = peak_lr(config), config.weight_decay
    if config.optimizer == "sgd":
        return SGD(parameters, lr=lr, momentum=config.momentum, weight_decay=decay, fused=fused)
    return AdamW(parameters, lr=lr, weight_decay=decay, fused=fused)


def peak_lr(config: TrainConfig) -> float:
    """The highest learning rate: in proportion to the images of a step, where the recipe says for how many.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.1.
    """
    return config.lr * (config.batch_size / config.reference_batch if config.reference_batch else 1)


def build_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    """Make the schedule; call `step()` on it after every step of the optimiser.

    "onecycle" is torch's OneCycleLR with its defaults, up to `config.lr` and down again over the whole run.
    """
    if config.schedule == "onecycle":
        return OneCycleLR(
            optimizer,
            max_lr=peak_lr(config),
            total_steps=config.epochs * steps_per_epoch,
            cycle_momentum=config.optimizer == "adamw" or config.momentum > 0,
        )
    return LambdaLR(optimizer, lambda step: lr_factor(step, steps_per_epoch, config))


def lr_factor(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the share of `peak_lr` at a step of any schedule but "onecycle", linear warm-up included."""
    factor = 1.0
    if config.schedule == "multistep":
        factor = 0.1 ** bisect_right(sorted(config.milestones), step // steps_per_epoch)
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch)))
    if step < config.warmup_iterations:
        factor *= WARMUP_START + (1 - WARMUP_START) * step / config.warmup_iterations
    return factor
