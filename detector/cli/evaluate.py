"""`detector eval`."""

from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json, echo_metrics


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Data folder (COCO JSON and images)."
)
@click.option("--split", default="test", show_default=True, help="Split to evaluate on.")
@click.option("--max-images", type=click.IntRange(min=1), help="Use the first N images with boxes.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=4, show_default=True, help="Images at a time."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    help="What the model computes in; default: what it was trained in (train.precision).",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "pycocotools", "hotcoco"]),
    default="auto",
    show_default=True,
    help="Who computes the numbers; auto takes hotcoco where it is installed. Both give the same.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Those after the last epoch, or of the best evaluation (train.eval_every).",
)
@click.option(
    "--save-predictions",
    "predictions",
    type=click.Path(path_type=Path),
    help="Write what was found as COCO results, JSON.",
)
@click.option("--per-class", type=click.Path(path_type=Path), help="Write a CSV with a row a class.")
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    help="Folder for pictures: precision over recall, confusion; needs matplotlib.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def eval_command(
    run: Path,
    predictions: Path | None,
    per_class: Path | None,
    plots: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Print the COCO numbers of a trained detector, and Pascal VOC's.

    RUN is a folder made by `detector train`. Its classes and those of the data are matched by name. APr, APc
    and APf are of rare, common and frequent classes: those that the data's file says, else by the images that
    the run was trained on. A detector with masks has a second column: the same for the overlap of masks.

    Example: detector eval run --data data/sample --split test

    Example: detector eval run --data data/sample --per-class classes.csv --plots plots
    """
    from detector.evaluate import evaluate_run
    from detector.evaluation_files import EvaluationFiles

    files = EvaluationFiles(predictions, per_class, plots, overwrite)
    result = evaluate_run(run, files=files, **options).summary()
    if as_json:
        echo_json({"run": str(run), **result})
    else:
        echo_metrics(result)
