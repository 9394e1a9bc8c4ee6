"""Pictures of an evaluation: precision over recall, and which classes are taken for which."""

from pathlib import Path
from typing import Any

import numpy as np

from detector.coco_metrics import IOU_THRESHOLDS, Curves
from detector.confusion import IOU_THRESHOLD, confusion_matrix
from detector.evaluation import Evaluation
from detector.frequencies import FREQUENCIES
from detector.plotting import LINES, label_axes, new_figure, save_picture

#: Below this score a detection is not in the picture of confusions; that of `detector predict`.
SCORE_THRESHOLD = 0.5
#: The most classes that fit into a picture of confusions, and that have a line of their own.
MOST_CONFUSED, MOST_LINES = 30, 8

_GROUPS = dict(zip(FREQUENCIES, ("rare", "common", "frequent"), strict=True))


def save_curves(evaluation: Evaluation, path: Path) -> None:
    """Draw precision over recall of boxes: the mean of all classes by IoU, and classes at IoU 0.5."""
    figure = new_figure(11, 4.8)
    mean, classes = figure.subplots(1, 2, sharey=True)
    _draw_means(mean, evaluation.curves)
    _draw_classes(classes, evaluation)
    for axes in (mean, classes):
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.25)
        if axes.lines:
            axes.legend(loc="best", fontsize=8, framealpha=0.9, edgecolor="none")
    save_picture(figure, path)


def save_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the share of each true class's boxes that was found as each class; of many, the most confused."""
    counts = confusion_matrix(evaluation.annotations, evaluation.detections, score_threshold=SCORE_THRESHOLD)
    chosen = most_confused(counts, MOST_CONFUSED)
    shown = with_others(counts, chosen)
    names = [evaluation.annotations.class_names[place] for place in chosen]
    names += ["other classes", "nothing"][-(len(shown) - len(names)) :]
    share = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    side = 3.5 + 0.3 * len(names)
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for row, column in zip(*np.nonzero(shown), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(shown[row, column]), ha="center", va="center", fontsize=6, color=colour)
    total = len(counts) - 1
    which = "" if len(chosen) == total else f", the {len(chosen)} of {total} classes confused most"
    title = f"boxes, found at IoU {IOU_THRESHOLD} and score {SCORE_THRESHOLD}{which}"
    label_axes(axes, title, "found as", "true class")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    save_picture(figure, path)


def most_confused(counts: np.ndarray, most: int) -> np.ndarray:
    """Choose the classes with the most boxes taken for another class or from it, in their own order.

    Args:
        counts: see `confusion_matrix`.
        most: how many.
    """
    between = counts[:-1, :-1] * (1 - np.eye(len(counts) - 1, dtype=np.int64))
    wrong_C = between.sum(axis=0) + between.sum(axis=1)
    order = np.lexsort((-counts[:-1].sum(axis=1), -wrong_C))
    return np.sort(order[:most])


def with_others(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Keep some classes of a confusion matrix, with the sum of all others, if there are any, and nothing."""
    group_C = np.full(len(counts), len(chosen))
    group_C[chosen] = np.arange(len(chosen))
    group_C[-1] = len(chosen) + (len(chosen) < len(counts) - 1)
    kept = np.zeros((group_C[-1] + 1,) * 2, dtype=np.int64)
    np.add.at(kept, (group_C[:, None], group_C[None]), counts)
    return kept


def _draw_means(axes: Any, curves: Curves) -> None:
    from matplotlib import colormaps

    recall = np.linspace(0, 1, 101)
    for threshold, precision_RC in zip(IOU_THRESHOLDS, curves.precision_TRCA[..., 0], strict=True):
        found = precision_RC[:, precision_RC[0] > -1]
        if found.size:
            colour = colormaps["viridis"](1 - (threshold - 0.4) / 0.6)
            label = f"IoU {threshold:.2f}: AP {100 * found.mean():.1f}"
            axes.plot(recall, found.mean(axis=1), color=colour, label=label)
    label_axes(axes, "mean of all classes", "recall", "precision")


def _draw_classes(axes: Any, evaluation: Evaluation) -> None:
    recall = np.linspace(0, 1, 101)
    for label, precision_R in _class_lines(evaluation):
        colour = LINES[len(axes.lines) % len(LINES)]
        axes.plot(recall, precision_R, color=colour, label=f"{label}: AP50 {100 * precision_R.mean():.1f}")
    label_axes(axes, f"classes at IoU {IOU_THRESHOLDS[0]}", "recall", "")


def _class_lines(evaluation: Evaluation) -> list[tuple[str, np.ndarray]]:
    """A line for each of few classes; of many, one for each group, or for each third by AP."""
    curves = evaluation.curves
    precision_RC = curves.precision_TRCA[0, ..., 0]
    found = np.flatnonzero(precision_RC[0] > -1)
    names = [evaluation.annotations.class_names[curves.class_C[place]] for place in found]
    if len(found) <= MOST_LINES:
        return [(name, precision_RC[:, place]) for name, place in zip(names, found, strict=True)]
    if evaluation.frequencies:
        group = np.array(evaluation.frequencies)[curves.class_C[found]]
        chosen = {f"{_GROUPS[one]} classes ({(group == one).sum()})": found[group == one] for one in _GROUPS}
    else:
        by_ap = found[np.argsort(precision_RC[:, found].mean(axis=0), kind="stable")]
        thirds = zip(("weakest", "middle", "strongest"), np.array_split(by_ap, 3), strict=True)
        chosen = {f"{label} third ({len(places)} classes)": places for label, places in thirds}
    return [(label, precision_RC[:, places].mean(axis=1)) for label, places in chosen.items() if len(places)]
