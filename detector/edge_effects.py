"""What edges between classes do to scores: each is taken out, and the stages run again on the same regions.

An edge is one of a reasoning head's class graph, or a pair of classes of class lift, which without it have
lift 1. What a pair of class lift says is also told apart by who says it.
"""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from detector.head_views import ClassEdges, ClassHead, SpeakingUpdate, without_edge
from detector.interfaces import Regions
from detector.knowledge import FOREGROUND
from detector.rcnn import RCNN
from detector.stage import StageOutput

#: A graph with at most so many edges has every one of them tried.
EVERY_EDGE = 400

#: Of a larger one, so many times more are tried than shown.
TRIED = 3

#: A message that moves log-odds by less is not told.
LEAST_MESSAGE = 1e-3

#: Who says less than this share of what the loudest says is not among the speakers.
MURMUR = 0.1


@dataclass(frozen=True)
class Message:
    """What a pair of classes of class lift lets the image say about one of them.

    Attributes:
        about: the class whose logit it moves, 0..C-1.
        log_odds: what it adds to that logit of the detection's region.
        senders: other detections and what the regions on each add, the largest first; the rest of `log_odds`
            comes from regions on none of them.
    """

    about: int
    log_odds: float
    senders: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class EdgeEffect:
    """An edge between classes, and a detection's score without it.

    Attributes:
        graph: which of the head's graphs, from 0; None for a pair of class lift.
        classes: the two, 0..C-1; the same twice for a loop.
        weight: of the edge, the larger of both directions; of class lift, the lift wherever the two stand.
        score: of the detection without the edge.
        messages: of class lift, what the pair says; none of a graph.
    """

    graph: int | None
    classes: tuple[int, int]
    weight: float
    score: float
    messages: tuple[Message, ...] = ()

    @property
    def speakers(self) -> tuple[int, ...]:
        """The other detections that say most of it: a tenth or more of what the loudest says."""
        parts = [part for message in self.messages for part in message.senders]
        least = MURMUR * max((abs(log_odds) for _, log_odds in parts), default=0.0)
        return tuple(sorted({detection for detection, log_odds in parts if abs(log_odds) >= least}))


@dataclass(frozen=True, eq=False)
class Scene:
    """Detections as rows among the regions of one image, and what the stages made of these.

    Attributes:
        proposed: the regions before the first stage.
        seen: the regions that each stage got.
        outputs: what each stage said.
        row_D: the region of each detection.
        label_D: the label of each detection, 1..C.
        same_DR: bool, which regions are looks at the object of each detection.
    """

    proposed: Regions
    seen: list[Regions]
    outputs: list[StageOutput]
    row_D: Tensor
    label_D: Tensor
    same_DR: Tensor


def edge_effects(model: RCNN, scene: Scene, most: int) -> list[list[EdgeEffect]]:
    """Return, for each detection, the edges that were tried and its score without each.

    Of a large graph not every edge is tried: those are that carry the largest messages to a region, `most`
    times `TRIED` of each detection.

    Args:
        model: in evaluation mode; its graphs are as before when this returns.
        scene: the image.
        most: how many edges of a detection are shown.
    """
    parts = [*_of_heads(model, scene, TRIED * most), *_of_updates(model, scene, TRIED * most)]
    return [list(chain.from_iterable(effects)) for effects in zip(*parts, strict=True)] or [
        [] for _ in scene.row_D
    ]


def _of_heads(model: RCNN, scene: Scene, most: int) -> list[list[list[EdgeEffect]]]:
    """Of the first head that reasons over class graphs; what it takes a region for, times attention."""
    for stage, regions in zip(model.stages, scene.seen, strict=True):
        if isinstance(stage.head, ClassHead) and regions.logits_RK is not None:
            attention_C = stage.head.class_attention(stage.pool_maps(regions), regions)[0]
            probability_DC = regions.logits_RK[scene.row_D].float().softmax(dim=1)[:, FOREGROUND]
            share_DC, graphs_GCC = probability_DC * attention_C, stage.head.class_graphs()
            tried = _edges_to_try(graphs_GCC, share_DC, torch.ones_like(share_DC), most)
            effects: list[list[EdgeEffect]] = [[] for _ in scene.row_D]
            for graph, first, second in tried:
                weight = float(
                    torch.maximum(graphs_GCC[graph, first, second], graphs_GCC[graph, second, first])
                )
                scores = _scores_without(model, scene, stage.head, (graph, first, second))
                for of_detection, score in zip(effects, scores, strict=True):
                    of_detection.append(EdgeEffect(graph, (first, second), weight, score))
            return [effects]
    return []


