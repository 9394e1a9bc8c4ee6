"""Recipes of Relation Networks.

All full-size ones train as the official code does with a pyramid: 8 epochs, the rate a tenth after the fifth
(5.33 there), 0.00125 an image, weight decay 0.0005, short side 800 and long side 1000 px, and no sampling:
all of the 1000 proposals look at each other, and classes are learnt from the 512 that are hardest. What
differs: pooling is RoIAlign, and proposals are trained along, not computed before.
"""

from dataclasses import replace

from detector.config import Config, ProposalConfig, StageConfig
from detector.interfaces import TwoLinearConfig
from detector.nms import SoftNMSConfig
from detector.reasoning.relation_networks import LearnedRemovalConfig, RelationConfig
from detector.recipes.sizes import full_size, renamed, sample_size, with_backbone

#: More than there are regions in an image: all of them are taken.
ALL_REGIONS = 10_000


def relation_plain_r101_fpn_coco() -> Config:
    """The plain head in the setting of Relation Networks, ResNet-101-FPN, Soft-NMS: their baseline.

    Command: detector train --data COCO --eval-split val --recipe relation_plain_r101_fpn_coco
        --out runs/relation_plain
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 36.8 AP (the paper's own run, minival).
    Table: 5 of the paper, FPN, the first number.
    """
    return _coco("relation_plain_r101_fpn_coco", StageConfig(TwoLinearConfig(1024), hard_regions=512))


def relation_r101_fpn_coco() -> Config:
    """Relation Networks, one relation module after each linear layer, ResNet-101-FPN, Soft-NMS.

    Command: detector train --data COCO --eval-split val --recipe relation_r101_fpn_coco
        --out runs/relation_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 38.1 AP (the paper's own run, minival).
    Table: 5 of the paper, FPN, the second number.
    """
    return _coco("relation_r101_fpn_coco", StageConfig(RelationConfig(), hard_regions=512))


def relation_r50_fpn_coco() -> Config:
    """Relation Networks, one relation module after each linear layer, ResNet-50-FPN, Soft-NMS.

    Command: detector train --data COCO --eval-split val --recipe relation_r50_fpn_coco
        --out runs/relation_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper's ResNet-50 is without a pyramid (31.9 AP, 29.6 without modules).
    Table: none; nearest to 1 of the paper.
    """
    return renamed("relation_r50_fpn_coco", with_backbone(relation_r101_fpn_coco(), "resnet50"))


def relation_nms_r101_fpn_coco() -> Config:
    """Relation Networks end to end, with learned duplicate removal in place of NMS, ResNet-101-FPN.

    Command: detector train --data COCO --eval-split val --recipe relation_nms_r101_fpn_coco
        --out runs/relation_nms_r101
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: COCO 38.8 AP (the paper's own run, minival).
    Table: 5 of the paper, FPN, the third number. The loss of duplicates is that of the official code: as
        printed it would be 320 times smaller for a correct box, at the same rate.
    """
    return _learned("relation_nms_r101_fpn_coco", relation_r101_fpn_coco())


def relation_nms_r50_fpn_coco() -> Config:
    """Relation Networks end to end, with learned duplicate removal in place of NMS, ResNet-50-FPN.

    Command: detector train --data COCO --eval-split val --recipe relation_nms_r50_fpn_coco
        --out runs/relation_nms_r50
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; the paper's ResNet-50 is without a pyramid.
    Table: none; nearest to 4 of the paper.
    """
    config = with_backbone(relation_nms_r101_fpn_coco(), "resnet50")
    return renamed("relation_nms_r50_fpn_coco", config)


