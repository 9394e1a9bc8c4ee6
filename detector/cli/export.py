"""`detector export`."""

from dataclasses import asdict
from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["onnx", "torch-export"]),
    required=True,
    help="onnx runs anywhere (needs the extra onnx); torch-export is a program for torch alone.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Image, folder or pattern to check the export on; may be repeated.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    nargs=2,
    metavar="HEIGHT WIDTH",
    help="Size of the images that the export takes, px; without it, that of the first image.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=1.0,
    help="Lower the recipe's model.score_threshold to this.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the file that is in --out.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def export_command(
    run: Path,
    format_name: str,
    out: Path,
    images: tuple[Path, ...],
    size: tuple[int, int] | None,
    threshold: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a trained detector as one file that runs without this package.

    It takes one image, (3, height, width) float32 in 0..1 of one size, and gives boxes (xyxy px), classes
    (positions in the metadata's class list) and scores; graph and NMS are inside, masks are not. What it
    gives is compared with the detector on the images, on their mirror images and on an empty one; where it
    differs, no file is left and the exit code is 1. Soft-NMS is refused.

    Example: detector export run --format onnx --images data/sample/images --out run.onnx
    """
    from detector.export import export_run

    done = export_run(
        run,
        out,
        format=format_name,
        images=images,
        size=size,
        threshold=threshold,
        overwrite=overwrite,
    )
    if as_json:
        echo_json(asdict(done))
        return
    click.echo(f"{done.file}: {done.format}, takes images of {done.width} x {done.height} px")
    click.echo(
        f"as the detector on {done.images_checked} images, {done.detections_compared} detections: boxes "
        f"differ by at most {done.box_difference_px:.2g} px, scores by {done.score_difference:.2g}"
    )
    if done.left_out:
        click.echo(f"left out: {done.left_out}")
