"""`detector predict`."""

from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Leave out detections with a lower score.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def predict_command(
    run: Path,
    images: tuple[Path, ...],
    out: Path,
    threshold: float,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Detect objects in image files and folders of images.

    --out gets detections.json (COCO results with file names) and for each image a picture with boxes, and
    masks where the detector has them. An image that cannot be read is reported in one line; the others are
    done, and the exit code is 3. EXIF orientation is ignored, as in COCO.

    Example: detector predict run data/sample/images --out pictures --threshold 0.3
    """
    from detector.checkpoint import load_run
    from detector.device import pick_device
    from detector.predict import predict

    trained = load_run(run, pick_device(device), score_threshold=threshold)
    done = predict(trained, images, out, threshold=threshold, overwrite=overwrite)
    for line in done.unreadable:
        click.echo(f"detector: {line}", err=True)
    if as_json:
        pictures = [str(path) for path in done.pictures]
        echo_json({"detections": done.results, "pictures": pictures, "unreadable": done.unreadable})
    else:
        click.echo(f"{len(done.results)} detections in {len(done.pictures)} images: {out}")
    if done.unreadable:
        click.get_current_context().exit(3)
