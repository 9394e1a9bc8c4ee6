"""The picture of an experiment: every arm's AP, and what the recipe has more than it, with intervals."""

from pathlib import Path
from typing import Any

from detector.plotting import LINES, label_axes, new_figure, save_picture


def save_ablation(report: dict[str, Any], path: Path) -> None:
    """Draw what `ablation_report.summarize` returned: an arm a row, the sources as small points.

    Args:
        report: of the experiment.
        path: PNG to write; replaced if it is there.
    """
    rows = report["arms"]
    figure = new_figure(10, 1.4 + 0.34 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        colour = LINES[1] if row["arm"] == report["recipe"] else LINES[0]
        left.barh(place, 100 * row["metrics"]["AP"], color=colour, height=0.6)
        _draw_sources(left, row["by_source"], place)
        left.annotate(
            f"{100 * row['metrics']['AP']:.1f}",
            (0, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color="white",
            fontsize=8,
        )
        if row["arm"] != report["recipe"]:
            _draw_difference(right, row["recipe_minus"], place)
    left.set_yticks(range(len(rows)), [row["arm"] for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    right.axvline(0, color="#999999", linewidth=1)
    count = len(report["sources"])
    over = f"mean of {count} data sets" if count > 1 else report["sources"][0]
    seeds = f", {len(report['seeds'])} seeds" if len(report["seeds"]) > 1 else ""
    label_axes(left, f"AP, {over}{seeds}", "AP, percent", "")
    label_axes(right, f"{report['recipe']} minus the arm", "points of AP, 95 % interval", "")
    save_picture(figure, path)


def _draw_difference(axes: Any, difference: dict[str, Any], place: int) -> None:
    ends = [100 * difference["low"], 100 * difference["high"]]
    axes.plot(ends, [place, place], color=LINES[0], linewidth=2.5, solid_capstyle="round")
    axes.plot(100 * difference["AP"], place, "o", color=LINES[0])
    _draw_sources(axes, difference["by_source"], place)


def _draw_sources(axes: Any, by_source: dict[str, float], place: int) -> None:
    """Small points, where there are several sources."""
    if len(by_source) > 1:
        values = [100 * value for value in by_source.values()]
        axes.plot(values, [place] * len(values), "|", color=LINES[6], markersize=9)
