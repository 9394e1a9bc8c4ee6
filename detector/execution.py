"""How a model computes: number format, memory order, seeds, and what a processor does with tiny numbers."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from detector.config import Precision, TrainConfig

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Mixed precision on a device; with "float32", nothing."""
    return torch.autocast(device.type, _HALF.get(precision), enabled=precision in _HALF)


def set_memory_order(model: nn.Module, settings: TrainConfig) -> None:
    """Bring the weights of convolutions into the configured memory order; what they compute stays."""
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)


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


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use only what gives the same bits every time inside the block, where that is wanted.

    On a CPU with the same number of threads that is so anyway. On a GPU an operation that has no such
    algorithm raises torch's RuntimeError. cuBLAS reads its variable when it starts: begin the block before.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
