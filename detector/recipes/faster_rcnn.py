"""Recipes of Faster R-CNN, the baseline that the papers are compared with."""

from dataclasses import replace

from detector.config import Config, StageConfig
from detector.heads import Conv5Config, ImageContextConfig
from detector.interfaces import SharedHeadConfig
from detector.recipes.sizes import (
    c4_size,
    full_size,
    kept_stages,
    plain_stage,
    renamed,
    sample_size,
    small_size,
    two_stages,
)


def faster_rcnn_r50_fpn() -> Config:
    """Faster R-CNN, ResNet-50-FPN from ImageNet, 800 px, 12 epochs: the field's common baseline.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r50_fpn --out runs/frcnn_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO val2017 about 37 AP, as other implementations of this schedule report.
    Table: none of the Reasoning-RCNN paper, whose backbone is ResNet-101.
    """
    return full_size("faster_rcnn_r50_fpn", "resnet50", stages=plain_stage(1024))


def faster_rcnn_r101_fpn() -> Config:
    """Faster R-CNN, ResNet-101-FPN from ImageNet, 800 px, 12 epochs: the baseline of Reasoning-RCNN.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r101_fpn --out runs/frcnn_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 37.3 AP; VG1000 7.1; VG3000 3.7; ADE 11.3 (the paper's own runs).
    Table: 1 and 2 of the Reasoning-RCNN paper, "Faster-RCNN w FPN". The paper goes on to 32 epochs and says
        that nothing is gained after 12. It adds multi-scale training, which this recipe does not have.
    """
    return full_size("faster_rcnn_r101_fpn", "resnet101", stages=plain_stage(1024))


def faster_rcnn_r50_fpn_dcn_coco() -> Config:
    """Faster R-CNN, ResNet-50-FPN with deformable 3x3 convolutions in layer4, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r50_fpn_dcn_coco
        --out runs/frcnn_r50_dcn
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: above the 37 AP of faster_rcnn_r50_fpn; no paper has this row.
    Table: none; 5 of the Relation Networks paper has ResNet-101 without pyramid ("DCN", 37.5 AP), with
        Soft-NMS, hard example mining and deformable RoI pooling.
    """
    config = faster_rcnn_r50_fpn()
    backbone = replace(config.model.backbone, deformable=("layer4",))
    return renamed(
        "faster_rcnn_r50_fpn_dcn_coco", replace(config, model=replace(config.model, backbone=backbone))
    )


def faster_rcnn_r50_c4_coco() -> Config:
    """Faster R-CNN, ResNet-50-C4 from ImageNet, conv5 on every region, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r50_c4_coco
        --out runs/frcnn_r50_c4
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO val2017 about 35 AP, as other implementations report.
    Table: none of the Reasoning-RCNN paper, whose backbone is ResNet-101.
    """
    return c4_size("faster_rcnn_r50_c4_coco", "resnet50", (StageConfig(Conv5Config()),))


def faster_rcnn_r101_c4_coco() -> Config:
    """Faster R-CNN, ResNet-101-C4 from ImageNet, conv5 on every region, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --recipe faster_rcnn_r101_c4_coco
        --out runs/frcnn_r101_c4
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 34.9 AP (the paper's own run), 52.2 M parameters.
    Table: 2 of the Reasoning-RCNN paper, "Faster-RCNN, ResNet-101".
    """
    return c4_size("faster_rcnn_r101_c4_coco", "resnet101", (StageConfig(Conv5Config()),))


def faster_rcnn_r101_c4_vg1000() -> Config:
    """Faster R-CNN, ResNet-101-C4, 800 px, 12 epochs, on VG1000: the baseline of the paper's table.

    Command: detector train --data VG1000 --recipe faster_rcnn_r101_c4_vg1000
        --out runs/frcnn_r101_c4_vg1000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG1000 6.2 AP (the paper's own run), 54.1 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Faster-RCNN".
    """
    return renamed("faster_rcnn_r101_c4_vg1000", faster_rcnn_r101_c4_coco())


