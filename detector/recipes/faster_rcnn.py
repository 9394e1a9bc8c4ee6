"""Recipes of Faster R-CNN, the baseline that the papers are compared with."""

from detector.config import Config
from detector.interfaces import SharedHeadConfig
from detector.recipes.sizes import full_size, plain_stage, sample_size, small_size, two_stages


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
    Expected: see docs/log.md.
    Table: none; thresholds, schedule and number of stages are those of reasoning_rcnn_sample and sgrn_sample.
    """
    return sample_size("stacked_plain_sample", two_stages(128, SharedHeadConfig()))


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
    faster_rcnn_sample,
    stacked_plain_sample,
    faster_rcnn_r18_small,
)