def _of_updates(model: RCNN, scene: Scene, most: int) -> list[list[list[EdgeEffect]]]:
    """Of every score update in which regions tell each other their classes."""
    found: list[list[list[EdgeEffect]]] = []
    for stage, regions, output in zip(model.stages, scene.seen, scene.outputs, strict=True):
        update = stage.score_update
        if not isinstance(update, SpeakingUpdate):
            continue
        probability_RK = stage.class_layer(output.features_RD).float().softmax(dim=1)
        heard_DR, matrix_DR = update.heard(probability_RK, regions, scene.row_D)
        own_DC = probability_RK[scene.row_D][:, FOREGROUND]
        matrices = update.edge_matrices(0)
        weight_1CC = torch.stack(matrices).abs().amax(dim=0, keepdim=True)
        tried = _edges_to_try(weight_1CC, own_DC, heard_DR @ probability_RK[:, FOREGROUND], most)
        effects: list[list[EdgeEffect]] = [[] for _ in scene.row_D]
        for graph, first, second in tried:
            lift = 1 + float(matrices[0][first, second])
            scores = _scores_without(model, scene, update, (graph, first, second))
            ways = [(first, second), (second, first)][: 1 if first == second else 2]
            told = {
                about: heard_DR * update.told(probability_RK, matrix_DR, about, through)
                for about, through in ways
            }
            for place, score in enumerate(scores):
                messages = (_message(place, about, told_DR[place], scene) for about, told_DR in told.items())
                kept = tuple(one for one in messages if abs(one.log_odds) >= LEAST_MESSAGE)
                effects[place].append(EdgeEffect(None, (first, second), lift, score, kept))
        found.append(effects)
    return found


def _message(target: int, about: int, told_R: Tensor, scene: Scene) -> Message:
    """What a detection's region is told about a class, and by the regions on which other detections."""
    parts = [
        (other, float(told_R[same_R].sum())) for other, same_R in enumerate(scene.same_DR) if other != target
    ]
    senders = sorted(
        (part for part in parts if abs(part[1]) >= LEAST_MESSAGE), key=lambda part: -abs(part[1])
    )
    return Message(about, float(told_R.sum()), tuple(senders))


def _scores_without(model: RCNN, scene: Scene, owner: ClassEdges, edge: tuple[int, int, int]) -> list[float]:
    with without_edge(owner, *edge):
        scores_RK = model.score(model.walk(scene.proposed)[2])
    scores: list[float] = scores_RK[scene.row_D, scene.label_D].tolist()
    return scores


def _edges_to_try(
    graphs_GCC: Tensor, share_DC: Tensor, other_DC: Tensor, most: int
) -> list[tuple[int, int, int]]:
    """Every edge of few, else those with the largest share times weight times other share: graph and classes.

    Args:
        graphs_GCC: weights, 0 or more.
        share_DC: of each detection, how much a class counts at one end of an edge.
        other_DC: the same at the other end.
        most: how many of each detection.
    """
    there_GCC = torch.maximum(graphs_GCC, graphs_GCC.mT).triu() > 0
    if int(there_GCC.sum()) <= EVERY_EDGE:
        chosen = {(graph, first, second) for graph, first, second in torch.nonzero(there_GCC).tolist()}
        return sorted(chosen)
    chosen, size = set(), graphs_GCC.shape[-1]
    for share_C, other_C in zip(share_DC, other_DC, strict=True):
        message_GCC = share_C[:, None] * graphs_GCC * other_C
        message = torch.where(there_GCC, message_GCC + message_GCC.mT, 0).flatten()
        for place in message.topk(min(most, len(message))).indices.tolist():
            if message[place] > 0:
                chosen.add((place // size**2, place // size % size, place % size))
    return sorted(chosen)
