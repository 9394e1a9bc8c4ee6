"""The moving average of a model in training."""

import copy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a model's weights and batch statistics.

    The decay grows with the steps, min(decay, (1 + step) / (10 + step)), so that a short run is not an
    average of its start. VCRNet evaluates such an average with decay 0.9999.

    Args:
        model: where the average starts.
        decay: share of the average that stays at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    def update(self, model: nn.Module) -> None:
        """Take in the model after a step; counters are copied."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages, news = [], []
        for average, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                news.append(new)
            else:
                average.copy_(new)
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(averages, news, None)  # on a GPU a few kernels, not one a tensor
