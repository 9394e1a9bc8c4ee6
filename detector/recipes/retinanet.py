"""Recipes of RetinaNet, alone and with Reasoning-RCNN's stage on it."""

from dataclasses import replace

from detector.config import BackboneConfig, Config, RetinaNetConfig, StageConfig
from detector.interfaces import HeadConfig, SharedHeadConfig
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes.sizes import full_size, sample_size, small_size


def retinanet_r50_fpn_coco() -> Config:
    """RetinaNet, ResNet-50-FPN (P3 to P7) from ImageNet, 800 px, 12 epochs: the one-stage baseline.

    Command: detector train --data COCO --eval-split val --recipe retinanet_r50_fpn_coco
        --out runs/retinanet_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO val2017 about 36 AP, as other implementations of this schedule report.
    Table: none of the seed papers; the table of Reasoning-RCNN cites 39.1 AP for ResNet-101-FPN.
    """
    config = full_size("retinanet_r50_fpn_coco", "resnet50", stages=())
    backbone = replace(config.model.backbone, maps="p3-p7")
    model = replace(config.model, backbone=backbone, proposals=RetinaNetConfig())
    return replace(config, model=model, train=replace(config.train, lr=0.01))


def reasoning_retinanet_r50_fpn_coco() -> Config:
    """Reasoning-RCNN's stage, working form, on RetinaNet: "any one/two-stage detector".

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/retinanet_r50
        --recipe reasoning_retinanet_r50_fpn_coco --out runs/reasoning_retinanet
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper has no such row.
    Table: none; how the stage gets its regions, logits and class weights is written in retinanet.py.
    """
    config = retinanet_r50_fpn_coco()
    stages = _stage_behind_dense_head(ReasoningConfig(form="working"))
    model = replace(config.model, stages=stages)
    return replace(config, recipe="reasoning_retinanet_r50_fpn_coco", model=model)


def retinanet_sample() -> Config:
    """RetinaNet, tiny backbone, for the 128 px images of the sample world: beside faster_rcnn_sample.

    Command: detector train --data data/sample --recipe retinanet_sample --out runs/sample_retinanet
    Machine: one CPU core, about two minutes.
    Expected: 38.4 AP, 50.1 AP50 on the test images (seed 0).
    Table: none.
    """
    config = sample_size("retinanet_sample", ())
    proposals = RetinaNetConfig(
        anchor_sizes=((10, 16, 26, 42),), aspect_ratios=(1.0,), post_nms_train=100, post_nms_test=60
    )
    return replace(config, model=replace(config.model, proposals=proposals))


def reasoning_retinanet_sample() -> Config:
    """Reasoning-RCNN's stage, working form, on retinanet_sample.

    Command: detector train --data data/sample --graph relation.npz --init runs/sample_retinanet
        --recipe reasoning_retinanet_sample --out runs/sample_reasoning_retinanet
    Machine: one CPU core, about four minutes.
    Expected: 69.7 AP, 88.9 AP50 on the test images (seed 0).
    Table: none.
    """
    config = retinanet_sample()
    stages = _stage_behind_dense_head(ReasoningConfig(form="working", width=64, squeeze=64))
    return replace(config, recipe="reasoning_retinanet_sample", model=replace(config.model, stages=stages))


def stacked_retinanet_sample() -> Config:
    """A plain stage on retinanet_sample: the fair control of reasoning_retinanet_sample.

    Command: detector train --data data/sample --init runs/sample_retinanet
        --recipe stacked_retinanet_sample --out runs/sample_stacked_retinanet
    Machine: one CPU core, about four minutes.
    Expected: 52.4 AP, 70.3 AP50 on the test images (seed 0).
    Table: none.
    """
    stages = _stage_behind_dense_head(SharedHeadConfig())
    model = replace(retinanet_sample().model, stages=stages)
    return replace(retinanet_sample(), recipe="stacked_retinanet_sample", model=model)


def retinanet_r18_small() -> Config:
    """RetinaNet, ResNet-18-FPN (P3 to P7) from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --recipe retinanet_r18_small --max-images 6 --out runs/overfit
    Machine: one CPU core, about five minutes.
    Expected: unknown; not run to its end by us yet.
    Table: none.
    """
    config = small_size("retinanet_r18_small", ())
    sizes = tuple((16 * 2**level, 20 * 2**level, 25 * 2**level) for level in range(5))
    backbone: BackboneConfig = replace(config.model.backbone, maps="p3-p7")
    proposals = RetinaNetConfig(anchor_sizes=sizes)
    return replace(config, model=replace(config.model, backbone=backbone, proposals=proposals))


def _stage_behind_dense_head(head: HeadConfig) -> tuple[StageConfig, ...]:
    """One stage with the threshold and weight of a second one: the dense head is the first."""
    return (StageConfig(head, foreground_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),)


#: What `detector.recipes` lists of this file.
RECIPES = (
    retinanet_r50_fpn_coco,
    reasoning_retinanet_r50_fpn_coco,
    retinanet_sample,
    reasoning_retinanet_sample,
    stacked_retinanet_sample,
    retinanet_r18_small,
)