def faster_rcnn_r101_c4_vg3000() -> Config:
    """Faster R-CNN, ResNet-101-C4, 800 px, 12 epochs, on VG3000: the baseline of the paper's table.

    Command: detector train --data VG3000 --recipe faster_rcnn_r101_c4_vg3000
        --out runs/frcnn_r101_c4_vg3000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG3000 3.7 AP (the paper's own run), 58.2 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Faster-RCNN".
    """
    return renamed("faster_rcnn_r101_c4_vg3000", faster_rcnn_r101_c4_coco())


def faster_rcnn_r101_c4_ade() -> Config:
    """Faster R-CNN, ResNet-101-C4, 800 px, 12 epochs, on ADE: the baseline of the paper's table.

    Command: detector train --data ADE --recipe faster_rcnn_r101_c4_ade
        --out runs/frcnn_r101_c4_ade
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: ADE 8.7 AP (the paper's own run), 52.9 M parameters.
    Table: 1 of the Reasoning-RCNN paper, "Faster-RCNN".
    """
    return renamed("faster_rcnn_r101_c4_ade", faster_rcnn_r101_c4_coco())


def faster_rcnn_sample() -> Config:
    """Faster R-CNN with a tiny backbone for the 128 px images of the sample world: the baseline of the demo.

    Command: detector train --data data/sample --recipe faster_rcnn_sample --out runs/sample_base
    Machine: one CPU core, about one minute.
    Expected: 51 to 54 AP, 71 AP50 on the test images (docs/log.md). Another 30 epochs add nothing.
    Table: none.
    """
    return sample_size("faster_rcnn_sample", plain_stage(128))


def stacked_plain_sample() -> Config:
    """A second plain stage on the boxes of the first, 128 px: the fair control of every two-stage head here.

    Command: detector train --data data/sample --recipe stacked_plain_sample --init runs/sample_base
        --out runs/sample_stacked
    Machine: one CPU core, about a minute and a half.
    Expected: after the baseline's 30 epochs 54 to 57 AP, 69 to 70 AP50 (docs/log.md).
    Table: none; thresholds, schedule and number of stages are those of reasoning_rcnn_sample and sgrn_sample.
    """
    return sample_size("stacked_plain_sample", two_stages(128, SharedHeadConfig()))


def stacked_plain_kept_sample() -> Config:
    """A second pair of class and box layers on the features of the first stage, 128 px.

    Command: detector train --data data/sample --recipe stacked_plain_kept_sample --init runs/sample_base
        --out runs/sample_stacked_kept
    Machine: one CPU core, about a minute and a half.
    Expected: after the baseline's 30 epochs 54.3 AP, 70.3 AP50, means of three seeds (docs/systems.md).
    Table: none; it is the control of reasoning_rcnn_kept_sample.
    """
    return sample_size("stacked_plain_kept_sample", kept_stages(128, SharedHeadConfig()))


def stacked_context_sample() -> Config:
    """As stacked_plain_sample, and the second stage gets one vector for the image: context without a graph.

    Command: detector train --data data/sample --recipe stacked_context_sample --init runs/sample_base
        --out runs/sample_context
    Machine: one CPU core, about a minute and a half.
    Expected: after the baseline's 30 epochs 75 to 76 AP, 92 to 93 AP50 (docs/log.md).
    Table: none.
    """
    return sample_size("stacked_context_sample", two_stages(128, ImageContextConfig()))


def stacked_context_kept_sample() -> Config:
    """As stacked_plain_kept_sample, and the second stage gets one vector for the image.

    Command: detector train --data data/sample --recipe stacked_context_kept_sample --init runs/sample_base
        --out runs/sample_context_kept
    Machine: one CPU core, about a minute and a half.
    Expected: unknown; it is a control of reasoning_rcnn_kept_sample for `detector ablate`.
    Table: none.
    """
    return sample_size("stacked_context_kept_sample", kept_stages(128, ImageContextConfig()))


def stacked_plain_r50_fpn() -> Config:
    """A second plain stage on the boxes of the first, ResNet-50-FPN, 800 px, 16 epochs.

    Command: detector train --data COCO --eval-split val --recipe stacked_plain_r50_fpn --init runs/frcnn_r50
        --out runs/stacked_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the control that the paper of reasoning_rcnn_r50_fpn lacks.
    Table: none.
    """
    return _stacked_full_size("stacked_plain_r50_fpn", "resnet50", two_stages(1024, SharedHeadConfig()))


