"""Recipes of Relation Networks without a pyramid: tables 1 and 2 of the paper, and its table 5 but for DCN.

As in the official code: conv5 dilated to stride 16 and thinned to 256 channels, anchors of 64 to 512 px,
short side 600 and long side 1000 px, the 300 best proposals, all of which look at each other, 8 epochs, the
rate a tenth after the fifth (5.33 there), 0.0005 an image, weight decay 0.0005. What differs: pooling is
RoIAlign, and the proposals come from the thinned map, not from conv4. Hard examples are for table 5, where
alone the paper names them. Not here are the rows of table 2 whose heads are deeper or have residual blocks, a
global feature or a larger window, and table 5 with DCN, whose deformable pooling is not here.
"""

from dataclasses import replace

from detector.config import Config, ProposalConfig, StageConfig
from detector.interfaces import HeadConfig, TwoLinearConfig
from detector.nms import GreedyNMSConfig, SoftNMSConfig
from detector.object_relation import Geometry
from detector.reasoning.relation_networks import LearnedRemovalConfig, RelationConfig
from detector.recipes.relation_networks import ALL_REGIONS
from detector.recipes.sizes import full_size, renamed, with_stages


def relation_plain_r50_c5_coco() -> Config:
    """Faster R-CNN in the setting of Relation Networks, ResNet-50 without pyramid, NMS at 0.6.

    Command: detector train --data COCO --eval-split val --recipe relation_plain_r50_c5_coco
        --out runs/relation_plain_r50_c5
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 29.6 AP (the paper's own run, minival), after NMS at 0.3, 0.4, 0.5, 0.6 and 0.7
        29.0, 29.4, 29.6, 29.6 and 28.4.
    Table: 1 of the paper, "2fc baseline"; 2, (a); 4, "NMS": other thresholds with
        `detector train --set model.duplicate_removal.iou=0.5`.
    """
    return _r50("relation_plain_r50_c5_coco", TwoLinearConfig(1024))


def relation_plain_1432_r50_c5_coco() -> Config:
    """The plain head as wide as one with relation modules is large, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_plain_1432_r50_c5_coco
        --out runs/relation_plain_1432
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 29.7 AP (the paper's own run, minival).
    Table: 2 of the paper, (b) "2fc (1432)".
    """
    return _r50("relation_plain_1432_r50_c5_coco", TwoLinearConfig(1432))


def relation_r50_c5_coco() -> Config:
    """Relation Networks, one module after each linear layer, ResNet-50 without pyramid: the paper's default.

    Command: detector train --data COCO --eval-split val --recipe relation_r50_c5_coco
        --out runs/relation_r50_c5
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.9 AP (the paper's own run, minival).
    Table: 1 of the paper, the defaults in (a), (b) and (c); 2, (f).
    """
    return _r50("relation_r50_c5_coco", RelationConfig())


def relation_no_geometry_r50_c5_coco() -> Config:
    """Relation Networks without the geometric weight, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_no_geometry_r50_c5_coco
        --out runs/relation_no_geometry
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.3 AP (the paper's own run, minival).
    Table: 1 (a) of the paper, "none".
    """
    return _geometry("relation_no_geometry_r50_c5_coco", "none")


def relation_unary_r50_c5_coco() -> Config:
    """Relation Networks that add a box's own place to its features, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_unary_r50_c5_coco
        --out runs/relation_unary
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.1 AP (the paper's own run, minival).
    Table: 1 (a) of the paper, "unary".
    """
    return _geometry("relation_unary_r50_c5_coco", "unary")


def relation_heads_1_r50_c5_coco() -> Config:
    """Relation Networks with 1 relation a module, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_heads_1_r50_c5_coco
        --out runs/relation_heads_1
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.5 AP (the paper's own run, minival).
    Table: 1 (b) of the paper, 1.
    """
    return _heads("relation_heads_1_r50_c5_coco", 1)


def relation_heads_2_r50_c5_coco() -> Config:
    """Relation Networks with 2 relations a module, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_heads_2_r50_c5_coco
        --out runs/relation_heads_2
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 30.6 AP (the paper's own run, minival).
    Table: 1 (b) of the paper, 2.
    """
    return _heads("relation_heads_2_r50_c5_coco", 2)


def relation_heads_4_r50_c5_coco() -> Config:
    """Relation Networks with 4 relations a module, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_heads_4_r50_c5_coco
        --out runs/relation_heads_4
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.3 AP (the paper's own run, minival).
    Table: 1 (b) of the paper, 4.
    """
    return _heads("relation_heads_4_r50_c5_coco", 4)


def relation_heads_8_r50_c5_coco() -> Config:
    """Relation Networks with 8 relations a module, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_heads_8_r50_c5_coco
        --out runs/relation_heads_8
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.7 AP (the paper's own run, minival).
    Table: 1 (b) of the paper, 8.
    """
    return _heads("relation_heads_8_r50_c5_coco", 8)


def relation_heads_32_r50_c5_coco() -> Config:
    """Relation Networks with 32 relations a module, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_heads_32_r50_c5_coco
        --out runs/relation_heads_32
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.7 AP (the paper's own run, minival).
    Table: 1 (b) of the paper, 32.
    """
    return _heads("relation_heads_32_r50_c5_coco", 32)


def relation_modules_1_0_r50_c5_coco() -> Config:
    """Relation Networks with a module after the first linear layer alone, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_modules_1_0_r50_c5_coco
        --out runs/relation_modules_1_0
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.7 AP (the paper's own run, minival).
    Table: 1 (c) of the paper, {1, 0}.
    """
    return _modules("relation_modules_1_0_r50_c5_coco", 1, 0)


