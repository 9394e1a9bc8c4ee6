"""Backbones by the names people type: the plain networks, and those of the papers about feature maps.

With `recipes/` the only part that names anything in `detector.reasoning`. ImageNet top-1 errors and
parameters are of VCRNet's table 1, all trained alike there.
"""

from difflib import get_close_matches

from detector.config import BackboneConfig
from detector.context_blocks import (
    CBAMConfig,
    GlobalContextConfig,
    NonLocalConfig,
    SqueezeExcitationConfig,
)
from detector.errors import ConfigError
from detector.reasoning.glore import PLACES_101, GloReConfig
from detector.reasoning.vcrnet import VCRConfig
from detector.resnet import RESNETS

RX50, RX101 = "resnext50_32x4d", "resnext101_32x4d"

BACKBONES: dict[str, BackboneConfig] = {
    **{name: BackboneConfig(name) for name in (*RESNETS, "tiny")},  # RX50 21.10 %, RX101 19.82 %
    "se_resnext50": BackboneConfig(RX50, blocks=(SqueezeExcitationConfig(),)),  # 20.79 %, 27.56 M
    "se_resnext101": BackboneConfig(RX101, blocks=(SqueezeExcitationConfig(),)),  # 19.39 %, 48.96 M
    "cbam_resnext50": BackboneConfig(RX50, blocks=(CBAMConfig(),)),  # 20.73 %, 27.56 M
    "cbam_resnext101": BackboneConfig(RX101, blocks=(CBAMConfig(),)),  # 19.60 %, 48.96 M
    "gc_resnext50": BackboneConfig(RX50, blocks=(GlobalContextConfig(),)),  # 20.44 %, 27.58 M
    "gc_resnext101": BackboneConfig(RX101, blocks=(GlobalContextConfig(),)),  # 19.52 %, 48.99 M
    "nonlocal_resnet50": BackboneConfig("resnet50", blocks=(NonLocalConfig(),)),
    "glore_resnet50": BackboneConfig("resnet50", blocks=(GloReConfig(),)),  # 21.8 % (GloRe's repository)
    "glore_resnext50": BackboneConfig(RX50, blocks=(GloReConfig(),)),  # 20.15 %, 30.79 M
    "glore_resnext101": BackboneConfig(RX101, blocks=(GloReConfig(at=PLACES_101),)),  # 19.56 %, 49.93 M
    "glore_tiny": BackboneConfig("tiny", blocks=(GloReConfig(at=()),)),
    "vcrnet_resnext50": BackboneConfig(RX50, blocks=(VCRConfig(),)),  # 19.97 %, 25.26 M
    "vcrnet_resnext50_pixel": BackboneConfig(RX50, blocks=(VCRConfig(level="pixel"),)),  # 19.94 %, 25.26 M
    "vcrnet_resnext101": BackboneConfig(RX101, blocks=(VCRConfig(),)),  # 18.84 %, 44.60 M
    "vcrnet_tiny": BackboneConfig("tiny", blocks=(VCRConfig(concepts=8),)),
}


def load_backbone(name: str) -> BackboneConfig:
    """Return the configuration of a backbone, without weights.

    Raises:
        ConfigError: no backbone has this name; the message lists near ones.
    """
    if name not in BACKBONES:
        near = get_close_matches(name, BACKBONES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(BACKBONES)}"
        raise ConfigError(f"backbone {name}: not known; {hint}")
    return BACKBONES[name]
