"""Recipes of duplicate removal, tables 3 and 4 of Relation Networks: ResNet-50 without pyramid.

All have the plain head of relation_plain_r50_c5_coco. The learned removal trains alone on that detector, 3
epochs with the rate a tenth after the second, as in the official code, or with it end to end; its loss is
that of the official code. Not here are the rows of table 3 without rank, with the score in its place, and
without appearance.
"""

from dataclasses import replace

from detector.config import Config
from detector.interfaces import RemovalConfig
from detector.nms import SoftNMSConfig
from detector.reasoning.relation_networks import LearnedRemovalConfig
from detector.recipes.relation_networks_c5 import relation_plain_r50_c5_coco


def soft_nms_r50_c5_coco() -> Config:
    """Soft-NMS, Gaussian, sigma 0.6, behind the plain detector of Relation Networks.

    Command: detector train --data COCO --eval-split val --recipe soft_nms_r50_c5_coco --out runs/soft_nms
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.2 AP (the paper's own run, minival), with sigma 0.2, 0.4, 0.6, 0.8 and 1.0
        30.0, 30.2, 30.2, 29.9 and 29.7.
    Table: 4 of the paper, "SoftNMS": another sigma with --set model.duplicate_removal.sigma=0.2. The detector
        is the same: nothing but its evaluation differs from relation_plain_r50_c5_coco.
    """
    return _with_removal("soft_nms_r50_c5_coco", SoftNMSConfig("gaussian", sigma=0.6))


def learned_nms_r50_c5_coco() -> Config:
    """Learned duplicate removal for IoU 0.5 to 0.9, on a trained plain detector that stays as it is.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain_r50_c5
        --recipe learned_nms_r50_c5_coco --out runs/learned_nms
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.5 AP (the paper's own run, minival).
    Table: 4 of the paper, "ours", 0.5 to 0.9.
    """
    return _frozen("learned_nms_r50_c5_coco", LearnedRemovalConfig(form="released"))


def learned_nms_end_to_end_r50_c5_coco() -> Config:
    """Learned duplicate removal for IoU 0.5 to 0.9, trained with the plain detector.

    Command: detector train --data COCO --eval-split val --recipe learned_nms_end_to_end_r50_c5_coco
        --out runs/learned_nms_end_to_end
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.0 AP (the paper's own run, minival).
    Table: 4 of the paper, "ours (e2e)".
    """
    return _with_removal("learned_nms_end_to_end_r50_c5_coco", LearnedRemovalConfig(form="released"))


def learned_nms_050_r50_c5_coco() -> Config:
    """Learned duplicate removal for IoU 0.5 alone, on a trained plain detector that stays as it is.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain_r50_c5
        --recipe learned_nms_050_r50_c5_coco --out runs/learned_nms_050
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.3 AP (the paper's own run, minival).
    Table: 4 of the paper, "ours", 0.5; 3, "{f_R, f, bbox}".
    """
    return _frozen("learned_nms_050_r50_c5_coco", LearnedRemovalConfig(form="released", thresholds=(0.5,)))


def learned_nms_075_r50_c5_coco() -> Config:
    """Learned duplicate removal for IoU 0.75 alone, on a trained plain detector that stays as it is.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain_r50_c5
        --recipe learned_nms_075_r50_c5_coco --out runs/learned_nms_075
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.1 AP (the paper's own run, minival).
    Table: 4 of the paper, "ours", 0.75.
    """
    return _frozen("learned_nms_075_r50_c5_coco", LearnedRemovalConfig(form="released", thresholds=(0.75,)))


def learned_nms_no_geometry_r50_c5_coco() -> Config:
    """Learned duplicate removal without the geometric weight, IoU 0.5, on a trained plain detector.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain_r50_c5
        --recipe learned_nms_no_geometry_r50_c5_coco --out runs/learned_nms_no_geometry
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 28.1 AP (the paper's own run, minival).
    Table: 3 of the paper, geometric bbox "none".
    """
    removal = LearnedRemovalConfig(form="released", thresholds=(0.5,), geometry="none")
    return _frozen("learned_nms_no_geometry_r50_c5_coco", removal)


def learned_nms_unary_r50_c5_coco() -> Config:
    """Learned duplicate removal that adds a box's own place to its features, IoU 0.5, on a trained detector.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain_r50_c5
        --recipe learned_nms_unary_r50_c5_coco --out runs/learned_nms_unary
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 28.2 AP (the paper's own run, minival).
    Table: 3 of the paper, geometric bbox "unary".
    """
    removal = LearnedRemovalConfig(form="released", thresholds=(0.5,), geometry="unary")
    return _frozen("learned_nms_unary_r50_c5_coco", removal)


def _with_removal(name: str, removal: RemovalConfig) -> Config:
    """The plain detector with another removal of duplicates."""
    config = relation_plain_r50_c5_coco()
    return replace(config, recipe=name, model=replace(config.model, duplicate_removal=removal))


def _frozen(name: str, removal: LearnedRemovalConfig) -> Config:
    """The same, where the removal alone trains."""
    config = _with_removal(name, removal)
    train = replace(config.train, epochs=3, milestones=(2,), part="duplicate_removal")
    return replace(config, train=train)


#: What `detector.recipes` lists of this file.
RECIPES = (
    soft_nms_r50_c5_coco,
    learned_nms_r50_c5_coco,
    learned_nms_end_to_end_r50_c5_coco,
    learned_nms_050_r50_c5_coco,
    learned_nms_075_r50_c5_coco,
    learned_nms_no_geometry_r50_c5_coco,
    learned_nms_unary_r50_c5_coco,
)
