"""`kgtool split`: train and test sets as COCO JSON, one command a data set."""

import json
from pathlib import Path
from typing import Any

import click

from kgtool.cli.reading import read_options

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(invoke_without_command=False)
def split() -> None:
    """Make the class list, the train set and the test set of a data set.

    Example: kgtool split vg --classes 1000 --objects objects.json --image-data image_data.json --out vg1000
    """


@split.command()
@click.option("--objects", type=_FILE, required=True, help="objects.json of release 1.2 or 1.4.")
@click.option("--image-data", type=_FILE, required=True, help="image_data.json.")
@click.option(
    "--classes",
    metavar="N|FILE",
    required=True,
    help="The N most frequent synsets (by objects with exactly one; ties by name), or a class list.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option("--relationships", type=_FILE, help="relationships.json: relations between boxes, too.")
@click.option(
    "--test-images", type=click.IntRange(min=0), help="Images to test on. [default: 5000, or 5 % if less]"
)
@click.option("--seed", type=int, help="Which images are tested on. [default: 0]")
@click.option("--train-list", type=_FILE, help="Train on these images: one id or path a line.")
@click.option("--test-list", type=_FILE, help="Test on these images: one id or path a line.")
@click.option(
    "--strict",
    is_flag=True,
    default=False,
    help="Make the first unknown image, box without area or repeated object an error.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the folder if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print the report as one JSON document.")
def vg(
    objects: Path,
    image_data: Path,
    classes: str,
    out: Path,
    relationships: Path | None,
    test_images: int | None,
    seed: int | None,
    train_list: Path | None,
    test_list: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Split Visual Genome: objects become boxes of the classes, images go to train or to test.

    DIR gets train.json and test.json (COCO JSON; with --relationships also rel_categories and
    rel_annotations), classes.csv and report.json. Images without a box of the classes are left out. Which
    images are tested on depends on the seed and the data, not on the order of its records; a class that has
    two images has one in train. With --train-list or --test-list the images are those listed; with one of the
    two the other set is all the rest.

    Example: kgtool split vg --classes 3000 --objects objects.json --image-data image_data.json --out vg3000
    """
    from kgtool.classes import parse_class_spec
    from kgtool.datasets.visual_genome import ImageChoice, split_visual_genome

    if (train_list or test_list) and (test_images is not None or seed is not None):
        raise click.UsageError(
            "--train-list and --test-list say which images: leave --test-images, --seed out"
        )
    with read_options(strict, workers) as options:
        report = split_visual_genome(
            objects,
            image_data,
            out,
            classes=parse_class_spec(classes),
            relationships=relationships,
            choice=ImageChoice(test_images, seed or 0, train_list, test_list),
            options=options,
            overwrite=overwrite,
        )
    for message in report["messages"]:
        click.echo(f"kgtool: {message}", err=True)
    click.echo(json.dumps({"out": str(out)} | report) if as_json else _summary(out, report))


def _summary(out: Path, report: dict[str, Any]) -> str:
    """The report in a few lines."""
    lines = [f"{out}: {report['num_classes']} classes"]
    for name in ("train", "test"):
        counts = ", ".join(f"{count} {what}" for what, count in report[name].items())
        lines.append(f"{name}: {counts}")
    for name in ("objects", "relations", "images"):
        for reason, count in report.get(name, {}).get("skipped", {}).items():
            lines.append(f"left out: {count} {name}: {reason}")
    return "\n".join(lines)
