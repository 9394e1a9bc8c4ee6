"""`detector predict`."""

from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Leave out detections with a lower score.",
)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Look at every Nth video frame."
)
@click.option(
    "--tta-flip", is_flag=True, default=False, help="Look at each image mirrored too; NMS joins the views."
)
@click.option(
    "--tta-scale",
    "tta_scales",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Look at each image so much larger too (0.5, 1.5); may be repeated.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--no-pictures", is_flag=True, default=False, help="Write detections.json alone.")
@click.option("--overwrite", is_flag=True, default=False, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def predict_command(
    run: Path,
    files: tuple[Path, ...],
    out: Path,
    threshold: float,
    every: int,
    tta_flip: bool,
    tta_scales: tuple[float, ...],
    device: str,
    no_pictures: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Detect objects in images and videos: files, folders and patterns such as 'shots/**/*.jpg'.

    --out gets detections.json (COCO results with file names) and for each image a picture with boxes, and
    masks where the detector has them; of a video a folder with its frames (needs the extra "video"). A file
    that cannot be read is reported in one line; the others are done, and the exit code is 3. EXIF orientation
    is ignored, as in COCO. Ctrl-C leaves whole pictures and no detections.json.

    Example: detector predict run data/sample/images --out pictures --threshold 0.3

    Example: detector predict run clip.mp4 --every 5 --tta-flip --out frames
    """
    from detector.inference import load
    from detector.predict import predict

    detector = load(run, threshold=threshold, device=device, flip=tta_flip, scales=tta_scales)
    done = predict(detector, files, out, every=every, pictures=not no_pictures, overwrite=overwrite)
    for line in done.unreadable:
        click.echo(f"detector: {line}", err=True)
    if as_json:
        pictures = [str(path) for path in done.pictures]
        echo_json({"detections": done.results, "pictures": pictures, "unreadable": done.unreadable})
    else:
        click.echo(f"{len(done.results)} detections in {done.num_images} images: {out}")
    if done.unreadable:
        click.get_current_context().exit(3)
