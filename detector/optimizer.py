"""Optimiser and learning-rate schedule of a training configuration."""

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
    if config.optimizer == "sgd":
        return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


def build_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    """Make the schedule; call `step()` on it after every step of the optimiser.

    "onecycle" is torch's OneCycleLR with its defaults, up to `config.lr` and down again over the whole run.
    """
    if config.schedule == "onecycle":
        return OneCycleLR(
            optimizer,
            max_lr=config.lr,
            total_steps=config.epochs * steps_per_epoch,
            cycle_momentum=config.optimizer == "adamw" or config.momentum > 0,
        )
    return LambdaLR(optimizer, lambda step: lr_factor(step, steps_per_epoch, config))


def lr_factor(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return lr / config.lr at a step of the "multistep" or "constant" schedule, linear warm-up included."""
    factor = 1.0
    if config.schedule == "multistep":
        factor = 0.1 ** bisect_right(sorted(config.milestones), step // steps_per_epoch)
    if step < config.warmup_iterations:
        factor *= WARMUP_START + (1 - WARMUP_START) * step / config.warmup_iterations
    return factor
