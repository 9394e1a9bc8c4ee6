"""Recipes of Reasoning-RCNN."""

from dataclasses import replace

from detector.config import Config
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes.sizes import (
    full_size,
    kept_stages,
    renamed,
    sample_size,
    small_size,
    two_stages,
    with_backbone,
    with_stages,
)


def reasoning_rcnn_r50_fpn() -> Config:
    """Reasoning-RCNN as printed, ResNet-50-FPN, 800 px: the paper's schedule on the smaller backbone.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r50
        --recipe reasoning_rcnn_r50_fpn --out runs/reasoning_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper has no ResNet-50.
    Table: none.
    """
    config = reasoning_rcnn_r101_fpn()
    return renamed("reasoning_rcnn_r50_fpn", with_backbone(config, "resnet50"))


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
    config = full_size("reasoning_rcnn_r101_fpn", "resnet101", stages=two_stages(1024, ReasoningConfig()))
    return replace(config, train=replace(config.train, epochs=16))


def reasoning_rcnn_r101_fpn_coco() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-FPN, 800 px, on COCO: 16 epochs after the 12 of the baseline.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_coco --out runs/reasoning_r101_coco
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 42.9 AP, 61.5 M parameters, 75.3 ms on a Titan Xp (the paper's own run, relation graph).
    Table: 2 of the paper, "Reasoning-RCNN_R w FPN".
    """
    return renamed("reasoning_rcnn_r101_fpn_coco", reasoning_rcnn_r101_fpn())


def reasoning_rcnn_r101_fpn_vg1000() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-FPN, 800 px, on VG1000: 16 epochs after the 12 of the baseline.

    Command: detector train --data VG1000 --graph relation.npz --init runs/frcnn_r101_vg1000
        --recipe reasoning_rcnn_r101_fpn_vg1000 --out runs/reasoning_r101_vg1000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG1000 8.2 AP, 63.6 M parameters (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R w FPN".
    """
    return renamed("reasoning_rcnn_r101_fpn_vg1000", reasoning_rcnn_r101_fpn())


def reasoning_rcnn_r101_fpn_vg3000() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-FPN, 800 px, on VG3000: 16 epochs after the 12 of the baseline.

    Command: detector train --data VG3000 --graph relation.npz --init runs/frcnn_r101_vg3000
        --recipe reasoning_rcnn_r101_fpn_vg3000 --out runs/reasoning_r101_vg3000
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: VG3000 4.3 AP, 68.2 M parameters (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R w FPN".
    """
    return renamed("reasoning_rcnn_r101_fpn_vg3000", reasoning_rcnn_r101_fpn())


def reasoning_rcnn_r101_fpn_ade() -> Config:
    """Reasoning-RCNN as printed, ResNet-101-FPN, 800 px, on ADE: 16 epochs after the 12 of the baseline.

    Command: detector train --data ADE --graph relation.npz --init runs/frcnn_r101_ade
        --recipe reasoning_rcnn_r101_fpn_ade --out runs/reasoning_r101_ade
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: ADE 15.5 AP, 62.6 M parameters (the paper's own run, relation graph).
    Table: 1 of the paper, "Reasoning-RCNN_R w FPN".
    """
    return renamed("reasoning_rcnn_r101_fpn_ade", reasoning_rcnn_r101_fpn())


def reasoning_rcnn_r101_fpn_released() -> Config:
    """Reasoning-RCNN as its official code computes it, ResNet-101-FPN, 800 px, 12 epochs.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r101
        --recipe reasoning_rcnn_r101_fpn_released --out runs/reasoning_released
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; 42.9 AP on COCO if the paper's numbers come from this code.
    Table: none. Biases and ReLUs of the official code, its 12 epochs, the mean of both stages' logits. Rows
        of f and f' belong to the same region here, and the graph is in the data's class order.
    """
    config = full_size(
        "reasoning_rcnn_r101_fpn_released",
        "resnet101",
        stages=two_stages(1024, ReasoningConfig(form="released")),
    )
    return replace(config, model=replace(config.model, class_scores="mean_logits"))


def reasoning_rcnn_r50_fpn_working() -> Config:
    """Reasoning-RCNN in the form that trains, ResNet-50-FPN, 800 px: what we recommend at full size.

    Command: detector train --data COCO --eval-split val --graph relation.npz --init runs/frcnn_r50
        --recipe reasoning_rcnn_r50_fpn_working --out runs/reasoning_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown.
    Table: none; what departs from the paper is listed in reasoning/reasoning_rcnn.py. The second stage keeps
        the regions of the first, which costs a fraction (docs/performance.md). Give --graph twice to reason
        over a relation and an attribute graph at once.
    """
    config = reasoning_rcnn_r50_fpn()
    stages = kept_stages(1024, ReasoningConfig(form="working"))
    return renamed("reasoning_rcnn_r50_fpn_working", with_stages(config, stages))


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
    return sample_size("reasoning_rcnn_sample", two_stages(128, head))


def reasoning_rcnn_kept_sample() -> Config:
    """As reasoning_rcnn_sample, but f' joins the features of the first stage: nothing is pooled again.

    Command: detector train --data data/sample --graph relation.npz --recipe reasoning_rcnn_kept_sample
        --init runs/sample_base --out runs/sample_kept
    Machine: one CPU core, about a minute and a half.
    Expected: after the baseline's 30 epochs 71 to 73 AP, 92 to 95 AP50 on the test images (docs/systems.md).
    Table: none.
    """
    head = ReasoningConfig(form="working", width=64, squeeze=64)
    return sample_size("reasoning_rcnn_kept_sample", kept_stages(128, head))


def reasoning_rcnn_r18_small() -> Config:
    """Reasoning-RCNN, working form, ResNet-18-FPN from scratch, 224 px: to see a data set overfit on a CPU.

    Command: detector train --data DATA --graph relation.npz --recipe reasoning_rcnn_r18_small --max-images 6
        --out runs/overfit
    Machine: one CPU core, about five minutes.
    Expected: 78.7 AP, 96.9 AP50 on six COCO images that it has seen (seed 0).
    Table: none.
    """
    head = ReasoningConfig(form="working", width=64, squeeze=64)
    return small_size("reasoning_rcnn_r18_small", two_stages(256, head))


#: What `detector.recipes` lists of this file.
RECIPES = (
    reasoning_rcnn_r50_fpn,
    reasoning_rcnn_r101_fpn,
    reasoning_rcnn_r101_fpn_coco,
    reasoning_rcnn_r101_fpn_vg1000,
    reasoning_rcnn_r101_fpn_vg3000,
    reasoning_rcnn_r101_fpn_ade,
    reasoning_rcnn_r101_fpn_released,
    reasoning_rcnn_r50_fpn_working,
    reasoning_rcnn_sample,
    reasoning_rcnn_kept_sample,
    reasoning_rcnn_r18_small,
)
