"""Recipes of the plain rivals of GloRe and VCRNet: SE, CBAM, global context and non-local blocks.

Those of ResNeXt-50 are rows of table 2 of the VCRNet paper, which detects with ResNeXt-50 alone; of
ResNeXt-101 its table 1 has ImageNet errors, and no detector with it is published. torchvision has weights of
plain networks only: SE and CBAM, which do not start as the identity, need their own, from
`detector pretrain --backbone se_resnext50` (cbam_resnext50, se_resnext101 ...), then
--set model.backbone.weights=FILE. Of ResNeXt-101 32x4d it has none at all: there the file is a must.
"""

from detector.config import Config
from detector.context_blocks import (
    CBAMConfig,
    GlobalContextConfig,
    NonLocalConfig,
    SqueezeExcitationConfig,
)
from detector.interfaces import BlockConfig
from detector.recipes.mask_rcnn import (
    mask_rcnn_r50_fpn_coco,
    mask_rcnn_r101_fpn_coco,
    mask_rcnn_rx50_fpn_coco,
    mask_rcnn_rx101_fpn_coco,
)
from detector.recipes.sizes import plain_stage, renamed, sample_size, with_blocks


def se_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, SE-ResNeXt-50-FPN, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe se_mask_rcnn_rx50_fpn_coco
        --set model.backbone.weights=runs/se_resnext50/model.safetensors --out runs/se_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 41.04 box AP, 37.13 mask AP, 46.47 M parameters (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + SE".
    """
    return _rx50("se_mask_rcnn_rx50_fpn_coco", SqueezeExcitationConfig())


def cbam_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-50-FPN with CBAM, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe cbam_mask_rcnn_rx50_fpn_coco
        --set model.backbone.weights=runs/cbam_resnext50/model.safetensors --out runs/cbam_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 41.69 box AP, 37.48 mask AP, 46.47 M parameters (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + CBAM".
    """
    return _rx50("cbam_mask_rcnn_rx50_fpn_coco", CBAMConfig())


def gc_mask_rcnn_rx50_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-50-FPN with global context blocks, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe gc_mask_rcnn_rx50_fpn_coco
        --out runs/gc_mask
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 41.66 box AP, 37.58 mask AP, 46.48 M parameters (the paper's numbers).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + GC". The paper's blocks were trained on ImageNet; without
        --set model.backbone.weights=FILE they start as the identity on weights of the plain network.
    """
    return _rx50("gc_mask_rcnn_rx50_fpn_coco", GlobalContextConfig())


def se_mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, SE-ResNeXt-101-FPN, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe se_mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/se_resnext101/model.safetensors --out runs/se_mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 19.39 % ImageNet top-1 error (the paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + SE", is its backbone.
    """
    return _rx101("se_mask_rcnn_rx101_fpn_coco", SqueezeExcitationConfig())


def cbam_mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-101-FPN with CBAM, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe cbam_mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/cbam_resnext101/model.safetensors --out runs/cbam_mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 19.60 % ImageNet top-1 error (the paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + CBAM", is its backbone.
    """
    return _rx101("cbam_mask_rcnn_rx101_fpn_coco", CBAMConfig())


def gc_mask_rcnn_rx101_fpn_coco() -> Config:
    """Mask R-CNN, ResNeXt-101-FPN with global context blocks, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe gc_mask_rcnn_rx101_fpn_coco
        --set model.backbone.weights=runs/gc_resnext101/model.safetensors --out runs/gc_mask_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 19.52 % ImageNet top-1 error (the paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + GC", is its backbone.
    """
    return _rx101("gc_mask_rcnn_rx101_fpn_coco", GlobalContextConfig())


def non_local_mask_rcnn_r50_fpn_coco() -> Config:
    """Mask R-CNN, ResNet-50-FPN with one non-local block before the last block of res4, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe non_local_mask_rcnn_r50_fpn_coco
        --out runs/non_local_mask_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 39.0 box AP, 35.5 mask AP; 38.0 and 34.6 without the block (the paper's numbers).
    Table: 5 of the Non-local paper, "R50 +1 NL". Its schedule is not given there; this is the customary one.
    """
    return with_blocks(
        renamed("non_local_mask_rcnn_r50_fpn_coco", mask_rcnn_r50_fpn_coco()), NonLocalConfig()
    )


def non_local_mask_rcnn_r101_fpn_coco() -> Config:
    """Mask R-CNN, ResNet-101-FPN with one non-local block before the last block of res4, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe non_local_mask_rcnn_r101_fpn_coco
        --out runs/non_local_mask_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: 40.8 box AP, 37.1 mask AP; 39.5 and 36.0 without the block (the paper's numbers).
    Table: 5 of the Non-local paper, "R101 +1 NL". Its schedule is not given there; this is the customary one.
    """
    config = renamed("non_local_mask_rcnn_r101_fpn_coco", mask_rcnn_r101_fpn_coco())
    return with_blocks(config, NonLocalConfig(at=("layer3.21",)))


def se_sample() -> Config:
    """Faster R-CNN, tiny backbone with squeeze-and-excitation after each stage, 128 px.

    Command: detector train --data data/sample --recipe se_sample --out runs/sample_se
    Machine: one CPU core, a few minutes.
    Expected: 53.5 AP, mean of three seeds; faster_rcnn_sample has 53.1 (docs/log.md).
    Table: none.
    """
    return _sample("se_sample", SqueezeExcitationConfig(reduction=4))


def cbam_sample() -> Config:
    """Faster R-CNN, tiny backbone with CBAM after each stage, 128 px.

    Command: detector train --data data/sample --recipe cbam_sample --out runs/sample_cbam
    Machine: one CPU core, a few minutes.
    Expected: 52.8 AP, mean of three seeds; faster_rcnn_sample has 53.1 (docs/log.md).
    Table: none.
    """
    return _sample("cbam_sample", CBAMConfig(reduction=4))


def gc_sample() -> Config:
    """Faster R-CNN, tiny backbone with a global context block after each stage, 128 px.

    Command: detector train --data data/sample --recipe gc_sample --out runs/sample_gc
    Machine: one CPU core, a few minutes.
    Expected: 54.0 AP, mean of three seeds; faster_rcnn_sample has 53.1 (docs/log.md).
    Table: none.
    """
    return _sample("gc_sample", GlobalContextConfig(reduction=4))


def non_local_sample() -> Config:
    """Faster R-CNN, tiny backbone with one non-local block on its coarser map, 128 px.

    Command: detector train --data data/sample --recipe non_local_sample --out runs/sample_non_local
    Machine: one CPU core, a few minutes.
    Expected: 56.9 AP, mean of three seeds, 51.2 to 62.5; faster_rcnn_sample has 53.1
        (docs/log.md).
    Table: none. One block, as in the paper: on the finer map it would compare 1024 positions with 1024.
    """
    return _sample("non_local_sample", NonLocalConfig(at=("coarse",)))


def _sample(name: str, block: BlockConfig) -> Config:
    """The plain sample detector with a block; a reduction by 16 would leave 2 of its 32 channels."""
    return with_blocks(sample_size(name, plain_stage(128)), block)


def _rx50(name: str, block: BlockConfig) -> Config:
    """The baseline of VCRNet's table 2 with another block."""
    return with_blocks(renamed(name, mask_rcnn_rx50_fpn_coco()), block)


def _rx101(name: str, block: BlockConfig) -> Config:
    """The same on ResNeXt-101."""
    return with_blocks(renamed(name, mask_rcnn_rx101_fpn_coco()), block)


#: What `detector.recipes` lists of this file.
RECIPES = (
    se_mask_rcnn_rx50_fpn_coco,
    cbam_mask_rcnn_rx50_fpn_coco,
    gc_mask_rcnn_rx50_fpn_coco,
    se_mask_rcnn_rx101_fpn_coco,
    cbam_mask_rcnn_rx101_fpn_coco,
    gc_mask_rcnn_rx101_fpn_coco,
    non_local_mask_rcnn_r50_fpn_coco,
    non_local_mask_rcnn_r101_fpn_coco,
    se_sample,
    cbam_sample,
    gc_sample,
    non_local_sample,
)
