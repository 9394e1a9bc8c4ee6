"""What several stages say about the classes of the same regions, in evaluation, as one table of logits.

Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) averages the probabilities of all stages' classifiers on the
boxes that its last stage starts from. The official code of Reasoning-RCNN averages the logits that each stage
gave on its own boxes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detector.config import ClassScores
from detector.interfaces import Regions
from detector.stage import Stage, StageOutput


def combine_logits(
    how: ClassScores, stages: Sequence[Stage], seen: Sequence[Regions], outputs: Sequence[StageOutput]
) -> Tensor:
    """Return logits_RK whose softmax is the score of each class.

    Args:
        how: "last": those of the last stage; "mean_logits": the mean of all stages' logits;
            "mean_on_last_boxes": the logarithm of the mean of all stages' probabilities, with the earlier
            stages run once more on the boxes that the last one started from.
        stages: one or more, in their order.
        seen: the regions that each stage got; the same rows in the same order.
        outputs: what each stage gave for them.
    """
    if how == "last" or len(stages) == 1:
        return outputs[-1].logits_RK
    if how == "mean_logits":
        return torch.stack([output.logits_RK.float() for output in outputs]).mean(dim=0)
    logits = [*_logits_on(seen[-1], stages[:-1]), outputs[-1].logits_RK]
    return torch.stack([part.float().softmax(dim=1) for part in logits]).mean(dim=0).log()


def _logits_on(regions: Regions, stages: Sequence[Stage]) -> list[Tensor]:
    """Logits of a chain of stages that all look at the same boxes."""
    boxes_R4, logits = regions.boxes_R4, []
    regions = replace(regions, logits_RK=None, weight_KD1=None, features_RD=None)
    for stage in stages:
        output = stage(regions)
        logits.append(output.logits_RK)
        regions = replace(stage.refine(regions, output), boxes_R4=boxes_R4)
    return logits
