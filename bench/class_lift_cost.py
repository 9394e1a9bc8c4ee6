"""What class lift costs beside its detector: ResNet-50-FPN, one 800 px image, 1000 regions, one CPU core.

Run: OMP_NUM_THREADS=1 python bench/class_lift_cost.py [--classes 80 1000 3000] [--rounds 3] [--positions]

Update and detector are timed inside the same forward passes, with random weights and random counts: every
region may speak, the worst case. Times are of the processor, in ms, medians over the rounds, of which an
untimed one comes first. Needs no data.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
from torch import Tensor

from detector.config import ProposalConfig
from detector.interfaces import Regions
from detector.overrides import override
from detector.positions import no_counts
from detector.rcnn import build_model
from detector.recipes import load_recipe

IMAGE = (3, 800, 1088)


def measure(num_classes: int, rounds: int, positions: bool) -> tuple[float, float]:
    """Median ms of the detector without the update, and of the update, by position or not."""
    settings = {"model.backbone.weights": "none", "model.stages.0.score_update.positions": positions}
    config = override(load_recipe("class_lift_r50_fpn"), settings).model
    proposals = ProposalConfig(pre_nms_test=1000, post_nms_test=1000, nms_iou_test=1.0)
    torch.manual_seed(0)
    counts_CC = torch.randint(0, 9, (num_classes, num_classes)).double()
    model = build_model(
        replace(config, proposals=proposals),
        num_classes,
        None,
        counts_CC + counts_CC.T,
        positions=no_counts(num_classes),
    )
    model.eval().proposals.head.bbox_pred.weight.data.zero_()  # anchors stay: 1000 regions, all solid
    update = model.stages[-1].score_update
    plain, spent, shapes = update.forward, [], set()

    def noting(logits_RK: Tensor, regions: Regions) -> Tensor:
        start = time.process_time()
        result = plain(logits_RK, regions)
        spent.append(time.process_time() - start)
        shapes.add(tuple(logits_RK.shape))
        return result

    update.forward = noting
    rest = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            start = time.process_time()
            model([torch.rand(IMAGE)])
            rest.append(time.process_time() - start - spent[-1])
    assert shapes == {(1000, num_classes + 1)}, shapes
    return 1000 * statistics.median(rest[1:]), 1000 * statistics.median(spent[1:])


def main() -> None:
    """Measure and print a line for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[80, 1000, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--positions", action="store_true", help="lift by position")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for num_classes in arguments.classes:
        rest, update = measure(num_classes, arguments.rounds, arguments.positions)
        share = f"{update / rest:.1%}"
        print(
            f"{num_classes} classes: detector {rest:.0f} ms, class lift {update:.1f} ms = {share}", flush=True
        )


if __name__ == "__main__":
    main()
