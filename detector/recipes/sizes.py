"""The three settings that recipes share, and how one recipe is made from another.

"Full size" is the setting of the papers, "sample" that of the sample world's 128 px images, "small" a real
data set on a CPU.
"""

from dataclasses import replace

from detector.config import BackboneConfig, Config, ModelConfig, ProposalConfig, StageConfig, TrainConfig
from detector.interfaces import BlockConfig, HeadConfig, TwoLinearConfig


def full_size(name: str, backbone: str, stages: tuple[StageConfig, ...]) -> Config:
    """The setting of the paper: ImageNet weights, frozen norm and first layers, SGD, 16 images a step.

    The paper's rate is 0.02 and its "mini-batch size of 2" is for each GPU: 0.02 is customary for 8 of them.
    """
    model = ModelConfig(
        backbone=BackboneConfig(backbone, weights="imagenet", trainable_layers=3, norm="frozen"),
        stages=stages,
        proposals=ProposalConfig(pre_nms_test=2000, post_nms_test=2000, nms_iou_test=0.6),
    )
    return Config(name, model, TrainConfig(epochs=12, batch_size=16, lr=0.02, milestones=(8, 11), workers=8))


def c4_size(name: str, backbone: str, stages: tuple[StageConfig, ...]) -> Config:
    """Full size on one map of stride 16: 15 anchors at each cell, regions of 14 x 14 cells for layer4."""
    config = full_size(name, backbone, stages)
    proposals = ProposalConfig(
        anchor_sizes=((32, 64, 128, 256, 512),),
        pre_nms_train=12000,
        pre_nms_test=6000,
        post_nms_test=2000,
        nms_iou_test=0.6,
    )
    model = replace(
        config.model,
        backbone=replace(config.model.backbone, maps="c4"),
        proposals=proposals,
        roi_size=14,
    )
    return replace(config, model=model)


def sample_size(name: str, stages: tuple[StageConfig, ...]) -> Config:
    """Small enough for 13 ms of one CPU core a training image."""
    model = ModelConfig(
        backbone=BackboneConfig("tiny"),
        stages=stages,
        proposals=ProposalConfig(
            anchor_sizes=((10, 16, 26, 42),),
            aspect_ratios=(1.0,),
            post_nms_train=100,
            post_nms_test=60,
            pre_nms_train=600,
            pre_nms_test=300,
            batch_size_per_image=64,
        ),
        min_size=128,
        max_size=128,
        roi_size=5,
        roi_sampling_ratio=1,
        regions_per_image=48,
        positive_fraction=0.4,
    )
    return Config(name, model, _one_cycle(epochs=30, batch_size=8, lr=2e-3, flip=0.5))


def small_size(name: str, stages: tuple[StageConfig, ...]) -> Config:
    """ResNet-18 with group normalisation: a few images are too few for batch statistics."""
    model = ModelConfig(
        backbone=BackboneConfig("resnet18", norm="group"),
        stages=stages,
        proposals=ProposalConfig(
            anchor_sizes=((16,), (32,), (64,), (128,), (256,)),
            post_nms_train=300,
            post_nms_test=200,
            pre_nms_train=500,
            pre_nms_test=500,
            batch_size_per_image=128,
        ),
        min_size=224,
        max_size=373,
        regions_per_image=128,
    )
    return Config(name, model, _one_cycle(epochs=60, batch_size=2, lr=5e-4, flip=0.0))


def plain_stage(width: int) -> tuple[StageConfig, ...]:
    """The one stage of Faster R-CNN, its head `width` wide."""
    return (StageConfig(TwoLinearConfig(width)),)


def two_stages(width: int, head: HeadConfig) -> tuple[StageConfig, ...]:
    """A plain stage and one more on its boxes; thresholds and weights of the official codes of the papers."""
    second = StageConfig(head, foreground_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5)
    return (*plain_stage(width), second)


def kept_stages(width: int, head: HeadConfig) -> tuple[StageConfig, ...]:
    """A plain stage and one more on the same boxes with its features: threshold and deltas of the first."""
    return (*plain_stage(width), StageConfig(head, regions="kept", loss_weight=0.5))


def renamed(name: str, config: Config) -> Config:
    """The same run under another recipe's name."""
    return replace(config, recipe=name)


def with_backbone(config: Config, name: str) -> Config:
    """The same run on another network."""
    return replace(config, model=replace(config.model, backbone=replace(config.model.backbone, name=name)))


def with_blocks(config: Config, *blocks: BlockConfig) -> Config:
    """The same run with context blocks inside its backbone."""
    backbone = replace(config.model.backbone, blocks=blocks)
    return replace(config, model=replace(config.model, backbone=backbone))


def with_stages(config: Config, stages: tuple[StageConfig, ...]) -> Config:
    """The same run with other region stages."""
    return replace(config, model=replace(config.model, stages=stages))


def _one_cycle(*, epochs: int, batch_size: int, lr: float, flip: float) -> TrainConfig:
    """AdamW in one cycle, gradients clipped at norm 5: small detectors train from scratch in minutes."""
    return TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adamw",
        lr=lr,
        weight_decay=1e-2,
        schedule="onecycle",
        clip_norm=5.0,
        flip=flip,
    )
