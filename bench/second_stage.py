"""What region heads of papers cost beside their base detector: ResNet-101-FPN, an 800 px image, a CPU core.

Run: OMP_NUM_THREADS=1 python bench/second_stage.py [--classes 80 3000] [--rounds 3] [--only WORD]

Prints the rows of the table in docs/performance.md. Base is everything but the addition, timed in the same
forward passes: the addition is the second stage of Reasoning-RCNN and SGRN, the modules between the linear
layers of Relation Networks, and what learned duplicate removal does in place of NMS. "refined" stages pool
the boxes that the first has moved, "kept" ones take its features. Path is what makes the numbers that are
added to a region's features (f' and h); the stage has besides it a class and a box layer and, when refined,
pooling and linear layers.

Detectors have random weights, and 1000 anchors as regions, in evaluation. Learned removal has all of 80
classes to look at, and 150 boxes of each; an image of COCO has far fewer. Times are of the processor, in
ms, medians over the rounds, of which an untimed one comes first. Needs no data.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from detector.config import ModelConfig, ProposalConfig
from detector.overrides import override
from detector.rcnn import RCNN, build_model
from detector.recipes import load_recipe

IMAGE = (3, 800, 1088)
REGIONS = 1000


@dataclass(frozen=True)
class Addition:
    """What is measured of a recipe.

    Attributes:
        name: of the row.
        recipe: whose detector.
        settings: values of the recipe.
        parts: given the detector, the modules and the names of their methods that make up the addition.
        apart: the same for what is called within these, but is the base's.
        path: the same for what makes the features that are added.
        wanted: share of the base at most, by number of classes.
        even: all classes get the same score, and so are all looked at; with 80 classes alone.
    """

    name: str
    recipe: str
    settings: dict[str, str]
    parts: Callable[[RCNN], list[tuple[nn.Module, str]]]
    apart: Callable[[RCNN], list[tuple[nn.Module, str]]]
    path: Callable[[RCNN], list[tuple[nn.Module, str]]]
    wanted: dict[int, str]
    even: bool = False


def nothing(model: RCNN) -> list[tuple[nn.Module, str]]:
    """No part."""
    return []


def second_stage(name: str, recipe: str, path: str, regions: str, wanted: dict[int, str]) -> Addition:
    """A second stage, whose head has its path in the method of that name."""
    return Addition(
        f"{name}, {regions}",
        recipe,
        {"model.stages.1.regions": regions},
        lambda model: [(model.stages[1], "forward")],
        nothing,
        lambda model: [(model.stages[1].head, path)],
        wanted,
    )


REASONING = {80: "3 %", 3000: "path 1 %, addition 10 %"}

ADDITIONS = (
    second_stage("Reasoning-RCNN", "reasoning_rcnn_r101_fpn", "reason", "refined", REASONING),
    second_stage("Reasoning-RCNN", "reasoning_rcnn_r101_fpn", "reason", "kept", REASONING),
    second_stage("SGRN", "sgrn_r101_fpn_coco", "relate", "refined", {}),
    second_stage("SGRN", "sgrn_r101_fpn_coco", "relate", "kept", {}),
    Addition(
        "Relation Networks",
        "relation_r101_fpn_coco",
        {},
        lambda model: [(model.stages[0].head, "forward")],
        lambda model: [(model.stages[0].head.fc6, "forward"), (model.stages[0].head.fc7, "forward")],
        nothing,
        {80: "10 %", 3000: "10 %"},
    ),
    Addition(
        "learned duplicate removal, all of 80 classes",
        "relation_nms_frozen_r101_fpn_coco",
        {},
        lambda model: [(model.duplicate_removal, "forward")],
        nothing,
        nothing,
        {},
        even=True,
    ),
)


class Watch:
    """Adds up the processor time of methods.

    Args:
        methods: modules and the names of their methods, none of which calls another.
    """

    def __init__(self, methods: list[tuple[nn.Module, str]]) -> None:
        self.seconds = 0.0
        for module, name in methods:
            setattr(module, name, self._timed(getattr(module, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            result = function(*arguments, **keywords)
            self.seconds += time.process_time() - start
            return result

        return timed

    def take(self) -> float:
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def count_weights(model: RCNN, parts: list[tuple[nn.Module, str]]) -> int:
    """Count the parameters of parts."""
    return sum(weight.numel() for module, _ in parts for weight in module.parameters())


def build(config: ModelConfig, num_classes: int, still: tuple[str, ...]) -> RCNN:
    """A detector with random weights, but for layers whose names have one of some words: they give zeros."""
    proposals = ProposalConfig(pre_nms_test=REGIONS, post_nms_test=REGIONS, nms_iou_test=1.0)
    torch.manual_seed(0)
    graph_CC = torch.rand(num_classes, num_classes)
    model = build_model(replace(config, proposals=proposals), num_classes, graph_CC).eval()
    for name, weight in model.named_parameters():
        if any(word in name for word in still):
            weight.data.zero_()
    return model


def measure(addition: Addition, num_classes: int, image: Tensor, rounds: int) -> str:
    """The row of one addition."""
    settings = {"model.backbone.weights": "none", **addition.settings}
    still = (
        "bbox_pred",
        "box_layer",
        *(["class_layer"] if addition.even else []),
    )  # boxes stay anchors: solid
    model = build(override(load_recipe(addition.recipe), settings).model, num_classes, still)
    parts, apart = addition.parts(model), addition.apart(model)
    everything = sum(weight.numel() for weight in model.parameters())
    own = count_weights(model, parts) - count_weights(model, apart)
    watches = {
        "path": Watch(addition.path(model)),
        "apart": Watch(apart),
        "parts": Watch(parts),
        "all": Watch([(model, "forward")]),
    }
    added, base, path = [], [], []
    with torch.no_grad():
        for _ in range(rounds + 1):
            model([image])
            took = {name: 1000 * watch.take() for name, watch in watches.items()}
            added.append(took["parts"] - took["apart"])
            base.append(took["all"] - added[-1])
            path.append(took["path"])
    more, whole, making = (statistics.median(times[1:]) for times in (added, base, path))
    wanted = addition.wanted.get(num_classes, "")
    making_share = f"{making:.0f} = {100 * making / whole:.1f} %" if making else ""
    return (
        f"| {addition.name} | {num_classes} | {whole:,.0f} | {making_share} "
        f"| {more:.0f} = **{100 * more / whole:.1f} %** "
        f"| {own / 1e6:.2f} = {100 * own / (everything - own):.2f} % | {wanted} |"
    )


def main() -> None:
    """Measure and print a row an addition and number of classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[80, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name has this word")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    image = torch.rand(IMAGE, generator=torch.Generator().manual_seed(0))
    print(
        "| addition | classes | base, ms | path, ms | addition, ms | M weights | wanted |\n"
        "|---|---|---|---|---|---|---|"
    )
    for addition in ADDITIONS:
        classes = [count for count in arguments.classes if count == 80 or not addition.even]
        for num_classes in classes if arguments.only in addition.name else ():
            print(measure(addition, num_classes, image, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
