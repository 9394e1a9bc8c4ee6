"""A run's evaluations as a table, and the picture of its training, both made from its log."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from detector.files import atomic_path
from detector.plotting import LINES, label_axes, new_figure, save_picture
from detector.training_log import read_log

#: Share of all steps over which the lines of the losses are averaged.
SMOOTHING = 0.02


def save_metrics_table(log: Path, path: Path) -> None:
    """Write a CSV with a row an evaluation: epoch, step, seconds, metrics by name, those of masks as mask_AP.

    Made anew from the log, atomically, so that a run that goes on has each evaluation once.

    Args:
        log: log.jsonl of the run.
        path: to write to; replaced if it is there.
    """
    rows = [_flat(record) for record in read_log(log) if "metrics" in record]
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0] if rows else ["epoch", "step", "seconds"])
        for row in rows:
            writer.writerow(row.values())


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A row; empty where the split has nothing to find."""
    place = {name: record[name] for name in ("epoch", "step", "seconds")}
    masks = {f"mask_{name}": value for name, value in record.get("mask_metrics", {}).items()}
    metrics = {**record["metrics"], **masks}
    return place | {name: "" if value < 0 else f"{value:.6f}" for name, value in metrics.items()}


def save_training_plot(log: Path, path: Path) -> None:
    """Draw losses, learning rate and AP over the steps of a run; needs matplotlib.

    Args:
        log: log.jsonl of the run.
        path: PNG to write; replaced if it is there.
    """
    records = read_log(log)
    steps = [record for record in records if "lr" in record]
    figure = new_figure(9, 8, find_margins=False)  # that would take longer than all the rest
    figure.subplots_adjust(left=0.09, right=0.98, top=0.98, bottom=0.06, hspace=0.1)
    losses, lr, metrics = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1, 2])
    _draw_losses(losses, steps)
    lr.plot([record["step"] for record in steps], [record["lr"] for record in steps], color=LINES[0])
    lr.set_ylim(bottom=0)
    label_axes(lr, "", "", "learning rate")
    _draw_metrics(metrics, [record for record in records if "metrics" in record])
    for axes in (losses, lr, metrics):
        axes.grid(alpha=0.25)
    save_picture(figure, path)


def _draw_losses(axes: Any, steps: list[dict[str, Any]]) -> None:
    """The sum of the losses as it was, and the means of neighbouring steps of the sum and of each loss."""
    at = [record["step"] for record in steps]
    total = np.array([record["loss"] for record in steps])
    axes.plot(at, total, color=LINES[-1], alpha=0.3, linewidth=0.6)
    lines = {"sum": total}
    lines |= {name: np.array([record["losses"][name] for record in steps]) for name in steps[0]["losses"]}
    for number, (name, values) in enumerate(lines.items()):
        colour, dash = ("black", "-") if name == "sum" else (LINES[(number - 1) % 6], "-:"[number > 6])
        axes.plot(at, smooth(values, SMOOTHING), color=colour, linestyle=dash, label=name)
    axes.set_ylim(0, 1.05 * float(np.quantile(total, 0.995)))
    axes.legend(loc="upper right", fontsize=8, ncols=2, framealpha=0.9, edgecolor="none")
    label_axes(axes, "", "", "loss")


def _draw_metrics(axes: Any, evaluations: list[dict[str, Any]]) -> None:
    at = [record["step"] for record in evaluations]
    for name, colour in zip(("AP", "AP50", "APr", "APc", "APf"), LINES, strict=False):
        values = [record["metrics"].get(name, -1) for record in evaluations]
        if max(values) >= 0:
            axes.plot(at, [100 * value for value in values], "o-", markersize=4, color=colour, label=name)
    axes.margins(y=0.25)  # room for the names
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(loc="upper left", fontsize=8, ncols=5, framealpha=0.9, edgecolor="none")
    label_axes(axes, "", "step", "AP, percent")


def smooth(values: np.ndarray, share: float) -> np.ndarray:
    """Average each value with its neighbours on both sides, as many as there are near the ends.

    Args:
        values: (N,).
        share: of N that is averaged.
    """
    reach = int(share * len(values) / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    smoothed: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return smoothed
