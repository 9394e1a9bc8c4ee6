"""The picture of an embedding: objects as points, before and after reasoning, coloured by group."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from detector.plotting import LINES, new_figure, save_picture

#: Colours and shapes that groups take in turns; what is left over is grey.
_STYLES = [(colour, marker) for marker, colour in product(("o", "^"), LINES[:7])]

#: Groups with a style of their own.
MOST_GROUPS = len(_STYLES)

_OTHERS = "others"


def save_embedding(points_N2: Mapping[str, np.ndarray], groups_N: Sequence[str], path: Path) -> None:
    """Draw a panel for each set of points; of many groups, those with most objects have colours.

    Args:
        points_N2: by title of the panel.
        groups_N: group of each object.
        path: PNG to write; replaced if it is there.
    """
    groups = np.array(groups_N)
    names, counts = np.unique(groups, return_counts=True)
    first = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    figure = new_figure(4.9 * len(points_N2) + 1.8, 4.8)
    panels = np.atleast_1d(figure.subplots(1, len(points_N2)))
    size = float(np.clip(9000 / len(groups), 5, 30))
    for axes, (title, points) in zip(panels, points_N2.items(), strict=True):
        for group, (colour, marker) in zip(first, _STYLES, strict=False):
            _draw(axes, points[groups == group], group, size, colour, marker)
        rest = ~np.isin(groups, first)
        if rest.any():
            _draw(axes, points[rest], _OTHERS, size / 2, "#bbbbbb", "o")
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    save_picture(figure, path)


def _draw(axes: Any, points_M2: np.ndarray, name: str, size: float, colour: str, marker: str) -> None:
    axes.scatter(*points_M2.T, s=size, c=colour, marker=marker, linewidths=0, alpha=0.75, label=name)
