"""What the cells of an experiment say together: means, paired differences with intervals, and cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.files import atomic_path, save_json
from detector.trends import interval

#: What is reported of an arm's metrics.
METRICS = ("AP", "AP50", "AP75")


def summarize(results: Sequence[dict[str, Any]], recipe: str, stages: Mapping[str, int]) -> dict[str, Any]:
    """Put the cells of an experiment together.

    A difference is the mean over sources and seeds of the paired differences of cells. Its 95 % interval is
    that of a bootstrap over images, the same ones for all arms; where there are several sources or seeds,
    these are drawn too.

    Args:
        results: what the cells' `run` returned, for each source and seed the same arms.
        recipe: the arm that differences are taken from.
        stages: how many region stages each arm's detector has.

    Returns:
        "recipe", "sources", "seeds", and "arms": for each its name, its "stages", the mean of its metrics, AP
        "by_source", what it has more weights than the plain arm, seconds of training, milliseconds an image,
        and its difference in AP to plain and of the recipe to it, with "low", "high", "by_source".
        Numbers are 0..1.
    """
    sources, seeds, arms = (
        list(dict.fromkeys(cell[key] for cell in results)) for key in ("source", "seed", "arm")
    )
    by_place = {(cell["arm"], cell["source"], cell["seed"]): cell for cell in results}
    grids = {arm: [[by_place[arm, source, seed] for seed in seeds] for source in sources] for arm in arms}
    return {
        "recipe": recipe,
        "sources": sources,
        "seeds": seeds,
        "arms": [{**_row(arm, grids, sources, recipe), "stages": stages[arm]} for arm in arms],
    }


def _row(arm: str, grids: dict[str, Any], sources: list[str], recipe: str) -> dict[str, Any]:
    cells = [cell for row in grids[arm] for cell in row]
    plain = grids["none"][0][0]
    return {
        "arm": arm,
        "metrics": {name: _mean(cell["metrics"][name] for cell in cells) for name in METRICS},
        "by_source": {
            source: _mean(cell["metrics"]["AP"] for cell in row)
            for source, row in zip(sources, grids[arm], strict=True)
        },
        "parameters_added": cells[0]["parameters"] - plain["parameters"],
        "cpu_seconds": _mean(cell["cpu_seconds"] for cell in cells),
        "milliseconds": _mean(cell["milliseconds"] for cell in cells),
        "minus_plain": _difference(grids[arm], grids["none"], sources),
        "recipe_minus": _difference(grids[recipe], grids[arm], sources),
    }


def _difference(first: list[Any], second: list[Any], sources: list[str]) -> dict[str, Any]:
    """First minus second: mean, relative to the second, by source, and interval."""
    ap_2WS = np.array([[[cell["metrics"]["AP"] for cell in row] for row in grid] for grid in (first, second)])
    resampled_2WSB = np.array(
        [[[cell["resampled_AP"] for cell in row] for row in grid] for grid in (first, second)]
    )
    low, high = interval(_draw(resampled_2WSB[0] - resampled_2WSB[1]))
    by_source_W = (ap_2WS[0] - ap_2WS[1]).mean(axis=1)
    mean, below = float(by_source_W.mean()), float(ap_2WS[1].mean())
    return {
        "AP": mean,
        "relative": mean / below if below > 0 else None,
        "low": float(low),
        "high": float(high),
        "by_source": dict(zip(sources, by_source_W.tolist(), strict=True)),
    }


def _draw(difference_WSB: np.ndarray) -> np.ndarray:
    """Means over sources and seeds that are drawn anew for every resample of the images, (B,)."""
    num_sources, num_seeds, resamples = difference_WSB.shape
    rng = np.random.default_rng(1)
    source_BW = rng.integers(num_sources, size=(resamples, num_sources))
    seed_BWS = rng.integers(num_seeds, size=(resamples, num_sources, num_seeds))
    drawn_BWS = difference_WSB[source_BW[:, :, None], seed_BWS, np.arange(resamples)[:, None, None]]
    means_B: np.ndarray = drawn_BWS.mean(axis=(1, 2))
    return means_B


def save_report(report: dict[str, Any], out: Path) -> None:
    """Write ablation.json and ablation.md, atomically."""
    save_json(report, out / "ablation.json")
    with atomic_path(out / "ablation.md") as part:
        part.write_text("\n".join(markdown_lines(report)) + "\n", encoding="utf-8")


def table_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table, as text; AP is in percent."""
    sources = report["sources"] if len(report["sources"]) > 1 else []
    head = ["arm", "AP", *sources, "AP50", "minus plain", "relative", f"{report['recipe']} minus it"]
    head += ["weights added", "CPU s", "ms"]
    plain_stages = next(row["stages"] for row in report["arms"] if row["arm"] == "none")
    return head, [
        _texts(row, label_of(row, plain_stages), sources, report["recipe"]) for row in report["arms"]
    ]


def label_of(row: dict[str, Any], plain_stages: int) -> str:
    """Name an arm; with its number of stages where it is the plain arm, or has another number than that."""
    stages = f"{row['stages']} stage{'s' if row['stages'] > 1 else ''}"
    if row["arm"] == "none":
        return f"none (plain, {stages})"
    return row["arm"] if row["stages"] == plain_stages else f"{row['arm']} ({stages})"


def _texts(row: dict[str, Any], label: str, sources: list[str], recipe: str) -> list[str]:
    plain, relative = row["arm"] == "none", row["minus_plain"]["relative"]
    return [
        label,
        f"{100 * row['metrics']['AP']:.1f}",
        *(f"{100 * row['by_source'][source]:.1f}" for source in sources),
        f"{100 * row['metrics']['AP50']:.1f}",
        "" if plain else _with_interval(row["minus_plain"]),
        "" if plain or relative is None else f"{100 * relative:+.0f} %",
        "" if row["arm"] == recipe else _with_interval(row["recipe_minus"]),
        f"{row['parameters_added']:+,}",
        f"{row['cpu_seconds']:.0f}",
        f"{row['milliseconds']:.1f}",
    ]


def markdown_lines(report: dict[str, Any]) -> list[str]:
    """Return the table and what its columns mean, as lines of Markdown."""
    head, rows = table_rows(report)
    lines = [f"# {report['recipe']} and its controls", "", *_setting(report["experiment"])]
    lines += [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows), ""]
    return lines


def _setting(experiment: dict[str, Any]) -> list[str]:
    """Say in what setting the numbers were made."""
    given = [f"{key}={value}" for key, value in experiment["settings"].items()]
    given += [f"base {key}={value}" for key, value in experiment["base_settings"].items()]
    lines = [
        f"{experiment['protocol']}; data: {', '.join(experiment['data'])}; seeds: {experiment['seeds']}; "
        f"settings: {', '.join(given) or 'of the recipes'}; {experiment['resamples']} resamples.",
        "",
        "AP in percent, means over data sets and seeds. Differences are paired, with 95 % intervals of a "
        "bootstrap over images (and data sets and seeds, where there are several).",
        "",
    ]
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_interval(difference: dict[str, Any]) -> str:
    ends = f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}"
    return f"{100 * difference['AP']:+.1f} ({ends})"


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
