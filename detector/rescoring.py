"""Class lift without training, on the detections of any detector: only box, class and score are known.

    m_j(c) = log(1 - s_j + s_j L_{c_j c})                          what detection j says about class c
    nu_j = max(1, sum_k 1[IoU(b_j, b_k) > 0.4] s_k)                detections of one object speak once
    u_i = sum_j 1[IoU(b_i, b_j) < 0.3] m_j(c_i) / nu_j             context of detection i
    s'_i = sigma(logit(s_i) + lambda u_i)

    L  lift of two classes (`knowledge.lift_of`);  s  score, c  class, b  box of a detection

It is the message of `reasoning/class_lift.py` where the rest of a score, 1 - s, says nothing and hears
nothing: a detector's other classes are not known, so the share of foreground cannot be kept here.

The strength lambda may be learned from annotated images: right(i) ~ sigma(a logit(s_i) + b + g u_i) by
maximum likelihood, lambda = max(0, g / a). A detection is right when it overlaps a box of its class that no
better one has taken, by 0.5 or more. A graph that is of no use gets a strength near 0. And its rows may be
trusted as far as other annotated images bear them out (`detector.trust`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from detector.annotations import Annotations, read_annotations, to_clipped_xyxy
from detector.coco_metrics import coco_metrics
from detector.coco_results import Results, read_results, save_results
from detector.detections import Detections
from detector.errors import ConfigError, InputError, OutputExistsError
from detector.knowledge import lift_of, load_knowledge
from detector.trust import count_pairs, row_trust, trusted_lift

#: As in reasoning/class_lift.py: less overlap, another object; more overlap, the same one.
APART_IOU, SAME_IOU = 0.3, 0.4
#: k, pairs that every two classes get as seen and as expected.
SMOOTHING = 1.0
#: Scores are kept this far from 0 and 1, where their logit is finite.
LEAST_DOUBT = 1e-6
#: A detection that overlaps a box of its class so much is right.
RIGHT_IOU = 0.5
NEWTON_STEPS = 25


def rescore_file(
    graph: Path,
    detections: Path,
    out: Path,
    *,
    annotations: Path | None = None,
    strength: float | None = 0.5,
    learn_images: int = 100,
    trust: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Apply a class graph to a COCO results file and write it again with other scores.

    Args:
        graph: class-graph file with counts of class pairs.
        detections: COCO results of any detector; with `category_name` in its records where there are no
            annotations.
        out: file to write: the same records, in their order, with new scores.
        annotations: COCO JSON of the images, or of some of them; its categories name the classes.
        strength: lambda; None: learned from the first `learn_images` annotated images.
        learn_images: how many; AP is of the others then.
        trust: COCO JSON of other images than `annotations`, such as those of the training: the graph counts
            as far as its boxes bear it out (`detector.trust`). None: as it is.
        seed: of the shuffled graph.
        overwrite: replace `out`.

    Returns:
        "strength", "num_detections", "num_images" and, with annotations, "metrics": the twelve COCO numbers
        "before", "after", and of the "shuffled" graph (its strength learned in the same way).

    Raises:
        InputError, ClassMatchError: a file is not what it should be, `trust` has images of `annotations`, or
            the graph lacks a class.
        ConfigError: the graph has no counts of class pairs, or there is nothing to learn a strength from.
        OutputExistsError: `out` is there.
    """
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out}: already exists; give --overwrite to replace it, or another --out")
    truth = read_annotations(annotations) if annotations else None
    results = read_results(detections, truth)
    lift_CC = load_lift(graph, results)
    own_CC = None if trust is None else _pairs_of(trust, results, truth)
    learned_from, evaluated = _divided(truth, learn_images if strength is None else 0)
    order = np.random.default_rng(seed).permutation(len(lift_CC))
    scores_by_name, strengths = {"before": results.score_N}, {"before": 0.0}
    for name, lift in (("after", lift_CC), ("shuffled", lift_CC[np.ix_(order, order)])):
        if own_CC is not None:
            lift = trusted_lift(torch.from_numpy(lift), row_trust(torch.from_numpy(lift), own_CC)).numpy()
        context_N = context_of(results, lift)
        chosen = strength
        if chosen is None:
            assert learned_from is not None
            chosen = learn_strength(results, context_N, learned_from)
        strengths[name] = chosen
        scores_by_name[name] = moved_scores(results.score_N, context_N, chosen)
    save_results(results, scores_by_name["after"], out)
    report: dict[str, Any] = {
        "strength": strengths["after"],
        "num_detections": len(results.score_N),
        "num_images": len(np.unique(results.image_N)),
    }
    if evaluated is not None:
        report["evaluated_images"] = evaluated.num_images
        report["shuffled_strength"] = strengths["shuffled"]
        report["metrics"] = {
            name: coco_metrics(evaluated, _of_images(results, scores, evaluated))
            for name, scores in scores_by_name.items()
        }
    return report


