"""Recipes of Reasoning-RCNN on C4, where the plain head is the network's fourth layer."""

from dataclasses import replace

from detector.config import Config, StageConfig
from detector.heads import Conv5Config
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes.sizes import c4_size, renamed


def reasoning_rcnn_r101_c4_coco() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-C4, 800 px, on COCO: 16 epochs after the 12 of the baseline.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101_c4
        --recipe reasoning_rcnn_r101_c4_coco --out runs/reasoning_r101_c4_coco
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 40.5 AP (the paper's own run, relation graph).
    Table: 2 of the paper, "Reasoning-RCNN_R, ResNet-101"; with the attribute graph ("_A") 39.2.
    """
    second = StageConfig(
        ReasoningConfig(), foreground_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5
    )
    config = c4_size("reasoning_rcnn_r101_c4_coco", "resnet101", (StageConfig(Conv5Config()), second))
    return replace(config, train=replace(config.train, epochs=16))


def reasoning_rcnn_r101_c4_vg1000() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-C4, 800 px, on VG1000: 16 epochs after the 12 of the baseline.

    Command: detector train --data VG1000 --graph relation.npz --init runs/frcnn_r101_c4_vg1000
        --recipe reasoning_rcnn_r101_c4_vg1000 --out runs/reasoning_r101_c4_vg1000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG1000 8.1 AP (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R".
    """
    return renamed("reasoning_rcnn_r101_c4_vg1000", reasoning_rcnn_r101_c4_coco())


def reasoning_rcnn_r101_c4_vg3000() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-C4, 800 px, on VG3000: 16 epochs after the 12 of the baseline.

    Command: detector train --data VG3000 --graph relation.npz --init runs/frcnn_r101_c4_vg3000
        --recipe reasoning_rcnn_r101_c4_vg3000 --out runs/reasoning_r101_c4_vg3000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG3000 4.5 AP (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R".
    """
    return renamed("reasoning_rcnn_r101_c4_vg3000", reasoning_rcnn_r101_c4_coco())


def reasoning_rcnn_r101_c4_ade() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-C4, 800 px, on ADE: 16 epochs after the 12 of the baseline.

    Command: detector train --data ADE --graph relation.npz --init runs/frcnn_r101_c4_ade
        --recipe reasoning_rcnn_r101_c4_ade --out runs/reasoning_r101_c4_ade
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: ADE 11.5 AP (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R".
    """
    return renamed("reasoning_rcnn_r101_c4_ade", reasoning_rcnn_r101_c4_coco())


#: What `detector.recipes` lists of this file.
RECIPES = (
    reasoning_rcnn_r101_c4_coco,
    reasoning_rcnn_r101_c4_vg1000,
    reasoning_rcnn_r101_c4_vg3000,
    reasoning_rcnn_r101_c4_ade,
)
