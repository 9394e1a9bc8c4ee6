"""What a recipe costs beside its base: the same detector without what the paper adds.

Weights and pictures are random: what a detector costs hardly depends on what it has learned. Proposals are
the anchors themselves, the best by a random score, none of them removed: as many as the recipe allows. Few
detections are above the threshold, so that removal of duplicates costs next to nothing here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from detector.backbone_recipes import load_backbone
from detector.classifier import build_classifier
from detector.config import ModelConfig, ProposalConfig, RetinaNetConfig
from detector.device import pick_device
from detector.heads import ImageContextConfig
from detector.interfaces import SharedHeadConfig, TwoLinearConfig
from detector.measuring import Stopwatch, Work, measure_times, measure_work
from detector.nms import GreedyNMSConfig
from detector.overrides import override
from detector.positions import no_counts
from detector.proposals import RegionProposals
from detector.rcnn import RCNN, build_model
from detector.recipes import load_recipe

#: Classes of ImageNet, for backbones.
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Cost:
    """One row of the table.

    Attributes:
        name: "base", "stacked" (later stages with the plain head of the first) or the recipe.
        work: what does not depend on the machine.
        milliseconds: one image, median.
        region_milliseconds: of these in the region stages and in the removal of duplicates.
    """

    name: str
    work: Work
    milliseconds: float
    region_milliseconds: float


def cost_of_recipe(
    recipe: str,
    *,
    base: str | None = None,
    settings: Mapping[str, Any] | None = None,
    num_classes: int = 80,
    size: int | None = None,
    device: str = "auto",
    repeats: int = 5,
) -> dict[str, Any]:
    """Measure a recipe, its base and, where later stages have papers' heads, the equally stacked plain one.

    Args:
        recipe: name of the recipe.
        base: name of the recipe to compare with; None: the same one without what its paper adds.
        settings: values of the recipe by dotted key, as `--set` of the training; the base is made from these.
        num_classes: C.
        size: side of the square image in px; None: the recipe's short side.
        device: "auto", "cpu" or "cuda".
        repeats: timed runs of each, in turns.

    Returns:
        the setting, a row for each model, and "added": what the recipe adds to its base, in percent.

    Raises:
        ConfigError: a recipe or a setting that is not known.
        MissingResourceError: no such device.
    """
    config = override(load_recipe(recipe), settings or {})
    models = {"base": base_of(config.model) if base is None else load_recipe(base).model}
    stacked = stacked_of(config.model)
    if stacked is not None:
        models["stacked"] = stacked
    models[recipe] = config.model
    side, target = size or config.model.min_size, pick_device(device)
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)).to(target)
    built = [_build(model, num_classes, side, target) for model in models.values()]
    regions = _count_regions(built[-1], image)
    rows = _measure(list(models), built, [image], target, repeats)
    return _report(recipe, rows, target, {"classes": num_classes, "size": side, "regions": regions})


def cost_of_backbone(
    name: str, *, size: int | None = None, device: str = "auto", repeats: int = 5
) -> dict[str, Any]:
    """Measure a backbone as an ImageNet classifier beside the same without context blocks.

    Args:
        name: a name of `detector.backbone_recipes`.
        size: side of the square image in px; None: 224.
        device: "auto", "cpu" or "cuda".
        repeats: timed runs of each, in turns.

    Raises:
        ConfigError: a backbone that is not known.
        MissingResourceError: no such device.
    """
    config = load_backbone(name)
    side, target = size or 224, pick_device(device)
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(target)
    models = []
    for variant in (replace(config, blocks=(), deformable=()), config):
        torch.manual_seed(0)
        models.append(build_classifier(variant, IMAGENET_CLASSES).to(target).eval())
    rows = _measure(["base", name], models, images, target, repeats)
    return _report(name, rows, target, {"classes": IMAGENET_CLASSES, "size": side})


def base_of(config: ModelConfig) -> ModelConfig:
    """Take away what a paper adds: later stages, context blocks, offsets, other heads, scores or NMS.

    A first head of a paper becomes the plain one of its width. Behind RetinaNet every stage is an addition.
    """
    stages = config.stages[:0] if isinstance(config.proposals, RetinaNetConfig) else config.stages[:1]
    for stage in stages:
        if _is_of_paper(stage.head):
            plain = TwoLinearConfig(getattr(stage.head, "width", TwoLinearConfig().width))
            stages = (replace(stage, head=plain),)
    stages = tuple(replace(stage, score_update=None) for stage in stages)
    backbone = replace(config.backbone, blocks=(), deformable=())
    return replace(
        config, stages=stages, backbone=backbone, class_scores="last", duplicate_removal=GreedyNMSConfig()
    )


def stacked_of(config: ModelConfig) -> ModelConfig | None:
    """Replace papers' heads in later stages by the plain head of the first; None when there are none."""
    stages = tuple(
        replace(stage, head=SharedHeadConfig()) if number > 0 and _is_of_paper(stage.head) else stage
        for number, stage in enumerate(config.stages)
    )
    return None if stages == config.stages else replace(config, stages=stages)


