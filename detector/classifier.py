"""A backbone that ends in class logits: what pre-training trains."""

from torch import Tensor, nn

from detector.backbone import NORMS, TinyBody
from detector.config import BackboneConfig
from detector.errors import ConfigError
from detector.resnet import build_resnet


class TinyClassifier(nn.Module):
    """The tiny backbone, the mean of its map, and a linear layer.

    Args:
        body: its tensors keep the names that they have in a detector's backbone.
        num_classes: C.
    """

    def __init__(self, body: TinyBody, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.fc = nn.Linear(body.out_channels, num_classes)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits_BC."""
        logits_BC: Tensor = self.fc(self.body(images_B3HW)["0"].mean(dim=(2, 3)))
        return logits_BC


def build_classifier(config: BackboneConfig, num_classes: int) -> nn.Module:
    """Make a backbone that ends in class logits, without weights; all of it trains.

    Raises:
        ConfigError: an unknown name, weights or frozen layers, or a context block that does not fit.
    """
    for name, expected in (("weights", "none"), ("trainable_layers", 5)):
        found = getattr(config, name)
        if found != expected:
            raise ConfigError(f"setting backbone.{name}: found {found}; pre-training has {expected} only")
    norm = NORMS[config.norm]
    if config.name == "tiny":
        return TinyClassifier(TinyBody(norm, config.blocks), num_classes)
    network: nn.Module = build_resnet(
        config.name, norm, config.blocks, deformable=config.deformable, num_classes=num_classes
    )
    return network
