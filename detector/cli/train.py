"""`detector train`."""

from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json, echo_metrics


@click.command("train")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Data folder (COCO JSON and images)."
)
@click.option("--recipe", required=True, help="Name of a recipe (see `detector recipes`).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Class graph, for a recipe that reasons over one; may be repeated.",
)
@click.option(
    "--init", type=click.Path(path_type=Path), help="Run whose weights to start from, where they fit."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs (train.epochs).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step (train.batch_size).")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all that is drawn (train.seed).")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting; may be repeated."
)
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@click.option("--eval-split", default="test", show_default=True, help="Split to evaluate on.")
@click.option(
    "--max-images", type=click.IntRange(min=1), help="Use the first N images with boxes of each split."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a GPU when there is one.",
)
@click.option(
    "--resume",
    type=click.Choice(["auto", "never"]),
    default="never",
    show_default=True,
    help="auto: go on with the run in --out if it was stopped, else start it.",
)
@click.option(
    "--max-time",
    "max_minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Stop after so many minutes; --resume auto goes on.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the run that is in --out.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def train_command(
    data: Path,
    recipe: str,
    out: Path,
    epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    assignments: tuple[str, ...],
    resume: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a detector and evaluate it.

    --out becomes a run folder: model.safetensors (saved after every epoch), card.md, settings, classes, log,
    tables and a picture (docs/training.md lists them). A flag beats --set, and --set beats the recipe. Ctrl-C
    and SIGTERM stop after the step; until the run is finished, state.pt has what --resume auto goes on from.

    Example: detector train --data data/sample --graph relation.npz --recipe reasoning_rcnn_sample --out run

    Example: detector train --data DATA --recipe faster_rcnn_r50_fpn --set train.lr=0.0025 --out run

    Example: torchrun --nproc-per-node 8 -m detector train --data DATA --recipe faster_rcnn_r50_fpn --out run
    """
    from detector.overrides import override, parse_assignments
    from detector.recipes import load_recipe
    from detector.train import train

    flags = {"train.epochs": epochs, "train.batch_size": batch_size, "train.seed": seed}
    given = {key: value for key, value in flags.items() if value is not None}
    config = override(load_recipe(recipe), {**parse_assignments(assignments), **given})
    result = train(config, data, out, resume=resume == "auto", **options)
    if not result:  # not the first of several processes
        return
    if as_json:
        echo_json({"run": str(out), **result})
    elif "metrics" in result:
        echo_metrics(result)
