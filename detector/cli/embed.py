"""`detector embed`."""

from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json


@click.command("embed")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Data folder (COCO JSON and images)."
)
@click.option("--split", default="test", show_default=True, help="Split whose objects are shown.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for JSON, table and picture."
)
@click.option(
    "--max-images",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Use the first N images with boxes.",
)
@click.option(
    "--method",
    type=click.Choice(["tsne", "umap"]),
    default="tsne",
    show_default=True,
    help="How features come into a plane; extras embed and umap.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the chance in it."
)
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Those after the last epoch, or of the best evaluation (train.eval_every).",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--no-pictures", is_flag=True, default=False, help="Write embedding.json and .csv alone.")
@click.option("--overwrite", is_flag=True, default=False, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def embed_command(run: Path, data: Path, out: Path, no_pictures: bool, as_json: bool, **options: Any) -> None:
    """Show the features of annotated objects before and after reasoning as points of a plane.

    Each object is a region whose class is known. Of Reasoning-RCNN there are f and f', of SGRN f and h, of
    Relation Networks the features before and after the last modules, of a plain detector f. Points have the
    colour of their supercategory where the data has some, else of their class. How well the features tell
    classes apart is counted in the features, not in the picture: how many of the nearest objects of other
    images have the same class.

    Example: detector embed run --data data/sample --out points
    """
    from detector.embed import embed_run

    document = embed_run(run, data, out, pictures=not no_pictures, **options)
    if as_json:
        echo_json(document)
        return
    click.echo(f"of the {document['neighbours']} nearest objects of other images, the share of")
    kinds = list(document["chance"])
    click.echo(f"{'':<24}{'width':>7}" + "".join(f"{kind.replace('_', ' '):>14}" for kind in kinds))
    for row in [*document["features"], {"name": "any object", "width": "", **document["chance"]}]:
        click.echo(f"{row['name']:<24}{row['width']:>7}" + "".join(f"{row[kind]:>14.3f}" for kind in kinds))
    click.echo(f"{document['objects']} objects of {document['images']} images in {out}")
