"""One function a run: it returns the whole configuration and names its parts directly.

With `backbone_recipes` this is the only module that names anything in `detector.reasoning`. A published
recipe is not edited: a changed run is a new function that calls the old.
"""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from detector.config import BackboneConfig, Config, ModelConfig, ProposalConfig, StageConfig, TrainConfig
from detector.errors import ConfigError
from detector.interfaces import BlockConfig, HeadConfig, TwoLinearConfig
from detector.reasoning.glore import GloReConfig
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.reasoning.vcrnet import VCRConfig


def faster_rcnn_r50_fpn() -> Config:
    """Faster R-CNN, ResNet-50-FPN from ImageNet, 800 px, 12 epochs: the field's common baseline.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r50_fpn --out runs/frcnn_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO val2017 about 37 AP, as other implementations of this schedule report.
    Table: none of the Reasoning-RCNN paper, whose backbone is ResNet-101.
    """
    return _full_size("faster_rcnn_r50_fpn", "resnet50", stages=_plain_stage(1024))


def faster_rcnn_r101_fpn() -> Config:
    """Faster R-CNN, ResNet-101-FPN from ImageNet, 800 px, 12 epochs: the baseline of Reasoning-RCNN.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r101_fpn --out runs/frcnn_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 37.3 AP; VG1000 7.1; VG3000 3.7; ADE 11.3 (the paper's own runs).
    Table: 1 and 2 of the Reasoning-RCNN paper, "Faster-RCNN w FPN". The paper goes on to 32 epochs and says
        that nothing is gained after 12. It adds multi-scale training, which this recipe does not have.
    """
    return _full_size("faster_rcnn_r101_fpn", "resnet101", stages=_plain_stage(1024))


