"""Why a detector gives an object its score: the image's classes, graph edges and other objects behind it.

What a head weighs (attention over classes, regions that look at each other) is shown as it is. What moved a
score is measured: an edge is taken out of the graph, or an object out of the image's regions, and the stages
run again on the same regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detector.edge_effects import EdgeEffect, Message, Scene, edge_effects
from detector.head_views import ClassHead, RegionHead
from detector.interfaces import Regions
from detector.knowledge import FOREGROUND
from detector.rcnn import RCNN

#: Regions that overlap a detection by this are looks at the same object.
SAME_IOU = 0.5

#: A score that moves by less than this has not moved; sums in another order do that.
LEAST_CHANGE = 1e-5


@dataclass(frozen=True)
class ObjectEffect:
    """Another object, and a detection's score without all regions on it.

    Attributes:
        detection: its place in the list of detections, from 0.
        weight: how much the detection's region looks at the regions on it, 0..1; None where no head looks.
        score: of the detection without them.
    """

    detection: int
    weight: float | None
    score: float


@dataclass(frozen=True, eq=False)
class ExplainedDetection:
    """One detection and what is behind its score.

    Attributes:
        box_4: xyxy px of the image.
        class_index: 0..C-1.
        score: of the class, 0..1, before duplicates are removed.
        edges: those between classes that moved the score most, the largest change first; none without a
            class graph.
        objects: the same of other detections.
        looks_M4: boxes of the regions that its own region looks at most, px; none where no head looks.
        looks_M: the weights of these.
    """

    box_4: Tensor
    class_index: int
    score: float
    edges: tuple[EdgeEffect, ...]
    objects: tuple[ObjectEffect, ...]
    looks_M4: Tensor
    looks_M: Tensor


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is behind the detections of one image.

    Attributes:
        detections: best first.
        attention_C: weight of each class in the image; None where no head weighs classes.
    """

    detections: tuple[ExplainedDetection, ...]
    attention_C: Tensor | None


@dataclass(frozen=True, eq=False)
class _Found:
    """Detections as rows among the regions: which region and which label (1..C) each is."""

    row_D: Tensor
    label_D: Tensor
    boxes_D4: Tensor  # px of the batch image


def explain(
    model: RCNN, image: Tensor, *, threshold: float = 0.5, most_detections: int = 8, most: int = 8
) -> Explanation:
    """Explain the best detections of an image.

    Of a large graph not every edge is tried: those are that carry the largest messages to the region (P alpha
    E of Reasoning-RCNN's equation 1; P of the region times L - 1 times what it hears, of class lift), three
    times as many as are asked for. One that moves more may be missed.

    Args:
        model: in evaluation mode.
        image: (3, H, W) in 0..1, on the model's device.
        threshold: detections with a lower score are left out.
        most_detections: how many detections.
        most: how many edges, and how many regions, of each.
    """
    with torch.no_grad():
        batch, _ = model.transform([image])
        proposed, _ = model.proposals(batch, model.backbone(batch.tensors), None)
        seen, outputs, regions = model.walk(proposed)
        features_RD = outputs[-1].features_RD if outputs else regions.boxes_R4[:, :0]
        scores_RK = model.score(regions)
        (output,) = model.duplicate_removal(scores_RK, regions.boxes_R4, features_RD, regions, None)[0]
        found = _find_rows(output, regions, scores_RK, threshold, most_detections)
        score_D = scores_RK[found.row_D, found.label_D]
        weight_DR = _region_weights(model, seen, found)
        same_DR = box_iou(found.boxes_D4, regions.boxes_R4) >= SAME_IOU
        objects = _objects(model, proposed, found, same_DR, weight_DR)
        scene = Scene(proposed, seen, outputs, found.row_D, found.label_D, same_DR)
        attention_C, edges = _attention(model, seen), edge_effects(model, scene, most)

    def in_px(boxes_N4: Tensor) -> Tensor:
        size = (image.shape[-2], image.shape[-1])
        (scaled,) = model.transform.postprocess([{"boxes": boxes_N4}], batch.image_sizes, [size])
        boxes: Tensor = scaled["boxes"].cpu()
        return boxes

    boxes_D4, boxes_R4 = in_px(found.boxes_D4), in_px(regions.boxes_R4)
    detections = []
    for place, label in enumerate(found.label_D.tolist()):
        looks = torch.zeros(0, dtype=torch.int64)
        if weight_DR is not None:
            looks = weight_DR[place].argsort(descending=True, stable=True)[:most].cpu()
        weights = (
            looks.new_zeros(0, dtype=torch.float32) if weight_DR is None else weight_DR[place].cpu()[looks]
        )
        score = float(score_D[place])
        detections.append(
            ExplainedDetection(
                boxes_D4[place],
                label - FOREGROUND.start,
                score,
                _by_change(edges[place], score)[:most],
                _by_change(objects[place], score),
                boxes_R4[looks],
                weights,
            )
        )
    return Explanation(tuple(detections), attention_C)


