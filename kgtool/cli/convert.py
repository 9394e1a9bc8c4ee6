"""`kgtool convert`: annotations as they are published become COCO JSON, one command a data set."""

import json
from pathlib import Path
from typing import Any

import click

from kgtool.cli.printable import tell
from kgtool.cli.reading import image_bar, read_options

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def convert() -> None:
    """Turn the annotations of a data set into COCO JSON, all images in one file.

    Example: kgtool convert voc VOCdevkit --out voc
    """


@convert.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write, or a .json file alone."
)
@click.option(
    "--classes",
    metavar="LIST",
    help="Keep these classes: voc, or a class list. [default: VOC's 20, and other names found]",
)
@click.option("--strict", is_flag=True, default=False, help="Make the first thing that is wrong an error.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the output if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print the report as one JSON document.")
def voc(
    root: Path,
    out: Path,
    classes: str | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert Pascal VOC, or any folder with Annotations/*.xml of that form.

    ROOT is VOCdevkit, a folder of it, or your own. DIR gets instances.json (COCO JSON), report.csv with
    whatever is wrong, a row each, and report.json, its summary. Boxes count from 0; difficult objects are
    kept with iscrowd 1, so that they are neither trained on nor missed. An image whose annotation cannot be
    used is left out, the others are written, and the exit code is then 3.

    Example: kgtool convert voc VOCdevkit --out voc
    """
    from kgtool.datasets.voc import VocOptions, convert_voc
    from kgtool.errors import InputError
    from kgtool.workers import default_num_workers

    with image_bar() as show:
        options = VocOptions(classes, strict, workers or default_num_workers(), show)
        report = convert_voc(root, out, options=options, overwrite=overwrite)
    objects, images = report["objects"], report["images"]
    lines = [
        f"{out}: {objects['written']} boxes ({objects['difficult']} difficult) of {report['num_classes']} "
        f"classes in {images['written']} images"
    ]
    lines += [f"left out: {count} objects: {reason}" for reason, count in objects["skipped"].items()]
    lines += [f"found: {count} times: {kind}" for kind, count in report["findings"].items()]
    lines += [f"left out: {count} times the tag {tag}" for tag, count in report["tags_left_out"].items()]
    _print(out, report, lines, as_json)
    if images["left_out"]:
        raise InputError(
            f"{root}: {images['left_out']} of {images['found']} annotations cannot be used and are left out; "
            f"see {out / 'report.csv' if out.is_dir() else 'report.csv, which a folder for --out gets'}"
        )


@convert.command()
@click.argument("objects", type=_FILE, metavar="OBJECTS.json")
@click.option("--image-data", type=_FILE, required=True, help="image_data.json: the sizes of the images.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write, or a .json file alone."
)
@click.option(
    "--classes",
    metavar="N|FILE",
    help="The N most frequent synsets (by objects with exactly one), or a class list. [default: all synsets]",
)
@click.option("--relationships", type=_FILE, help="relationships.json: relations between boxes, too.")
@click.option(
    "--strict",
    is_flag=True,
    default=False,
    help="Make the first unknown image, box without area or repeated object an error.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the output if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print the report as one JSON document.")
def vg(
    objects: Path,
    image_data: Path,
    out: Path,
    classes: str | None,
    relationships: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert the objects of Visual Genome: all synsets or a class list, all images.

    DIR gets instances.json (COCO JSON; with --relationships also rel_categories and rel_annotations) and
    report.json. Objects with no synset or several have no class; they are counted. For sets to train and test
    on there is kgtool split vg.

    Example: kgtool convert vg objects.json --image-data image_data.json --out vg
    """
    from kgtool.classes import parse_class_spec
    from kgtool.datasets.visual_genome import convert_visual_genome

    with read_options(strict, workers) as options:
        report = convert_visual_genome(
            objects,
            image_data,
            out,
            classes=None if classes is None else parse_class_spec(classes),
            relationships=relationships,
            options=options,
            overwrite=overwrite,
        )
    lines = [
        f"{out}: {report['objects']['kept']} boxes of {report['num_classes']} classes in "
        f"{report['images']['written']} images"
    ]
    for name in ("objects", "relations"):
        for reason, count in report.get(name, {}).get("skipped", {}).items():
            lines.append(f"left out: {count} {name}: {reason}")
    _print(out, report, lines, as_json)


def _print(out: Path, report: dict[str, Any], lines: list[str], as_json: bool) -> None:
    for message in report["messages"]:
        tell(message)
    click.echo(json.dumps({"out": str(out)} | report) if as_json else "\n".join(lines))
