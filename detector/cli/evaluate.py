"""`detector eval`."""

from pathlib import Path

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
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def eval_command(
    run: Path,
    data: Path,
    split: str,
    max_images: int | None,
    batch_size: int,
    backend: str,
    device: str,
    as_json: bool,
) -> None:
    """Print the twelve COCO numbers of a trained detector.

    RUN is a folder made by `detector train`. Its classes and those of the data are matched by name. A
    detector with masks has a second column: the same numbers for the overlap of masks.

    Example: detector eval run --data data/sample --split test
    """
    from detector.evaluate import evaluate_run

    result = evaluate_run(
        run, data, split, max_images=max_images, batch_size=batch_size, backend=backend, device=device
    )
    if as_json:
        echo_json({"run": str(run), **result})
    else:
        echo_metrics(result)
