"""Pictures of a comparison: differences with their intervals, and gains over what is known of classes."""

from pathlib import Path
from typing import Any

import numpy as np

from detector.comparison import PROPERTIES, Comparison
from detector.plotting import LINES, label_axes, new_figure, save_picture
from detector.trends import Trend

#: How many classes get their name in a panel: those that gain and lose most.
NAMED = 6
#: With more classes than this, a class's own interval is not drawn.
MOST_BARS = 100


def save_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the metrics' differences and, for each trend, classes as points with line and interval."""
    panels = 1 + len(comparison.trends)
    figure = new_figure(4.6 * panels if panels > 1 else 6, 4.4)
    first, *others = np.atleast_1d(figure.subplots(1, panels))
    _draw_metrics(first, comparison)
    for axes, trend in zip(others, comparison.trends, strict=True):
        _draw_trend(axes, comparison, trend)
    save_picture(figure, path)


def _draw_metrics(axes: Any, comparison: Comparison) -> None:
    names = list(comparison.metrics)
    for place, difference in enumerate(comparison.metrics.values()):
        ends = [100 * difference.low, 100 * difference.high]
        axes.plot(ends, [place, place], color=LINES[0], linewidth=2.5, solid_capstyle="round")
        axes.plot(100 * difference.difference, place, "o", color=LINES[0])
        text = f"{100 * difference.a:.1f} to {100 * difference.b:.1f}"
        axes.annotate(
            text,
            (100 * difference.difference, place),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.axvline(0, color="#999999", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.15)
    title = f"{comparison.annotations.num_images} images, {comparison.resamples} resamples"
    label_axes(axes, title, "difference B - A in points, 95 % interval", "")


def _draw_trend(axes: Any, comparison: Comparison, trend: Trend) -> None:
    gain_C, ends_2C = 100 * comparison.gain_C, 100 * comparison.gain_interval_2C
    shown = np.flatnonzero(np.isfinite(gain_C) & np.isfinite(trend.property_C))
    across = trend.property_C[shown]
    axes.axhline(0, color="#999999", linewidth=1)
    if len(shown) <= MOST_BARS:
        axes.vlines(across, ends_2C[0, shown], ends_2C[1, shown], color="#bbbbbb", linewidth=1)
    axes.scatter(across, gain_C[shown], s=16, color=LINES[0], zorder=3)
    axes.fill_between(trend.across_P, *(100 * trend.band_2P), color=LINES[1], alpha=0.2, linewidth=0)
    axes.plot(trend.across_P, 100 * trend.line_P, color=LINES[1])
    order = shown[np.argsort(gain_C[shown], kind="stable")]
    for place in {*order[: NAMED // 2].tolist(), *order[-(NAMED // 2) :].tolist()}:
        name = comparison.annotations.class_names[place]
        right = trend.property_C[place] > (across.min() + across.max()) / 2
        axes.annotate(
            name,
            (trend.property_C[place], gain_C[place]),
            xytext=(-4 if right else 4, 3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7,
        )
    title = f"slope {100 * trend.slope:+.1f} ({100 * trend.low:+.1f} to {100 * trend.high:+.1f})"
    label_axes(axes, f"{trend.num_classes} classes, {title}", PROPERTIES[trend.name], "gain in AP, points")
