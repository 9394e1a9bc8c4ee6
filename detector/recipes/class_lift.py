"""Recipes of class lift, our own head: see reasoning/class_lift.py. There is no paper, so no table.

A fixed strength acts in evaluation alone, so each of these trains exactly as its Faster R-CNN. To learn the
strength from images that the detector was not trained on:

    detector train --data DATA --split heldout --graph relation.npz --recipe class_lift_sample --init RUN
        --set model.stages.0.score_update.learned=true --set train.part=stages.0.score_update --out LEARNED
"""

from dataclasses import replace

from detector.config import Config
from detector.reasoning.class_lift import ClassLiftConfig
from detector.recipes.faster_rcnn import faster_rcnn_r50_fpn, faster_rcnn_sample
from detector.recipes.mask_rcnn import mask_rcnn_r50_fpn_coco
from detector.recipes.relation_networks import relation_sample
from detector.recipes.sizes import renamed, with_stages


def class_lift_r50_fpn() -> Config:
    """Faster R-CNN, ResNet-50-FPN, 800 px, with class lift between its regions: 12 epochs.

    Command: detector train --data COCO --eval-split val --graph relation.npz --recipe class_lift_r50_fpn
        --out runs/lift_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; without the context it is faster_rcnn_r50_fpn, weight for weight.
    Table: none.
    """
    return renamed("class_lift_r50_fpn", _with_class_lift(faster_rcnn_r50_fpn()))


def class_lift_sample() -> Config:
    """Faster R-CNN with class lift and a tiny backbone for the 128 px images of the sample world.

    Command: detector train --data data/sample --graph relation.npz --recipe class_lift_sample
        --out runs/sample_lift
    Machine: one CPU core, about one minute.
    Expected: 73.5 AP, 95.4 AP50; the same weights have 53.3 without the context, and 53.5 to 58.8 with
        shuffled classes (48 to 54 with all of the counts taken as they are; docs/log.md).
    Table: none.
    """
    return renamed("class_lift_sample", _with_class_lift(faster_rcnn_sample()))


def class_lift_relation_sample() -> Config:
    """Relation Networks with class lift behind its head, 128 px.

    Command: detector train --data data/sample --graph relation.npz --recipe class_lift_relation_sample
        --out runs/sample_relation_lift
    Machine: one CPU core, about two minutes.
    Expected: 62.5, 58.6 and 67.6 AP (three seeds); the same weights without it have 63.4, 58.5 and 66.8: its
        relations have learnt that context already.
    Table: none.
    """
    return renamed("class_lift_relation_sample", _with_class_lift(relation_sample()))


def class_lift_mask_rcnn_r50_fpn_coco() -> Config:
    """Mask R-CNN, ResNet-50-FPN, 800 px, with class lift between its regions: 12 epochs.

    Command: detector train --data COCO --eval-split val --graph relation.npz
        --recipe class_lift_mask_rcnn_r50_fpn_coco --out runs/mask_lift_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; without the context it is mask_rcnn_r50_fpn_coco, weight for weight.
    Table: none.
    """
    return renamed("class_lift_mask_rcnn_r50_fpn_coco", _with_class_lift(mask_rcnn_r50_fpn_coco()))


def _with_class_lift(config: Config) -> Config:
    """The same run with context after the class layer of its last stage."""
    stages = config.model.stages
    return with_stages(config, (*stages[:-1], replace(stages[-1], score_update=ClassLiftConfig())))


#: What `detector.recipes` lists of this file.
RECIPES = (
    class_lift_r50_fpn,
    class_lift_sample,
    class_lift_relation_sample,
    class_lift_mask_rcnn_r50_fpn_coco,
)
