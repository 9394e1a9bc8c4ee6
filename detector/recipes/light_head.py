"""Recipes of Light-head R-CNN (Li et al., 2017), the paper's large setting.

Departures: no hard example mining, box deltas are the same for all classes, sizes and schedule are those of
the other recipes.
"""

from dataclasses import replace

from detector.config import Config, StageConfig
from detector.heads import LightHeadConfig
from detector.recipes.sizes import c4_size, renamed, sample_size


def light_head_r101_coco() -> Config:
    """Light-head R-CNN, ResNet-101 with dilated conv5, 800 px, 12 epochs, on COCO.

    Command: detector train --data COCO --eval-split val --recipe light_head_r101_coco
        --out runs/light_head_coco
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 39.3 AP (the official repository, with hard example mining and a longer schedule).
    Table: the repository's, "Light-Head, ResNet-v1-101 + align pooling".
    """
    config = c4_size("light_head_r101_coco", "resnet101", (StageConfig(LightHeadConfig()),))
    return _pooling_for_itself(replace(config, model=replace(config.model, roi_size=7)))


def light_head_r101_vg1000() -> Config:
    """Light-head R-CNN, ResNet-101 with dilated conv5, 800 px, 12 epochs, on VG1000.

    Command: detector train --data VG1000 --recipe light_head_r101_vg1000 --out runs/light_head_vg1000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG1000 6.2 AP (the paper's own run), 74.5 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Light-head RCNN".
    """
    return renamed("light_head_r101_vg1000", light_head_r101_coco())


def light_head_r101_vg3000() -> Config:
    """Light-head R-CNN, ResNet-101 with dilated conv5, 800 px, 12 epochs, on VG3000.

    Command: detector train --data VG3000 --recipe light_head_r101_vg3000 --out runs/light_head_vg3000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG3000 3.0 AP (the paper's own run), 78.6 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Light-head RCNN".
    """
    return renamed("light_head_r101_vg3000", light_head_r101_coco())


def light_head_r101_ade() -> Config:
    """Light-head R-CNN, ResNet-101 with dilated conv5, 800 px, 12 epochs, on ADE.

    Command: detector train --data ADE --recipe light_head_r101_ade --out runs/light_head_ade
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: ADE 7.0 AP (the paper's own run), 72.4 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Light-head RCNN".
    """
    return renamed("light_head_r101_ade", light_head_r101_coco())


def light_head_sample() -> Config:
    """Light-head R-CNN with a tiny backbone for the 128 px images of the sample world.

    Command: detector train --data data/sample --recipe light_head_sample --out runs/sample_light_head
    Machine: one CPU core, a few minutes.
    Expected: 49 AP, 71 AP50 on the test images (docs/log.md).
    Table: none.
    """
    head = LightHeadConfig(middle=16, width=128, sampling_ratio=1)
    return _pooling_for_itself(sample_size("light_head_sample", (StageConfig(head),)))


def _pooling_for_itself(config: Config) -> Config:
    return replace(config, model=replace(config.model, roi_align=False))


#: What `detector.recipes` lists of this file.
RECIPES = (
    light_head_r101_coco,
    light_head_r101_vg1000,
    light_head_r101_vg3000,
    light_head_r101_ade,
    light_head_sample,
)