def load_lift(graph: Path, results: Results) -> np.ndarray:
    """Load the lift of every two classes of the results, (C, C).

    Raises:
        ConfigError: the graph has no counts of class pairs.
        ClassMatchError: it lacks a class.
    """
    counts_CC = load_knowledge(graph, results.class_names, results.synsets).counts_CC
    if counts_CC is None:
        raise ConfigError(
            f"{graph}: found no counts of class pairs; expected a graph of kgtool build-relation or "
            "build-cooccurrence"
        )
    return np.asarray(lift_of(counts_CC, SMOOTHING))


def _pairs_of(path: Path, results: Results, truth: Annotations | None) -> torch.Tensor:
    """Count the pairs of boxes of a file, none of whose images is in `truth`, in the results' class order."""
    annotations = read_annotations(path)
    known = set() if truth is None else {picture for picture in _pictures_of(truth) if picture[2]}
    shared = [picture[0] for picture in _pictures_of(annotations) if picture in known]
    if truth is not None and shared:
        raise InputError(
            f"--trust {path}: {len(shared)} of its images, such as {shared[0]}, are in {truth.path} too; "
            "expected other images: what AP is computed from must teach nothing"
        )
    return count_pairs(annotations.with_classes(results.class_names, owner="the detections"))


def _pictures_of(
    annotations: Annotations,
) -> Iterator[tuple[str, tuple[int, int], tuple[tuple[float, ...], ...]]]:
    """What two files say alike of the same image: name, height and width, and boxes; ids may differ."""
    bounds = zip(annotations.offsets, annotations.offsets[1:], strict=False)
    names, sizes = annotations.file_names.tolist(), annotations.sizes_I2.tolist()
    for name, (height, width), (first, end) in zip(names, sizes, bounds, strict=True):
        boxes = sorted(map(tuple, annotations.boxes_xywh[first:end].tolist()))
        yield name, (height, width), tuple(boxes)


def context_of(results: Results, lift_CC: np.ndarray) -> np.ndarray:
    """Return u of every detection, (N,): what the other objects of its image say about its class."""
    context_N = np.zeros(len(results.score_N))
    order = np.argsort(results.image_N, kind="stable")
    first = np.flatnonzero(np.diff(results.image_N[order], prepend=np.nan))
    for rows in np.split(order, first[1:]):
        classes, score_R = results.class_N[rows], results.score_N[rows]
        boxes = torch.from_numpy(results.boxes_xyxy[rows])
        iou_RR = box_iou(boxes, boxes).numpy()
        message_RR = np.log1p(score_R[:, None] * (lift_CC[np.ix_(classes, classes)] - 1))
        voices_R = np.maximum((iou_RR > SAME_IOU) @ score_R, 1)
        context_N[rows] = ((iou_RR < APART_IOU) * message_RR / voices_R[:, None]).sum(axis=0)
    return context_N


def moved_scores(score_N: np.ndarray, context_N: np.ndarray, strength: float) -> np.ndarray:
    """Return s': scores whose odds are multiplied by exp(strength * context); strength 0 changes none."""
    if strength == 0:
        return score_N
    moved_N: np.ndarray = 1 / (1 + np.exp(-(_logit(score_N) + strength * context_N)))
    return moved_N