def stacked_plain_r101_fpn() -> Config:
    """A second plain stage on the boxes of the first, ResNet-101-FPN, 800 px, 16 epochs.

    Command: detector train --data COCO --eval-split val --recipe stacked_plain_r101_fpn
        --init runs/frcnn_r101 --out runs/stacked_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the control that the paper of reasoning_rcnn_r101_fpn lacks.
    Table: none.
    """
    return _stacked_full_size("stacked_plain_r101_fpn", "resnet101", two_stages(1024, SharedHeadConfig()))


def stacked_context_r50_fpn() -> Config:
    """As stacked_plain_r50_fpn, and the second stage gets one vector for the image: context without a graph.

    Command: detector train --data COCO --eval-split val --recipe stacked_context_r50_fpn
        --init runs/frcnn_r50 --out runs/context_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown.
    Table: none.
    """
    return _stacked_full_size("stacked_context_r50_fpn", "resnet50", two_stages(1024, ImageContextConfig()))


def stacked_plain_kept_r50_fpn() -> Config:
    """A second pair of class and box layers on the features of the first stage, ResNet-50-FPN, 16 epochs.

    Command: detector train --data COCO --eval-split val --recipe stacked_plain_kept_r50_fpn
        --init runs/frcnn_r50 --out runs/stacked_kept_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the equally stacked control of reasoning_rcnn_r50_fpn_working.
    Table: none.
    """
    return _stacked_full_size("stacked_plain_kept_r50_fpn", "resnet50", kept_stages(1024, SharedHeadConfig()))


def stacked_context_kept_r50_fpn() -> Config:
    """As stacked_plain_kept_r50_fpn, and the second stage gets one vector for the image: context, no graph.

    Command: detector train --data COCO --eval-split val --recipe stacked_context_kept_r50_fpn
        --init runs/frcnn_r50 --out runs/context_kept_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the graph-free control of reasoning_rcnn_r50_fpn_working.
    Table: none.
    """
    return _stacked_full_size(
        "stacked_context_kept_r50_fpn", "resnet50", kept_stages(1024, ImageContextConfig())
    )


def stacked_context_r101_fpn() -> Config:
    """As stacked_plain_r101_fpn, and the second stage gets one vector for the image: context without a graph.

    Command: detector train --data COCO --eval-split val --recipe stacked_context_r101_fpn
        --init runs/frcnn_r101 --out runs/context_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown.
    Table: none.
    """
    return _stacked_full_size("stacked_context_r101_fpn", "resnet101", two_stages(1024, ImageContextConfig()))


def faster_rcnn_r18_small() -> Config:
    """Faster R-CNN, ResNet-18-FPN from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --recipe faster_rcnn_r18_small --max-images 6 --out runs/overfit_plain
    Machine: one CPU core, about four minutes.
    Expected: AP50 well above 0.5 on the images it has seen.
    Table: none.
    """
    return small_size("faster_rcnn_r18_small", plain_stage(256))


#: What `detector.recipes` lists of this file.
RECIPES = (
    faster_rcnn_r50_fpn,
    faster_rcnn_r101_fpn,
    faster_rcnn_r50_fpn_dcn_coco,
    faster_rcnn_r50_c4_coco,
    faster_rcnn_r101_c4_coco,
    faster_rcnn_r101_c4_vg1000,
    faster_rcnn_r101_c4_vg3000,
    faster_rcnn_r101_c4_ade,
    faster_rcnn_sample,
    stacked_plain_r50_fpn,
    stacked_plain_r101_fpn,
    stacked_context_r50_fpn,
    stacked_context_r101_fpn,
    stacked_plain_kept_r50_fpn,
    stacked_context_kept_r50_fpn,
    stacked_plain_sample,
    stacked_plain_kept_sample,
    stacked_context_sample,
    stacked_context_kept_sample,
    faster_rcnn_r18_small,
)


def _stacked_full_size(name: str, backbone: str, stages: tuple[StageConfig, ...]) -> Config:
    """Full size with a second stage, the schedule of Reasoning-RCNN, of which it is a control."""
    config = full_size(name, backbone, stages=stages)
    return replace(config, train=replace(config.train, epochs=16))
