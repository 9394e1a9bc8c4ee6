"""`kgtool boxes`: masks become boxes, one command a data set."""

import json
from pathlib import Path
from typing import Any

import click

from kgtool.cli.printable import tell
from kgtool.cli.reading import image_bar


@click.group()
def boxes() -> None:
    """Make boxes, areas and run-length masks of a data set that is published as mask images.

    Example: kgtool boxes ade ADE20K_2021_17_01 --out ade
    """


@boxes.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option(
    "--parts", is_flag=True, default=False, help="Boxes of parts as well, not of whole objects alone."
)
@click.option(
    "--min-area",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Leave out masks of fewer pixels.",
)
@click.option(
    "--classes",
    metavar="LIST",
    help="Keep these classes: ade150, or a class list; ADE20K's names, or one word of each.",
)
@click.option(
    "--names",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The names that the colours count in: index_ade20k.mat, a JSON list, or one a line. "
    "[default: those of the texts or JSONs; ADE 150 for index masks]",
)
@click.option("--strict", is_flag=True, default=False, help="Make the first thing that disagrees an error.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the folder if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print the report as one JSON document.")
def ade(
    root: Path,
    out: Path,
    parts: bool,
    min_area: int,
    classes: str | None,
    names: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make boxes of ADE20K's masks, and compare them with the text or JSON of each image.

    ROOT holds one layout, at any depth: NAME_seg.png with NAME_atr.txt (2016/17) or NAME.json (2021), or the
    challenge's index masks, where a box is a connected component. DIR gets instances.json (COCO JSON),
    report.csv with all that disagrees, a row each, and report.json, its summary. An image whose mask cannot
    be used is left out, the others are written, and the exit code is then 3.

    Example: kgtool boxes ade ADE20K_2021_17_01/images --parts --out ade
    """
    from kgtool.datasets.ade import BoxOptions, boxes_of_ade
    from kgtool.errors import InputError
    from kgtool.workers import default_num_workers

    with image_bar() as show:
        report = boxes_of_ade(
            root,
            out,
            options=BoxOptions(parts, min_area, classes, names),
            strict=strict,
            overwrite=overwrite,
            num_workers=workers or default_num_workers(),
            on_progress=show,
        )
    for message in report["messages"]:
        tell(message)
    click.echo(json.dumps({"out": str(out)} | report) if as_json else _summary(out, report))
    if report["images"]["left_out"]:
        counts = report["images"]
        raise InputError(
            f"{root}: {counts['left_out']} of {counts['found']} images have no mask that can be used and are "
            f"left out; see {out / 'report.csv'}"
        )


def _summary(out: Path, report: dict[str, Any]) -> str:
    """The report in a few lines."""
    images, instances = report["images"], report["instances"]
    lines = [
        f"{out}: {instances['written']} boxes of {report['classes']} classes in {images['written']} images"
    ]
    if report["approximate"]:
        lines.append(
            "boxes are connected components of classes: an approximation, index masks have no instances"
        )
    lines += [f"left out: {count} instances: {reason}" for reason, count in instances["left_out"].items()]
    if report["paired_by"]:
        means = ", ".join(f"{count} by {means}" for means, count in report["paired_by"].items())
        lines.append(f"paired with their description: {means}")
    lines += [f"disagrees: {count} times: {kind}" for kind, count in report["findings"].items()]
    return "\n".join(lines)
