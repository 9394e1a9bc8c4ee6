"""`kgtool stats`."""

import gc
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgtool.cli.printable import printable

if TYPE_CHECKING:
    from kgtool.coco_stats import Stats

_SHOWN = 5


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PNG",
    help="Draw the long tail of classes, box sizes and boxes per image.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the picture if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def stats(path: Path, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Print what is in a COCO JSON file: counts, the long tail of classes, box and image sizes.

    Rare, common and frequent are LVIS's (up to 10, up to 100, more images), counted in this file; small,
    medium and large are COCO's (area below 32 x 32, below 96 x 96, more).

    Example: kgtool stats instances.json --out histogram.png
    """
    from kgtool.coco import load_dataset
    from kgtool.coco_stats import describe, measure
    from kgtool.files import check_writable

    gc.disable()  # millions of rows and no cycles
    if out is not None:
        check_writable(out, overwrite=overwrite)
    dataset = load_dataset(path)
    measures = measure(dataset)
    if out is not None:
        from kgtool.stats_picture import save_histogram

        title = f"{path.name}: {len(dataset.images):,} images, {len(dataset.annotations):,} boxes"
        save_histogram(measures, out, title=title, overwrite=overwrite)
    found = describe(dataset, measures)
    if as_json:
        click.echo(json.dumps({"file": str(path), **asdict(found)}, ensure_ascii=False))
    else:
        _print(path, found)


def _print(path: Path, found: "Stats") -> None:
    relations = "" if found.relations is None else f", {found.relations:,} relations"
    click.echo(f"{path}")
    click.echo(f"images   {found.images:,}, {found.images_without_boxes:,} without boxes")
    click.echo(f"boxes    {found.boxes:,}, {found.crowd_boxes:,} of crowds{relations}")
    click.echo(
        f"classes  {len(found.classes):,}; Gini of boxes {found.gini:.2f}; "
        f"the first tenth has {100 * found.head_share:.0f} % of the boxes"
    )
    for group in found.groups:
        click.echo(f"  {group.name:9} {group.classes:>7,} classes {group.boxes:>11,} boxes")
    click.echo("boxes by area")
    for name, count in found.boxes_by_size.items():
        click.echo(f"  {name:9} {count:>11,}  {100 * count / max(found.boxes, 1):5.1f} %")
    width = max(map(len, found.quantiles))
    names = next((list(of) for of in found.quantiles.values() if of), [])
    click.echo(f"{'':{width}}" + "".join(f"{name:>9}" for name in names))
    for what, of in found.quantiles.items():
        click.echo(f"{what:{width}}" + "".join(f"{_short(of[name]):>9}" for name in names if of))
    for which, classes in (("most", found.classes[:_SHOWN]), ("fewest", found.classes[::-1][:_SHOWN])):
        shown = ", ".join(f"{printable(one.name)} {one.boxes:,}" for one in classes)
        click.echo(f"{which} boxes: {shown}")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 1000 else f"{number:.2f}"
