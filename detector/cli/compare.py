"""`detector compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.cli.output import echo_json

if TYPE_CHECKING:
    from detector.comparison import Comparison

_SHOWN = 3


@click.command("compare")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Data folder (COCO JSON and images)."
)
@click.option("--split", default="test", show_default=True, help="Split to compare on.")
@click.option("--max-images", type=click.IntRange(min=1), help="Use the first N images with boxes.")
@click.option(
    "--graph",
    type=click.Path(path_type=Path),
    help="Class graph whose edges say who neighbours whom; without it that of RUN_B, else of RUN_A.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Resamples of the images.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resamples.")
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Those after the last epoch, or of the best evaluation (train.eval_every).",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=4, show_default=True, help="Images at a time."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write a CSV with a row a class.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture (PNG); needs matplotlib.")
@click.option("--overwrite", is_flag=True, default=False, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def compare_command(run_a: Path, run_b: Path, data: Path, as_json: bool, **options: Any) -> None:
    """Compare two trained detectors on the same images: RUN_B beside RUN_A, the control.

    Differences in AP with their 95 % interval over resamples of the images (paired bootstrap), and what each
    class gains, over its training images and over its neighbours in a class graph. An interval is about these
    two runs: another seed of training is not in it.

    Example: detector compare runs/stacked runs/reasoning --data data/sample --plot gains.png
    """
    from detector.compare import compare_runs

    comparison = compare_runs(run_a, run_b, data, **options)
    if as_json:
        echo_json({"run_a": str(run_a), "run_b": str(run_b), **comparison.summary()})
    else:
        click.echo("\n".join([f"A {run_a}, B {run_b}", *_lines(comparison)]))


def _lines(comparison: "Comparison") -> list[str]:
    import numpy as np

    annotations = comparison.annotations
    lines = [f"{annotations.path.name}, {annotations.num_images} images, {comparison.resamples} resamples"]
    lines.append(f"{'':<6}{'A':>6}{'B':>7}{'B - A':>8}   95 % interval   B better")
    for name, found in comparison.metrics.items():
        numbers = f"{100 * found.a:>6.1f}{100 * found.b:>7.1f}{100 * found.difference:>+8.1f}"
        ends = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        lines.append(f"{name:<6}{numbers}   {ends:<16}{found.above_zero:.0%} of resamples")
    for trend in comparison.trends:
        ends = f"{100 * trend.low:+.1f} to {100 * trend.high:+.1f}"
        lines.append(f"gain over {trend.name}: slope {100 * trend.slope:+.1f} ({ends})")
    order = np.argsort(comparison.gain_C, kind="stable")
    order = order[np.isfinite(comparison.gain_C[order])]
    for title, places in (("most gained", order[::-1][:_SHOWN]), ("least gained", order[:_SHOWN])):
        named = [
            f"{annotations.class_names[place]} {100 * comparison.gain_C[place]:+.1f}" for place in places
        ]
        lines.append(f"{title}: {', '.join(named)}")
    return lines
