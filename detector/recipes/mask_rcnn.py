"""Recipes of Mask R-CNN, plain and with Reasoning-RCNN's stage, for data with a segmentation for each box."""

from dataclasses import replace

from detector.config import Config, MaskConfig
from detector.reasoning.glore import PLACES_101, GloReConfig
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes.faster_rcnn import faster_rcnn_r101_fpn
from detector.recipes.reasoning_rcnn import reasoning_rcnn_r101_fpn
from detector.recipes.sizes import (
    full_size,
    plain_stage,
    renamed,
    small_size,
    two_stages,
    with_backbone,
    with_blocks,
)
from detector.recipes.vcrnet import (
    vcrnet_pixel_rx50_fpn_coco,
    vcrnet_rx50_fpn_coco,
    vcrnet_rx101_fpn_coco,
)


def mask_rcnn_r50_fpn_coco() -> Config:
    """Mask R-CNN, ResNet-50-FPN from ImageNet, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe mask_rcnn_r50_fpn_coco --out runs/mask_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO val2017 about 38 box AP and 34.5 mask AP, as other implementations of this schedule report.
    Table: none of the seed papers, whose backbones are others.
    """
    return _with_masks("mask_rcnn_r50_fpn_coco", full_size("", "resnet50", stages=plain_stage(1024)))


def mask_rcnn_r101_fpn_coco() -> Config:
    """Mask R-CNN, ResNet-101-FPN from ImageNet, 800 px, 12 epochs: the baseline of the next.

    Command: detector train --data COCO --eval-split val --recipe mask_rcnn_r101_fpn_coco --out runs/mask_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 39.4 box AP (the paper's number).
    Table: 2 of the Reasoning-RCNN paper, "Mask-RCNN w FPN".
    """
    return _with_masks("mask_rcnn_r101_fpn_coco", faster_rcnn_r101_fpn())


def reasoning_mask_rcnn_r101_fpn_coco() -> Config:
    """Reasoning-RCNN as printed with a mask branch, ResNet-101-FPN, 800 px: 16 epochs after the baseline's.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/mask_r101
        --recipe reasoning_mask_rcnn_r101_fpn_coco --out runs/reasoning_mask_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 43.2 box AP (the paper's number); of masks it gives none.
    Table: 2 of the paper, Reasoning-RCNN with Mask R-CNN. Masks are pooled from the plain feature maps, on
        the boxes of the reasoning stage; the paper does not say where its masks come from.
    """
    return _with_masks("reasoning_mask_rcnn_r101_fpn_coco", reasoning_rcnn_r101_fpn())


def mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-50-FPN, 800 px, 12 epochs, batch statistics that train: the baseline of VCRNet.

    Command: detector train --data COCO --eval-split val --recipe mask_rcnn_rx50_fpn_coco --out runs/mask_rx50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 40.70 box AP, 36.75 mask AP (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50". Statistics are those of the GPUs together, as in the paper.
    """
    return _with_masks("mask_rcnn_rx50_fpn_coco", with_blocks(vcrnet_rx50_fpn_coco()))


def glore_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-50-FPN with five GloRe units, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe glore_mask_rcnn_rx50_fpn_coco
        --out runs/glore_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 42.31 box AP, 37.83 mask AP (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + GloRe"; units and weights as in glore_r50_fpn_coco.
    """
    config = with_blocks(mask_rcnn_rx50_fpn_coco(), GloReConfig())
    return replace(config, recipe="glore_mask_rcnn_rx50_fpn_coco")


def vcrnet_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, VCRNet on ResNeXt-50-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_mask_rcnn_rx50_fpn_coco
        --out runs/vcrnet_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 41.81 box AP, 37.71 mask AP (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + VCR"; blocks and weights as in vcrnet_rx50_fpn_coco.
    """
    return _with_masks("vcrnet_mask_rcnn_rx50_fpn_coco", vcrnet_rx50_fpn_coco())


def vcrnet_pixel_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, VCRNet at pixel level on ResNeXt-50-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_pixel_mask_rcnn_rx50_fpn_coco
        --out runs/vcrnet_pixel_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 42.02 box AP, 37.75 mask AP, 44.18 M parameters (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + VCR, pixel-level"; weights as in vcrnet_pixel_rx50_fpn_coco.
    """
    return _with_masks("vcrnet_pixel_mask_rcnn_rx50_fpn_coco", vcrnet_pixel_rx50_fpn_coco())


def mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-101-FPN, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/resnext101/model.safetensors --out runs/mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 19.82 % ImageNet top-1 error (the VCRNet paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101", is its backbone; the paper detects with ResNeXt-50 alone.
        torchvision has no weights of ResNeXt-101 32x4d: the file is a must.
    """
    return renamed("mask_rcnn_rx101_fpn_coco", with_backbone(mask_rcnn_rx50_fpn_coco(), "resnext101_32x4d"))


def glore_mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-101-FPN with five GloRe units, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe glore_mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/glore_resnext101/model.safetensors --out runs/glore_mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 19.56 % ImageNet top-1 error (the VCRNet paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + GloRe", is its backbone.
    """
    config = renamed("glore_mask_rcnn_rx101_fpn_coco", mask_rcnn_rx101_fpn_coco())
    return with_blocks(config, GloReConfig(at=PLACES_101))


def vcrnet_mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, VCRNet on ResNeXt-101-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/vcrnet_resnext101/model.safetensors --out runs/vcrnet_mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 18.84 % ImageNet top-1 error (the paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + VCR", is its backbone.
    """
    return _with_masks("vcrnet_mask_rcnn_rx101_fpn_coco", vcrnet_rx101_fpn_coco())


def mask_rcnn_r18_small() -> Config:
    """Mask R-CNN, ResNet-18-FPN from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --recipe mask_rcnn_r18_small --max-images 6 --out runs/overfit_mask
    Machine: one CPU core, about six minutes.
    Expected: 83.3 box AP, 51.8 mask AP on six COCO images that it has seen (seed 0).
    Table: none.
    """
    return _with_masks("mask_rcnn_r18_small", small_size("", plain_stage(256)), MaskConfig(channels=64))


def reasoning_mask_rcnn_r18_small() -> Config:
    """Reasoning-RCNN, working form, with a mask branch, ResNet-18-FPN from scratch, 224 px.

    Command: detector train --data DATA --graph relation.npz --recipe reasoning_mask_rcnn_r18_small
        --max-images 6 --out runs/overfit_reasoning_mask
    Machine: one CPU core, about seven minutes.
    Expected: not run by us yet; as mask_rcnn_r18_small.
    Table: none.
    """
    stages = two_stages(256, ReasoningConfig(form="working", width=64, squeeze=64))
    return _with_masks("reasoning_mask_rcnn_r18_small", small_size("", stages), MaskConfig(channels=64))


def _with_masks(name: str, config: Config, mask: MaskConfig | None = None) -> Config:
    """The same run with a mask branch, by default of the paper's size."""
    return replace(config, recipe=name, model=replace(config.model, mask=mask or MaskConfig()))


#: What `detector.recipes` lists of this file.
RECIPES = (
    mask_rcnn_r50_fpn_coco,
    mask_rcnn_r101_fpn_coco,
    reasoning_mask_rcnn_r101_fpn_coco,
    mask_rcnn_rx50_fpn_coco,
    glore_mask_rcnn_rx50_fpn_coco,
    vcrnet_mask_rcnn_rx50_fpn_coco,
    vcrnet_pixel_mask_rcnn_rx50_fpn_coco,
    mask_rcnn_rx101_fpn_coco,
    glore_mask_rcnn_rx101_fpn_coco,
    vcrnet_mask_rcnn_rx101_fpn_coco,
    mask_rcnn_r18_small,
    reasoning_mask_rcnn_r18_small,
)
