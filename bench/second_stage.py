"""What a reasoning stage costs beside its base detector: ResNet-101-FPN, one 800 px image, on one CPU core.

Run: OMP_NUM_THREADS=1 python bench/second_stage.py [--classes 80 3000] [--rounds 3]

Base is everything before the second stage: backbone, proposals, first stage. The path is what makes the
numbers that are added to a region's features (f' of Reasoning-RCNN, h of SGRN); the stage has besides it the
pooling, the shared linear layers and new class and box layers. All are timed inside the same forward passes
of a detector with random weights, in evaluation, with 1000 anchors as regions. Times are of the processor, in
ms, medians over the rounds, of which an untimed one comes first. Needs no data.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from detector.config import ProposalConfig
from detector.overrides import override
from detector.rcnn import build_model
from detector.recipes import load_recipe

PATH_BY_RECIPE = {"reasoning_rcnn_r101_fpn": "reason", "sgrn_r101_fpn_coco": "relate"}
IMAGE = (3, 800, 1088)


def timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """The function, which from now on notes its times."""

    def noting(*arguments: Any, **keywords: Any) -> Any:
        start = time.process_time()
        result = function(*arguments, **keywords)
        times.append(time.process_time() - start)
        return result

    return noting


def measure(recipe: str, num_classes: int, rounds: int) -> dict[str, float]:
    """Median ms of base, path and whole stage, and million parameters of base and stage."""
    settings = {"model.backbone.weights": "none"}
    config = override(load_recipe(recipe), settings).model
    proposals = ProposalConfig(pre_nms_test=1000, post_nms_test=1000, nms_iou_test=1.0)
    config = replace(config, proposals=proposals)
    torch.manual_seed(0)
    model = build_model(config, num_classes, torch.rand(num_classes, num_classes)).eval()
    for name, weight in model.named_parameters():
        if "bbox_pred" in name or "box_layer" in name:  # anchors stay where they are: 1000 regions, all solid
            weight.data.zero_()
    stage = model.stages[1]
    own = sum(weight.numel() for weight in stage.parameters())
    everything = sum(weight.numel() for weight in model.parameters())
    times: dict[str, list[float]] = {"all": [], "path": [], "stage": []}
    path = PATH_BY_RECIPE[recipe]
    setattr(stage.head, path, timed(getattr(stage.head, path), times["path"]))
    stage.forward = timed(stage.forward, times["stage"])  # type: ignore[method-assign]
    forward = timed(model, times["all"])
    with torch.no_grad():
        for _ in range(rounds + 1):
            forward([torch.rand(IMAGE)])
    took = {part: 1000 * statistics.median(values[1:]) for part, values in times.items()}
    base = 1000 * statistics.median(a - s for a, s in zip(times["all"][1:], times["stage"][1:], strict=True))
    return took | {"base": base, "base M": (everything - own) / 1e6, "stage M": own / 1e6}


def main() -> None:
    """Measure and print a line a recipe and number of classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[80, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for recipe in PATH_BY_RECIPE:
        for num_classes in arguments.classes:
            took = measure(recipe, num_classes, arguments.rounds)
            print(
                f"{recipe}, {num_classes} classes: base {took['base']:.0f} ms, {took['base M']:.2f} M; "
                f"path {took['path']:.1f} ms = {took['path'] / took['base']:.2%}; "
                f"stage {took['stage']:.0f} ms = {took['stage'] / took['base']:.1%}, "
                f"{took['stage M']:.2f} M = {took['stage M'] / took['base M']:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
