"""Recipes of GloRe."""

from detector.config import Config
from detector.reasoning.glore import PLACES_101, GloReConfig
from detector.recipes.sizes import full_size, plain_stage, sample_size, with_blocks


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
    config = full_size("glore_r50_fpn_coco", "resnet50", stages=plain_stage(1024))
    return with_blocks(config, GloReConfig())


def glore_r101_fpn_coco() -> Config:
    """Faster R-CNN, ResNet-101-FPN with five GloRe units, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe glore_r101_fpn_coco --out runs/glore_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the Reasoning-RCNN paper has 37.3 AP without units (faster_rcnn_r101_fpn).
    Table: none. Places are the published ones of ResNet-101; units start as in glore_r50_fpn_coco.
    """
    config = full_size("glore_r101_fpn_coco", "resnet101", stages=plain_stage(1024))
    return with_blocks(config, GloReConfig(at=PLACES_101))


def glore_sample() -> Config:
    """Faster R-CNN, tiny backbone with a GloRe unit after each stage, 128 px: beside faster_rcnn_sample.

    Command: detector train --data data/sample --recipe glore_sample --out runs/sample_glore
    Machine: one CPU core, a few minutes.
    Expected: 54.2 AP, mean of three seeds, beside 52.5 of faster_rcnn_sample (docs/log.md): no gain shown.
    Table: none.
    """
    return with_blocks(sample_size("glore_sample", plain_stage(128)), GloReConfig(at=()))


#: What `detector.recipes` lists of this file.
RECIPES = (
    glore_r50_fpn_coco,
    glore_r101_fpn_coco,
    glore_sample,
)
