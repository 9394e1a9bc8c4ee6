"""Recipes of Cascade R-CNN (Cai and Vasconcelos, CVPR 2018).

Three stages with heads of their own, foreground from IoU 0.5, 0.6 and 0.7, box deltas in ever smaller units,
losses weighted 1, 0.5 and 0.25; scores are the mean of the three classifiers on the boxes of the last stage.
Regions are sampled before the first stage only, and box deltas are the same for all classes.
"""

from dataclasses import replace

from detector.config import Config, StageConfig
from detector.interfaces import TwoLinearConfig
from detector.recipes.sizes import full_size, renamed, sample_size


def cascade_rcnn_r50_fpn_coco() -> Config:
    """Cascade R-CNN, ResNet-50-FPN from ImageNet, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe cascade_rcnn_r50_fpn_coco
        --out runs/cascade_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 40.3 AP (the paper's own run, a longer schedule).
    Table: the comparison of baselines in the Cascade R-CNN paper, FPN+ with ResNet-50.
    """
    return _cascade("cascade_rcnn_r50_fpn_coco", "resnet50")


def cascade_rcnn_r101_fpn_coco() -> Config:
    """Cascade R-CNN, ResNet-101-FPN from ImageNet, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe cascade_rcnn_r101_fpn_coco
        --out runs/cascade_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 42.8 AP (the paper's own run, a longer schedule).
    Table: the comparison of baselines in the Cascade R-CNN paper, FPN+ with ResNet-101.
    """
    return _cascade("cascade_rcnn_r101_fpn_coco", "resnet101")


def cascade_rcnn_r101_fpn_vg1000() -> Config:
    """Cascade R-CNN, ResNet-101-FPN, 800 px, 12 epochs: a rival of Reasoning-RCNN on Visual Genome.

    Command: detector train --data VG1000 --recipe cascade_rcnn_r101_fpn_vg1000 --out runs/cascade_vg1000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG1000 6.5 AP (the paper's own run), 91.2 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Cascade RCNN".
    """
    return renamed("cascade_rcnn_r101_fpn_vg1000", cascade_rcnn_r101_fpn_coco())


def cascade_rcnn_r101_fpn_vg3000() -> Config:
    """Cascade R-CNN, ResNet-101-FPN, 800 px, 12 epochs: a rival of Reasoning-RCNN on Visual Genome.

    Command: detector train --data VG3000 --recipe cascade_rcnn_r101_fpn_vg3000 --out runs/cascade_vg3000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG3000 3.8 AP (the paper's own run), 97.3 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Cascade RCNN".
    """
    return renamed("cascade_rcnn_r101_fpn_vg3000", cascade_rcnn_r101_fpn_coco())


def cascade_rcnn_r101_fpn_ade() -> Config:
    """Cascade R-CNN, ResNet-101-FPN, 800 px, 12 epochs: a rival of Reasoning-RCNN on ADE.

    Command: detector train --data ADE --recipe cascade_rcnn_r101_fpn_ade --out runs/cascade_ade
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: ADE 9.1 AP (the paper's own run), 89.5 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Cascade RCNN".
    """
    return renamed("cascade_rcnn_r101_fpn_ade", cascade_rcnn_r101_fpn_coco())


def cascade_sample() -> Config:
    """Cascade R-CNN with a tiny backbone for the 128 px images of the sample world.

    Command: detector train --data data/sample --recipe cascade_sample --out runs/sample_cascade
    Machine: one CPU core, about three minutes.
    Expected: 56 AP, 70 AP50 on the test images (docs/log.md), against 54 and 71 of faster_rcnn_sample.
    Table: none.
    """
    return _with_mean_scores(sample_size("cascade_sample", _stages(128)))


def _cascade(name: str, backbone: str) -> Config:
    return _with_mean_scores(full_size(name, backbone, _stages(1024)))


def _stages(width: int) -> tuple[StageConfig, ...]:
    """Thresholds, units and weights of the official code."""
    head = TwoLinearConfig(width)
    return (
        StageConfig(head),
        StageConfig(head, foreground_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),
        StageConfig(head, foreground_iou=0.7, box_std=(0.033, 0.033, 0.067, 0.067), loss_weight=0.25),
    )


def _with_mean_scores(config: Config) -> Config:
    return replace(config, model=replace(config.model, class_scores="mean_on_last_boxes"))


#: What `detector.recipes` lists of this file.
RECIPES = (
    cascade_rcnn_r50_fpn_coco,
    cascade_rcnn_r101_fpn_coco,
    cascade_rcnn_r101_fpn_vg1000,
    cascade_rcnn_r101_fpn_vg3000,
    cascade_rcnn_r101_fpn_ade,
    cascade_sample,
)
