"""Training of one part of a detector while the others stay as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detector.class_losses import EqualizationLossV2, SeesawLoss
from detector.errors import ConfigError


def freeze_others(model: nn.Module, part: str) -> None:
    """Take every weight out of training whose name does not start with `part`; "" leaves all as they are.

    Raises:
        ConfigError: no weight that trains has such a name.
    """
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    if not any(name.startswith(part) for name in names):
        parts = ", ".join(sorted({name.partition(".")[0] for name in names}))
        raise ConfigError(
            f"setting train.part: found {part}; expected the beginning of weights' names: {parts}"
        )
    for name, weight in model.named_parameters():
        if not name.startswith(part):
            weight.requires_grad_(False)


def set_training(model: nn.Module, part: str) -> None:
    """Switch to training, but for what batch norms and class losses outside of `part` count on the way."""
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm | SeesawLoss | EqualizationLossV2) and not name.startswith(part):
            module.eval()