def reasoning_rcnn_r101_fpn() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-FPN, 800 px: 16 epochs after the 12 of the baseline.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn --out runs/reasoning_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 42.9 AP; VG1000 8.2; VG3000 4.3; ADE 15.5 (the paper's own runs, relation graph).
    Table: 1 and 2 of the paper, "Reasoning-RCNN_R w FPN". Without --init it starts from ImageNet. The paper
        prints a decay of 0.01 after epochs 8 and 11; 0.1 here, as in the official code. The printed equation
        can collapse (see the form "working" in reasoning/reasoning_rcnn.py); the log warns when it does.
    """
    config = _full_size(
        "reasoning_rcnn_r101_fpn", "resnet101", stages=_reasoning_stages(1024, ReasoningConfig())
    )
    return replace(config, train=replace(config.train, epochs=16))


def reasoning_rcnn_r50_fpn() -> Config:
    """Reasoning-RCNN as printed, ResNet-50-FPN, 800 px: the paper's schedule on the smaller backbone.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r50
        --recipe reasoning_rcnn_r50_fpn --out runs/reasoning_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper has no ResNet-50.
    Table: none.
    """
    config = reasoning_rcnn_r101_fpn()
    return _renamed("reasoning_rcnn_r50_fpn", _with_backbone(config, "resnet50"))


def reasoning_rcnn_r50_fpn_working() -> Config:
    """Reasoning-RCNN in the form that trains, ResNet-50-FPN, 800 px: what we recommend at full size.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r50
        --recipe reasoning_rcnn_r50_fpn_working --out runs/reasoning_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown.
    Table: none; what departs from the paper is listed in reasoning/reasoning_rcnn.py.
    """
    config = reasoning_rcnn_r50_fpn()
    stages = _reasoning_stages(1024, ReasoningConfig(form="working"))
    return _renamed("reasoning_rcnn_r50_fpn_working", _with_stages(config, stages))


def faster_rcnn_sample() -> Config:
    """Faster R-CNN with a tiny backbone for the 128 px images of the sample world: the baseline of the demo.

    Command: detector train --data data/sample --recipe faster_rcnn_sample --out runs/sample_base
    Machine: one CPU core, about one minute.
    Expected: 51 to 54 AP, 71 AP50 on the test images (docs/log.md). Another 30 epochs add nothing.
    Table: none.
    """
    return _sample("faster_rcnn_sample", _plain_stage(128))


def reasoning_rcnn_sample() -> Config:
    """Reasoning-RCNN, working form, with a tiny backbone for the 128 px images of the sample world: the demo.

    Command: detector train --data data/sample --graph relation.npz --recipe reasoning_rcnn_sample
        --init runs/sample_base --out runs/sample
    Machine: one CPU core, about a minute and a half.
    Expected: after the baseline's 30 epochs, as the paper trains, 64 to 69 AP, 82 to 86 AP50 on the test
        images (docs/log.md). Without --init 54 AP: the attention then sits on one class early. What helps in
        this world is the attention (off: 55 AP) more than the graph (identity: 67 AP).
    Table: none.
    """
    head = ReasoningConfig(form="working", width=64, squeeze=64)
    return _sample("reasoning_rcnn_sample", _reasoning_stages(128, head))


def faster_rcnn_r18_small() -> Config:
    """Faster R-CNN, ResNet-18-FPN from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --recipe faster_rcnn_r18_small --max-images 6 --out runs/overfit_plain
    Machine: one CPU core, about four minutes.
    Expected: AP50 well above 0.5 on the images it has seen.
    Table: none.
    """
    return _small("faster_rcnn_r18_small", _plain_stage(256))


def reasoning_rcnn_r18_small() -> Config:
    """Reasoning-RCNN, working form, ResNet-18-FPN from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --graph relation.npz --recipe reasoning_rcnn_r18_small --max-images 6
        --out runs/overfit
    Machine: one CPU core, about five minutes.
    Expected: 78.7 AP, 96.9 AP50 on six COCO images that it has seen (seed 0).
    Table: none.
    """
    head = ReasoningConfig(form="working", width=64, squeeze=64)
    return _small("reasoning_rcnn_r18_small", _reasoning_stages(256, head))


def glore_r50_fpn_coco() -> Config:
    """Faster R-CNN, ResNet-50-FPN with five GloRe units, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe glore_r50_fpn_coco --out runs/glore_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: above the 37 AP of faster_rcnn_r50_fpn. The one published comparison is Mask R-CNN with
        ResNeXt-50: 42.31 box AP with GloRe, 40.70 without.
    Table: none; 2 of the VCRNet paper is nearest. Units start as the identity on ImageNet weights of the
        plain network; weights with trained units come from `detector pretrain --backbone glore_resnet50`,
        then --set model.backbone.weights=FILE.
    """
    config = _full_size("glore_r50_fpn_coco", "resnet50", stages=_plain_stage(1024))
    return _with_blocks(config, GloReConfig())


def vcrnet_rx50_fpn_coco() -> Config:
    """Faster R-CNN, VCRNet on ResNeXt-50-FPN, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_rx50_fpn_coco --out runs/vcrnet_rx50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; with a mask head 41.81 box AP, 42.02 at pixel level, 40.70 without VCR (the paper).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + VCR", without masks and without its ImageNet training of the
        blocks. They start as the plain network; weights with trained blocks come from
        `detector pretrain --backbone vcrnet_resnext50`, then --set model.backbone.weights=FILE. The paper's
        synchronised statistics are those of one GPU here.
    """
    config = _full_size("vcrnet_rx50_fpn_coco", "resnext50_32x4d", stages=_plain_stage(1024))
    backbone = replace(config.model.backbone, norm="batch")
    return _with_blocks(replace(config, model=replace(config.model, backbone=backbone)), VCRConfig())


def glore_sample() -> Config:
    """Faster R-CNN, tiny backbone with a GloRe unit after each stage, 128 px: beside faster_rcnn_sample.

    Command: detector train --data data/sample --recipe glore_sample --out runs/sample_glore
    Machine: one CPU core, a few minutes.
    Expected: see docs/log.md.
    Table: none.
    """
    return _with_blocks(_sample("glore_sample", _plain_stage(128)), GloReConfig(at=()))


def vcrnet_sample() -> Config:
    """Faster R-CNN, tiny backbone with VCR on 8 groups of channels, 128 px: beside faster_rcnn_sample.

    Command: detector train --data data/sample --recipe vcrnet_sample --out runs/sample_vcrnet
    Machine: one CPU core, a few minutes.
    Expected: see docs/log.md.
    Table: none. The tiny network's convolutions are not grouped: a concept is a group of channels only.
    """
    return _with_blocks(_sample("vcrnet_sample", _plain_stage(128)), VCRConfig(concepts=8))


#: The recipes by the names that people type.
RECIPES: dict[str, Callable[[], Config]] = {
    recipe.__name__: recipe
    for recipe in (
        faster_rcnn_r50_fpn,
        faster_rcnn_r101_fpn,
        reasoning_rcnn_r50_fpn,
        reasoning_rcnn_r101_fpn,
        reasoning_rcnn_r50_fpn_working,
        faster_rcnn_sample,
        reasoning_rcnn_sample,
        faster_rcnn_r18_small,
        reasoning_rcnn_r18_small,
        glore_r50_fpn_coco,
        vcrnet_rx50_fpn_coco,
        glore_sample,
        vcrnet_sample,
    )
}


def load_recipe(name: str) -> Config:
    """Return the configuration of a recipe.

    Raises:
        ConfigError: no recipe has this name; the message lists near ones.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`detector recipes` lists them"
        raise ConfigError(f"recipe {name}: not known; {hint}")
    return RECIPES[name]()


def _plain_stage(width: int) -> tuple[StageConfig, ...]:
    return (StageConfig(TwoLinearConfig(width)),)


def _reasoning_stages(width: int, head: HeadConfig) -> tuple[StageConfig, ...]:
    """A plain stage and a reasoning stage on its boxes; thresholds and weights of the official code."""
    second = StageConfig(head, foreground_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5)
    return (*_plain_stage(width), second)


def _full_size(name: str, backbone: str, stages: tuple[StageConfig, ...]) -> Config:
    """The setting of the paper: ImageNet weights, frozen norm and first layers, SGD, 16 images a step.

    The paper's rate is 0.02 and its "mini-batch size of 2" is for each GPU: 0.02 is customary for 8 of them.
    """
    model = ModelConfig(
        backbone=BackboneConfig(backbone, weights="imagenet", trainable_layers=3, norm="frozen"),
        stages=stages,
        proposals=ProposalConfig(pre_nms_test=2000, post_nms_test=2000, nms_iou_test=0.6),
    )
    return Config(name, model, TrainConfig(epochs=12, batch_size=16, lr=0.02, milestones=(8, 11), workers=8))


def _sample(name: str, stages: tuple[StageConfig, ...]) -> Config:
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


def _small(name: str, stages: tuple[StageConfig, ...]) -> Config:
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


def _renamed(name: str, config: Config) -> Config:
    return replace(config, recipe=name)


def _with_backbone(config: Config, name: str) -> Config:
    return replace(config, model=replace(config.model, backbone=replace(config.model.backbone, name=name)))


def _with_blocks(config: Config, *blocks: BlockConfig) -> Config:
    return replace(
        config, model=replace(config.model, backbone=replace(config.model.backbone, blocks=blocks))
    )


def _with_stages(config: Config, stages: tuple[StageConfig, ...]) -> Config:
    return replace(config, model=replace(config.model, stages=stages))