def learn_strength(results: Results, context_N: np.ndarray, annotations: Annotations) -> float:
    """Learn lambda by logistic regression of right and wrong detections (top of this file).

    Raises:
        ConfigError: the images have no right or no wrong detections.
    """
    found = _of_images(results, results.score_N, annotations)
    right_N = _right(found, annotations)
    if right_N.all() or not right_N.any():
        raise ConfigError(
            f"--strength auto: the {annotations.num_images} annotated images have {right_N.sum()} right of "
            f"{len(right_N)} detections; expected right and wrong ones; give a number instead"
        )
    inside = np.isin(results.image_N, annotations.image_ids)
    logit_N = _logit(results.score_N[inside])
    columns = np.column_stack([logit_N, np.ones(len(logit_N)), context_N[inside]])
    slope, _, gain = _logistic_regression(columns, right_N)
    return max(0.0, float(gain / slope)) if slope > 0 else 0.0


def _logistic_regression(columns: np.ndarray, right_N: np.ndarray) -> np.ndarray:
    """Maximum likelihood by Newton's method, with a weak pull to (1, 0, 0) that keeps it finite."""
    start = np.array([1.0, 0.0, 0.0])
    weights = start.copy()
    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(columns @ weights, -30, 30)))
        gradient = columns.T @ (right_N - probability) - (weights - start)
        curvature = (columns * (probability * (1 - probability))[:, None]).T @ columns + np.eye(3)
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def _right(found: Detections, annotations: Annotations) -> np.ndarray:
    """Say of every detection whether it is the best one of some box of its class."""
    sizes = np.repeat(annotations.sizes_I2, np.diff(annotations.offsets), axis=0)
    truth_xyxy = to_clipped_xyxy(annotations.boxes_xywh, sizes)
    right_N = np.zeros(len(found), dtype=bool)
    taken = set(np.flatnonzero(~annotations.usable_N).tolist())
    for row in np.argsort(-found.score_N, kind="stable").tolist():
        first, end = annotations.offsets[found.image_N[row] : found.image_N[row] + 2]
        same = [
            box
            for box in range(first, end)
            if annotations.class_N[box] == found.class_N[row] and box not in taken
        ]
        if same:
            own = torch.from_numpy(found.boxes_xyxy[row : row + 1])
            iou = box_iou(own.float(), torch.from_numpy(truth_xyxy[same]))[0]
            if iou.max() >= RIGHT_IOU:
                right_N[row] = True
                taken.add(same[int(iou.argmax())])
    return right_N


def _divided(
    annotations: Annotations | None, learn_images: int
) -> tuple[Annotations | None, Annotations | None]:
    """The images to learn from and those to evaluate on."""
    if annotations is None:
        if learn_images:
            raise ConfigError("--strength auto: needs --annotations to learn from; or give a number")
        return None, None
    images = np.arange(annotations.num_images)
    if learn_images >= len(images):
        raise ConfigError(
            f"--learn-images {learn_images}: {annotations.path} has {len(images)} images; expected more, so "
            "that some are left to evaluate on"
        )
    return annotations.select(images[:learn_images]), annotations.select(images[learn_images:])


def _of_images(results: Results, score_N: np.ndarray, annotations: Annotations) -> Detections:
    """The detections of a split's images, in the order of the results."""
    inside = np.isin(results.image_N, annotations.image_ids)
    order = np.argsort(annotations.image_ids)
    place = np.searchsorted(annotations.image_ids[order], results.image_N[inside])
    return Detections(order[place], results.boxes_xyxy[inside], results.class_N[inside], score_N[inside])


def _logit(score_N: np.ndarray) -> np.ndarray:
    clipped = score_N.clip(LEAST_DOUBT, 1 - LEAST_DOUBT)
    logit_N: np.ndarray = np.log(clipped) - np.log1p(-clipped)
    return logit_N