def relation_modules_0_1_r50_c5_coco() -> Config:
    """Relation Networks with a module after the second linear layer alone, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_modules_0_1_r50_c5_coco
        --out runs/relation_modules_0_1
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 31.4 AP (the paper's own run, minival).
    Table: 1 (c) of the paper, {0, 1}.
    """
    return _modules("relation_modules_0_1_r50_c5_coco", 0, 1)


def relation_modules_2_2_r50_c5_coco() -> Config:
    """Relation Networks with two modules after each linear layer, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_modules_2_2_r50_c5_coco
        --out runs/relation_modules_2_2
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 32.5 AP (the paper's own run, minival).
    Table: 1 (c) of the paper, {2, 2}; 2, (j).
    """
    return _modules("relation_modules_2_2_r50_c5_coco", 2, 2)


def relation_modules_4_4_r50_c5_coco() -> Config:
    """Relation Networks with four modules after each linear layer, ResNet-50 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_modules_4_4_r50_c5_coco
        --out runs/relation_modules_4_4
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 32.8 AP (the paper's own run, minival).
    Table: 1 (c) of the paper, {4, 4}.
    """
    return _modules("relation_modules_4_4_r50_c5_coco", 4, 4)


def relation_plain_r101_c5_coco() -> Config:
    """Faster R-CNN in the setting of Relation Networks, ResNet-101 without pyramid, Soft-NMS.

    Command: detector train --data COCO --eval-split val --recipe relation_plain_r101_c5_coco
        --out runs/relation_plain_r101_c5
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 32.2 AP, 58.3 M parameters (the paper's own run, minival).
    Table: 5 of the paper, faster RCNN, the first number.
    """
    return _r101("relation_plain_r101_c5_coco", TwoLinearConfig(1024))


def relation_r101_c5_coco() -> Config:
    """Relation Networks, one module after each linear layer, ResNet-101 without pyramid, Soft-NMS.

    Command: detector train --data COCO --eval-split val --recipe relation_r101_c5_coco
        --out runs/relation_r101_c5
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 34.7 AP, 64.3 M parameters (the paper's own run, minival).
    Table: 5 of the paper, faster RCNN, the second number.
    """
    return _r101("relation_r101_c5_coco", RelationConfig())


def relation_nms_r101_c5_coco() -> Config:
    """Relation Networks end to end, with learned duplicate removal, ResNet-101 without pyramid.

    Command: detector train --data COCO --eval-split val --recipe relation_nms_r101_c5_coco
        --out runs/relation_nms_r101_c5
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 35.2 AP, 64.6 M parameters (the paper's own run, minival).
    Table: 5 of the paper, faster RCNN, the third number. The loss of duplicates is that of the official code.
    """
    config = renamed("relation_nms_r101_c5_coco", relation_r101_c5_coco())
    return replace(
        config, model=replace(config.model, duplicate_removal=LearnedRemovalConfig(form="released"))
    )


def _r50(name: str, head: HeadConfig) -> Config:
    """The setting of tables 1 to 4."""
    config = full_size(name, "resnet50", stages=(StageConfig(head),))
    model = replace(
        config.model,
        backbone=replace(config.model.backbone, maps="c5"),
        proposals=ProposalConfig(
            anchor_sizes=((64, 128, 256, 512),),
            pre_nms_train=6000,
            pre_nms_test=6000,
            post_nms_train=300,
            post_nms_test=300,
        ),
        min_size=600,
        max_size=1000,
        regions_per_image=ALL_REGIONS,
        positive_fraction=1.0,
        score_threshold=0.001,
        duplicate_removal=GreedyNMSConfig(iou=0.6),
    )
    train = replace(config.train, epochs=8, milestones=(5,), lr=0.008, weight_decay=5e-4)
    return replace(config, model=model, train=train)


def _r101(name: str, head: HeadConfig) -> Config:
    """The setting of table 5: the larger network, hard examples, Soft-NMS."""
    config = with_stages(_r50(name, head), (StageConfig(head, hard_regions=128),))
    backbone = replace(config.model.backbone, name="resnet101")
    removal = SoftNMSConfig("gaussian", sigma=0.6)
    return replace(config, model=replace(config.model, backbone=backbone, duplicate_removal=removal))


def _geometry(name: str, geometry: Geometry) -> Config:
    return _r50(name, RelationConfig(geometry=geometry))


def _heads(name: str, heads: int) -> Config:
    return _r50(name, RelationConfig(heads=heads))


def _modules(name: str, r1: int, r2: int) -> Config:
    return _r50(name, RelationConfig(r1=r1, r2=r2))


#: What `detector.recipes` lists of this file.
RECIPES = (
    relation_plain_r50_c5_coco,
    relation_plain_1432_r50_c5_coco,
    relation_r50_c5_coco,
    relation_no_geometry_r50_c5_coco,
    relation_unary_r50_c5_coco,
    relation_heads_1_r50_c5_coco,
    relation_heads_2_r50_c5_coco,
    relation_heads_4_r50_c5_coco,
    relation_heads_8_r50_c5_coco,
    relation_heads_32_r50_c5_coco,
    relation_modules_1_0_r50_c5_coco,
    relation_modules_0_1_r50_c5_coco,
    relation_modules_2_2_r50_c5_coco,
    relation_modules_4_4_r50_c5_coco,
    relation_plain_r101_c5_coco,
    relation_r101_c5_coco,
    relation_nms_r101_c5_coco,
)