def relation_nms_frozen_r101_fpn_coco() -> Config:
    """Learned duplicate removal alone, on a trained detector with the plain head that stays as it is.

    Command: detector train --data COCO --eval-split val --init runs/relation_plain
        --recipe relation_nms_frozen_r101_fpn_coco --out runs/relation_nms_frozen
    Machine: one GPU with room for 16 images a step; not run by us yet.
    Expected: unknown; without a pyramid 32.6 AP, where Soft-NMS has 32.3 (README of the official code).
    Table: none; the setting of the paper's table 4. 3 epochs, the rate a tenth after the second, as in the
        official code.
    """
    config = _learned("relation_nms_frozen_r101_fpn_coco", relation_plain_r101_fpn_coco())
    train = replace(config.train, epochs=3, milestones=(2,), part="duplicate_removal")
    return replace(config, train=train)


def relation_sample() -> Config:
    """Relation Networks with a tiny backbone for the 128 px images of the sample world.

    Command: detector train --data data/sample --recipe relation_sample --out runs/sample_relation
    Machine: one CPU core, a few minutes.
    Expected: 59 to 67 AP, 89 to 93 AP50 on the test images, where faster_rcnn_sample has 53 and 71
        (docs/log.md).
    Table: none.
    """
    return sample_size("relation_sample", (StageConfig(RelationConfig(width=128, key_width=16)),))


def relation_nms_sample() -> Config:
    """Relation Networks end to end with learned duplicate removal, for the sample world.

    Command: detector train --data data/sample --recipe relation_nms_sample --out runs/sample_relation_nms
    Machine: one CPU core, a few minutes.
    Expected: 56 AP, 81 AP50; behind relation_sample with NMS (docs/log.md).
    Table: none.
    """
    return _learned_small("relation_nms_sample")


def relation_nms_frozen_sample() -> Config:
    """Learned duplicate removal alone on the trained detector of relation_sample, which stays as it is.

    Command: detector train --data data/sample --init runs/sample_relation
        --recipe relation_nms_frozen_sample --out runs/sample_relation_frozen
    Machine: one CPU core, a few minutes.
    Expected: 58 to 67 AP, half a point below the NMS of that detector; with 30 epochs a point above
        it (docs/log.md).
    Table: none.
    """
    config = _learned_small("relation_nms_frozen_sample")
    return replace(config, train=replace(config.train, epochs=10, part="duplicate_removal"))


#: What `detector.recipes` lists of this file.
RECIPES = (
    relation_plain_r101_fpn_coco,
    relation_r50_fpn_coco,
    relation_r101_fpn_coco,
    relation_nms_r50_fpn_coco,
    relation_nms_r101_fpn_coco,
    relation_nms_frozen_r101_fpn_coco,
    relation_sample,
    relation_nms_sample,
    relation_nms_frozen_sample,
)


def _coco(name: str, stage: StageConfig) -> Config:
    config = full_size(name, "resnet101", stages=(stage,))
    model = replace(
        config.model,
        max_size=1000,
        proposals=ProposalConfig(pre_nms_test=2000, post_nms_train=1000),
        score_threshold=0.001,
        duplicate_removal=SoftNMSConfig("gaussian", sigma=0.6),
    )
    train = replace(config.train, epochs=8, milestones=(5,), weight_decay=5e-4)
    return _without_sampling(replace(config, model=model, train=train))


def _without_sampling(config: Config) -> Config:
    model = replace(config.model, regions_per_image=ALL_REGIONS, positive_fraction=1.0)
    return replace(config, model=model)


def _learned(name: str, config: Config) -> Config:
    """Learned duplicate removal in the same detector; 150 boxes a class, as in the code with a pyramid."""
    return _with_removal(name, config, LearnedRemovalConfig(form="released", first=150))


def _learned_small(name: str) -> Config:
    """Learned duplicate removal for the tiny detector, all of whose proposals it trains on."""
    removal = LearnedRemovalConfig(form="released", first=40, width=64, heads=8, key_width=16)
    return _with_removal(name, _without_sampling(relation_sample()), removal)


def _with_removal(name: str, config: Config, removal: LearnedRemovalConfig) -> Config:
    model = replace(config.model, duplicate_removal=removal, score_threshold=0.001)
    return replace(config, recipe=name, model=model)
