"""`kgtool preview`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from kgtool.cli.printable import tell


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder that the file names are below.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PNG",
    required=True,
    help="Grid to write.",
)
@click.option(
    "--count", type=click.IntRange(1, 400), default=12, show_default=True, help="How many images to draw."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which images.")
@click.option("--class", "class_name", metavar="NAME", help="Images with this class; other boxes are grey.")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the picture if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def preview(
    path: Path,
    images: Path,
    out: Path,
    count: int,
    seed: int,
    class_name: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw some images of a COCO JSON file with boxes and class names, as one PNG.

    Boxes are drawn at the pixels that the file gives, so that a wrong size, wrong order of numbers or wrong
    image can be seen.

    Example: kgtool preview instances.json --images images --out grid.png --count 12
    """
    from kgtool.coco_preview import save_preview

    drawn = save_preview(
        path, images, out, count=count, seed=seed, class_name=class_name, overwrite=overwrite
    )
    for message in drawn.messages:
        tell(message)
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(drawn)}, ensure_ascii=False))
    else:
        click.echo(f"{out}: {len(drawn.file_names)} images, {drawn.boxes} boxes")
