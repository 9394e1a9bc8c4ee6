"""Modules with every number drawn, so that nothing hides behind a zero at the start."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def randomised(module: M, seed: int = 0) -> M:
    """The module with all weights, scales and statistics drawn anew, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator) * 0.5
            tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module.eval()


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """The state of a module as float64 arrays by name."""
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def random_map(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_norm(
    value: np.ndarray, weights: dict[str, np.ndarray], name: str, channel: int, eps: float
) -> float:
    """Batch normalisation of one number in evaluation mode."""
    mean, variance = weights[f"{name}.running_mean"][channel], weights[f"{name}.running_var"][channel]
    scaled = (value - mean) / np.sqrt(variance + eps)
    return float(scaled * weights[f"{name}.weight"][channel] + weights[f"{name}.bias"][channel])


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
