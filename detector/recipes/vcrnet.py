"""Recipes of VCRNet."""

from dataclasses import replace

from detector.config import Config
from detector.reasoning.vcrnet import VCRConfig
from detector.recipes.sizes import full_size, plain_stage, renamed, sample_size, with_backbone, with_blocks


def vcrnet_rx50_fpn_coco() -> Config:
    """Faster R-CNN, VCRNet on ResNeXt-50-FPN, 800 px, 12 epochs, batch statistics that train.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_rx50_fpn_coco --out runs/vcrnet_rx50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; with a mask head 41.81 box AP, 42.02 at pixel level, 40.70 without VCR (the paper).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + VCR", without masks and without its ImageNet training of the
        blocks. They start as the plain network; weights with trained blocks come from
        `detector pretrain --backbone vcrnet_resnext50`, then --set model.backbone.weights=FILE. Statistics
        are those of the GPUs together, as in the paper.
    """
    config = full_size("vcrnet_rx50_fpn_coco", "resnext50_32x4d", stages=plain_stage(1024))
    model = replace(config.model, backbone=replace(config.model.backbone, norm="batch"))
    train = replace(config.train, sync_batch_norm=True)
    return with_blocks(replace(config, model=model, train=train), VCRConfig())


def vcrnet_pixel_rx50_fpn_coco() -> Config:
    """Faster R-CNN, VCRNet at pixel level on ResNeXt-50-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_pixel_rx50_fpn_coco
        --out runs/vcrnet_pixel
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; with a mask head 42.02 box AP, 41.81 at channel level (the paper).
    Table: 2 of the VCRNet paper, "ResNeXt-50 + VCR, pixel-level", without masks; weights as in
        vcrnet_rx50_fpn_coco, from `detector pretrain --backbone vcrnet_resnext50_pixel`.
    """
    config = renamed("vcrnet_pixel_rx50_fpn_coco", vcrnet_rx50_fpn_coco())
    return with_blocks(config, VCRConfig(level="pixel"))


def vcrnet_rx101_fpn_coco() -> Config:
    """Faster R-CNN, VCRNet on ResNeXt-101-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe vcrnet_rx101_fpn_coco
        --set model.backbone.weights=runs/vcrnet_resnext101/model.safetensors --out runs/vcrnet_rx101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the backbone alone has 18.84 % ImageNet top-1 error (the paper).
    Table: 1 of the VCRNet paper, "ResNeXt-101 + VCR", is its backbone; the paper detects with ResNeXt-50
        alone. torchvision has no weights of ResNeXt-101 32x4d: the file is a must.
    """
    return renamed("vcrnet_rx101_fpn_coco", with_backbone(vcrnet_rx50_fpn_coco(), "resnext101_32x4d"))


def vcrnet_sample() -> Config:
    """Faster R-CNN, tiny backbone with VCR on 8 groups of channels, 128 px: beside faster_rcnn_sample.

    Command: detector train --data data/sample --recipe vcrnet_sample --out runs/sample_vcrnet
    Machine: one CPU core, a few minutes.
    Expected: 54.3 AP, mean of three seeds, beside 52.5 of faster_rcnn_sample (docs/log.md): no gain shown.
    Table: none. The tiny network's convolutions are not grouped: a concept is a group of channels only.
    """
    return with_blocks(sample_size("vcrnet_sample", plain_stage(128)), VCRConfig(concepts=8))


#: What `detector.recipes` lists of this file.
RECIPES = (
    vcrnet_rx50_fpn_coco,
    vcrnet_pixel_rx50_fpn_coco,
    vcrnet_rx101_fpn_coco,
    vcrnet_sample,
)