def _is_of_paper(head: object) -> bool:
    """Whether a head adds something to the plain one: a paper's, or our control of those."""
    return isinstance(head, ImageContextConfig) or type(head).__module__.startswith("detector.reasoning.")


def _build(config: ModelConfig, num_classes: int, side: int, device: torch.device) -> RCNN:
    """Make a model with random weights whose proposals are its anchors, for images of one size."""
    torch.manual_seed(0)
    backbone = replace(config.backbone, weights="none")
    proposals = config.proposals
    if isinstance(proposals, ProposalConfig):
        proposals = replace(proposals, nms_iou_test=1.0)
    config = replace(config, backbone=backbone, proposals=proposals, min_size=side, max_size=side)
    graph_CC = torch.rand(num_classes, num_classes)
    counts_CC = (10 * (graph_CC + graph_CC.T)).round()
    model = build_model(config, num_classes, graph_CC, counts_CC, positions=no_counts(num_classes))
    if isinstance(model.proposals, RegionProposals):
        nn.init.zeros_(model.proposals.head.bbox_pred.weight)
    return model.to(device).eval()


def _count_regions(model: RCNN, image: Tensor) -> int:
    """Count what reaches the region stages, all of which get the same number."""
    counts: list[int] = []
    stages = cast("Sequence[nn.Module]", model.stages)
    hooks = [stage.register_forward_pre_hook(lambda _, seen: counts.append(len(seen[0]))) for stage in stages]
    with torch.no_grad():
        model([image])
    for hook in hooks:
        hook.remove()
    return counts[0] if counts else 0


def _measure(
    names: Sequence[str], models: Sequence[nn.Module], images: Any, device: torch.device, repeats: int
) -> list[Cost]:
    """Count the work of every model, then time them in turns."""
    runs = [partial(model, images) for model in models]
    work = [measure_work(model, run) for model, run in zip(models, runs, strict=True)]
    watches = [Stopwatch(_region_parts(model), device) for model in models]
    times = measure_times(runs, watches, device, repeats)
    return [Cost(name, one, *two) for name, one, two in zip(names, work, times, strict=True)]


def _region_parts(model: nn.Module) -> Sequence[nn.Module]:
    """What a detector does after its proposals; a classifier has nothing there."""
    if not isinstance(model, RCNN):
        return ()
    return [*cast("Sequence[nn.Module]", model.stages), cast("nn.Module", model.duplicate_removal)]


def _report(name: str, rows: Sequence[Cost], device: torch.device, setting: dict[str, int]) -> dict[str, Any]:
    """Put the table together, with what the last row adds to the first in percent of the first."""
    base, full = rows[0], rows[-1]

    def percent(value: float, whole: float) -> float:
        return round(100 * value / whole, 2)

    added = {
        "weights": percent(full.work.weights - base.work.weights, base.work.weights),
        "multiply_adds": percent(full.work.multiply_adds - base.work.multiply_adds, base.work.multiply_adds),
        "milliseconds": percent(full.milliseconds - base.milliseconds, base.milliseconds),
        "peak_bytes": percent(full.work.peak_bytes - base.work.peak_bytes, base.work.peak_bytes),
    }
    if full.region_milliseconds > 0:
        beyond = full.region_milliseconds - base.region_milliseconds
        added["region_milliseconds"] = percent(beyond, base.milliseconds)
    if len(rows) == 3:
        beyond = full.region_milliseconds - rows[1].region_milliseconds
        added["beyond_stacked"] = percent(beyond, base.milliseconds)
    shown = "cuda" if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    table = [{**asdict(row), **asdict(row.work)} for row in rows]
    for row in table:
        del row["work"]
    return {"name": name, "device": shown, **setting, "models": table, "added_percent": added}
