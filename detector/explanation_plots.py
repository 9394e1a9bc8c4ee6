"""Pictures of an explanation: the image's attention over classes, and what is behind each detection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.edge_effects import EdgeEffect
from detector.explanation import ExplainedDetection, Explanation, ObjectEffect
from detector.plotting import LINES, label_axes, new_figure, save_picture

#: Classes that the picture of the attention shows.
SHOWN = 15

#: Rows that the picture of changes has room for at least, so that few bars are not thick.
_ROWS = 8

_TARGET, _LOOKED_AT, _LOWER, _HIGHER = LINES[1], "#ffe600", LINES[0], LINES[4]


def save_attention(explanation: Explanation, names: Sequence[str], path: Path) -> None:
    """Draw the weights of the classes that the image is most about, beside the same weight for all."""
    assert explanation.attention_C is not None
    attention_C = explanation.attention_C.numpy()
    order = np.argsort(-attention_C, kind="stable")[:SHOWN]
    figure = new_figure(6, 1.2 + 0.28 * len(order))
    axes = figure.subplots()
    axes.barh(range(len(order)), attention_C[order], color=LINES[0])
    axes.axvline(attention_C.mean(), color="#999999", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(order)), [names[place] for place in order])
    axes.invert_yaxis()
    share = attention_C[order].sum() / max(attention_C.sum(), np.finfo(np.float64).tiny)
    title = f"{len(order)} of {len(names)} classes, {share:.0%} of the weight; dashed: the mean of all"
    label_axes(axes, title, "attention of the image", "")
    save_picture(figure, path)


def save_detection(
    explanation: Explanation, place: int, pixels_HW3: np.ndarray, names: Sequence[str], path: Path
) -> None:
    """Draw one detection: where its region looks, and how its score changes without an edge or an object."""
    found = explanation.detections[place]
    figure = new_figure(11, 4.8)
    image, bars = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_image(image, explanation, place, pixels_HW3)
    title = f"{place + 1} {names[found.class_index]}, score {found.score:.2f}"
    looks = "; yellow: regions it looks at" if len(found.looks_M) else ""
    image.set_title(title + looks, fontsize=10)
    _draw_changes(bars, explanation, found, names)
    save_picture(figure, path)


def _draw_image(axes: Any, explanation: Explanation, place: int, pixels_HW3: np.ndarray) -> None:
    """The detection and the others by number; regions that are looked at, the fainter the less."""
    axes.imshow(pixels_HW3)
    axes.set_axis_off()
    found = explanation.detections[place]
    for other in explanation.detections:
        if other is not found:
            _draw_box(axes, other.box_4.tolist(), "white", 1.0, 1.0)
    largest = max(found.looks_M.tolist(), default=1.0)
    for box, weight in zip(found.looks_M4.tolist(), found.looks_M.tolist(), strict=True):
        _draw_box(axes, box, _LOOKED_AT, 2.5, 0.15 + 0.85 * weight / largest)
    _draw_box(axes, found.box_4.tolist(), _TARGET, 2.5, 1.0)
    numbered = [*enumerate(explanation.detections, start=1)]
    for number, other in sorted(numbered, key=lambda pair: pair[1] is found):  # its own number on top
        colours = {"facecolor": _TARGET if other is found else "white", "edgecolor": "none", "pad": 1}
        left, top = other.box_4.tolist()[:2]
        ink = "white" if other is found else "black"
        axes.text(left, top, str(number), fontsize=8, color=ink, bbox=colours)


def _draw_changes(
    axes: Any, explanation: Explanation, found: ExplainedDetection, names: Sequence[str]
) -> None:
    effects: list[EdgeEffect | ObjectEffect] = [*found.edges, *found.objects]
    effects.sort(key=lambda effect: -abs(effect.score - found.score))
    changes = [effect.score - found.score for effect in effects]
    labels = [_label(effect, explanation, names) for effect in effects]
    axes.barh(range(len(effects)), changes, color=[_LOWER if change < 0 else _HIGHER for change in changes])
    axes.axvline(0, color="#999999", linewidth=1)
    axes.set_yticks(range(len(effects)), labels, fontsize=8)
    for row, change in enumerate(changes):
        side = "right" if change < 0 else "left"
        axes.annotate(
            f" {change:+.3f} ", (change, row), ha=side, va="center", fontsize=8, annotation_clip=False
        )
    axes.set_ylim(max(len(effects), _ROWS) - 0.4, -0.6)
    axes.margins(x=0.15)
    if not effects:
        axes.text(0.5, 0.5, "no edge and no other object moves it", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
    label_axes(axes, "how the score changes without it", "", "")


def _label(effect: EdgeEffect | ObjectEffect, explanation: Explanation, names: Sequence[str]) -> str:
    if isinstance(effect, ObjectEffect):
        other = explanation.detections[effect.detection]
        return f"object {effect.detection + 1} {names[other.class_index]}"
    first, second = (names[place] for place in effect.classes)
    if effect.graph is None:
        said = (
            f", said by {', '.join(str(place + 1) for place in effect.speakers)}" if effect.speakers else ""
        )
        return f"{first} - {second}, lift {effect.weight:.3g}{said}"
    which = f", graph {effect.graph + 1}" if effect.graph else ""
    return (f"edge {first} - {second}" if first != second else f"loop of {first}") + which


def _draw_box(axes: Any, box: Sequence[float], colour: str, width: float, opacity: float) -> None:
    left, top, right, bottom = box
    across, down = (left, right, right, left, left), (top, top, bottom, bottom, top)
    axes.plot(across, down, color=colour, linewidth=width, alpha=opacity)