def to_document(explanation: Explanation, names: Sequence[str], *, top: int = 20) -> dict[str, Any]:
    """Return an explanation as `detector explain --json` has it: classes by name, `top` of the attention."""

    def change(effect: EdgeEffect | ObjectEffect, score: float) -> dict[str, Any]:
        return {"score_without": round(effect.score, 6), "change": round(effect.score - score, 6)}

    def kind(edge: EdgeEffect) -> dict[str, Any]:
        if edge.graph is not None:
            return {"graph": edge.graph, "weight": round(edge.weight, 6)}
        messages = [_message(one, names) for one in edge.messages]
        return {"lift": round(edge.weight, 6), "said_by": list(edge.speakers), "messages": messages}

    rows = [
        {
            "class": names[found.class_index],
            "score": round(found.score, 6),
            "box": [round(side, 2) for side in found.box_4.tolist()],
            "edges": [
                {"classes": [names[place] for place in edge.classes], **kind(edge)}
                | change(edge, found.score)
                for edge in found.edges
            ],
            "objects": [
                {"detection": other.detection}
                | {"class": names[explanation.detections[other.detection].class_index]}
                | ({} if other.weight is None else {"weight": round(other.weight, 6)})
                | change(other, found.score)
                for other in found.objects
            ],
            "looks_at": [
                {"box": [round(side, 2) for side in box], "weight": round(weight, 6)}
                for box, weight in zip(found.looks_M4.tolist(), found.looks_M.tolist(), strict=True)
            ],
        }
        for found in explanation.detections
    ]
    document: dict[str, Any] = {"detections": rows}
    if explanation.attention_C is not None:
        order = explanation.attention_C.argsort(descending=True, stable=True)[:top].tolist()
        weights = explanation.attention_C.tolist()
        document["attention"] = [
            {"class": names[place], "weight": round(weights[place], 6)} for place in order
        ]
    return document


def _message(message: Message, names: Sequence[str]) -> dict[str, Any]:
    senders = [{"detection": place, "log_odds": round(part, 4)} for place, part in message.senders]
    return {"about": names[message.about], "log_odds": round(message.log_odds, 4), "from": senders}


def _find_rows(
    output: dict[str, Tensor], regions: Regions, scores_RK: Tensor, threshold: float, most: int
) -> _Found:
    """The region of each detection: the one with its box, and of several the one with the highest score."""
    kept = torch.nonzero(output["scores"] >= threshold).flatten()[:most]
    boxes_D4, label_D = output["boxes"][kept], output["labels"][kept]
    rows = []
    for box_4, label in zip(boxes_D4, label_D.tolist(), strict=True):
        distance_R = (regions.boxes_R4 - box_4).abs().amax(dim=1)
        nearest = distance_R <= distance_R.min()
        rows.append(int(scores_RK[:, label].masked_fill(~nearest, -1).argmax()))
    return _Found(torch.tensor(rows, dtype=torch.int64, device=boxes_D4.device), label_D, boxes_D4)


def _region_weights(model: RCNN, seen: list[Regions], found: _Found) -> Tensor | None:
    """What the regions of the detections look at, (D, R), in the last stage whose head looks."""
    for stage, regions in reversed(list(zip(model.stages, seen, strict=True))):
        if isinstance(stage.head, RegionHead):
            return stage.head.region_weights(stage.pool_maps(regions), regions)[found.row_D]
    return None


def _objects(
    model: RCNN, proposed: Regions, found: _Found, same_DR: Tensor, weight_DR: Tensor | None
) -> list[list[ObjectEffect]]:
    """For each detection, its score without the regions on each other one; its own regions stay."""
    effects: list[list[ObjectEffect]] = []
    for target, (row, label) in enumerate(zip(found.row_D.tolist(), found.label_D.tolist(), strict=True)):
        effects.append([])
        for other in range(len(same_DR)):
            left_out = same_DR[other] & ~same_DR[target]
            left_out[row] = False
            if other == target or not left_out.any():
                continue
            kept = torch.nonzero(~left_out).flatten()
            scores_RK = model.score(model.walk(proposed[kept])[2])
            score = float(scores_RK[int((kept == row).nonzero()), label])
            weight = None if weight_DR is None else float(weight_DR[target][left_out].sum())
            effects[-1].append(ObjectEffect(other, weight, score))
    return effects


def _attention(model: RCNN, seen: list[Regions]) -> Tensor | None:
    """Where the attention of the first head that reasons over classes lies, (C,)."""
    for stage, regions in zip(model.stages, seen, strict=True):
        if isinstance(stage.head, ClassHead) and regions.logits_RK is not None:
            return stage.head.class_attention(stage.pool_maps(regions), regions)[0].cpu()
    return None


def _by_change(effects: list[Any], score: float) -> tuple[Any, ...]:
    """Those that moved the score, the largest change first."""
    moved = [effect for effect in effects if abs(effect.score - score) >= LEAST_CHANGE]
    return tuple(sorted(moved, key=lambda effect: -abs(effect.score - score)))
