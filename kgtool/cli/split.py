"""`kgtool split`: train and test sets as COCO JSON, one command a data set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgtool.cli.printable import tell
from kgtool.cli.reading import image_bar, read_options

if TYPE_CHECKING:
    from kgtool.splits import ImageChoice

_FILE = click.Path(path_type=Path, dir_okay=False)
_OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
_OVERWRITE = click.option(
    "--overwrite", is_flag=True, default=False, help="Replace the folder if it is there."
)
_JSON = click.option(
    "--json", "as_json", is_flag=True, default=False, help="Print the report as one JSON document."
)


def _image_options(num_test: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Which images go where; `num_test` is the help of --test-images."""
    options = (
        click.option("--test-images", type=click.IntRange(min=0), help=num_test),
        click.option("--seed", type=int, help="Which images are tested on. [default: 0]"),
        click.option("--train-list", type=_FILE, help="Train on these images: one id or path a line."),
        click.option("--test-list", type=_FILE, help="Test on these images: one id or path a line."),
    )

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


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
@_OUT
@click.option("--relationships", type=_FILE, help="relationships.json: relations between boxes, too.")
@_image_options("Images to test on. [default: 5000, or 5 % if less]")
@click.option(
    "--strict",
    is_flag=True,
    default=False,
    help="Make the first unknown image, box without area or repeated object an error.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@_OVERWRITE
@_JSON
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
    from kgtool.datasets.visual_genome import split_visual_genome
    from kgtool.splits import ImageChoice

    choice = _choice(test_images, seed, train_list, test_list) or ImageChoice()
    with read_options(strict, workers) as options:
        report = split_visual_genome(
            objects,
            image_data,
            out,
            classes=parse_class_spec(classes),
            relationships=relationships,
            choice=choice,
            options=options,
            overwrite=overwrite,
        )
    _print(out, report, as_json)


@split.command()
@click.argument("instances", type=_FILE, nargs=-1, required=True, metavar="INSTANCES.json...")
@_OUT
@click.option(
    "--classes", metavar="LIST", help="Keep these classes: coco, voc, or a class list. [default: all]"
)
@_image_options("Divide all images; so many to test on. [default: 5000, or 5 % if less]")
@click.option(
    "--strict", is_flag=True, default=False, help="Make a box without area or past its image's edge an error."
)
@_OVERWRITE
@_JSON
def coco(
    instances: tuple[Path, ...],
    out: Path,
    classes: str | None,
    test_images: int | None,
    seed: int | None,
    train_list: Path | None,
    test_list: Path | None,
    strict: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Split COCO 2017, or your own COCO JSON: ids, boxes, masks and areas stay as they are.

    Of two files the first is the train set and the second the test set, as published; they must have the
    same categories and share no id. One file is divided by seed. With lists, --test-images or --seed, the
    images of all files together are divided. DIR gets train.json, test.json, classes.csv and report.json.

    Example: kgtool split coco instances_train2017.json instances_val2017.json --out coco
    """
    from kgtool.datasets.coco import split_coco

    choice = _choice(test_images, seed, train_list, test_list)
    report = split_coco(instances, out, classes=classes, choice=choice, strict=strict, overwrite=overwrite)
    _print(out, report, as_json)


@split.command()
@click.argument("root", type=click.Path(path_type=Path))
@_OUT
@click.option(
    "--protocol",
    type=click.Choice(["07+12", "07", "12"]),
    default="07+12",
    show_default=True,
    help="07+12: trainval of both years, test of 2007; 07: trainval and test; 12: train and val.",
)
@click.option(
    "--classes",
    metavar="LIST",
    help="Keep these classes: voc, or a class list. [default: VOC's 20, and other names found]",
)
@_image_options("Instead of the protocol, divide all images by seed; so many to test on.")
@click.option("--strict", is_flag=True, default=False, help="Make the first thing that is wrong an error.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@_OVERWRITE
@_JSON
@click.pass_context
def voc(
    context: click.Context,
    root: Path,
    out: Path,
    protocol: str,
    classes: str | None,
    test_images: int | None,
    seed: int | None,
    train_list: Path | None,
    test_list: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Split Pascal VOC by its own lists, or any folder with Annotations/*.xml by yours.

    ROOT is VOCdevkit. DIR gets train.json, test.json, classes.csv, report.csv with whatever is wrong in the
    annotations, a row each, and report.json. Lists, --test-images or --seed replace the protocol; annotations
    that cannot be used are then left out, and the exit code is 3 after all else has been written.

    Example: kgtool split voc VOCdevkit --protocol 07+12 --out voc0712
    """
    from kgtool.datasets.voc import VocOptions, split_voc
    from kgtool.errors import InputError
    from kgtool.workers import default_num_workers

    choice = _choice(test_images, seed, train_list, test_list)
    if choice and context.get_parameter_source("protocol") != click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--protocol says which images: leave the lists, --test-images, --seed out")
    with image_bar() as show:
        options = VocOptions(classes, strict, workers or default_num_workers(), show)
        report = split_voc(root, out, protocol=protocol, choice=choice, options=options, overwrite=overwrite)
    _print(out, report, as_json)
    if choice and report["images"]["left_out"]:
        images = report["images"]
        raise InputError(
            f"{root}: {images['left_out']} of {images['found']} annotations cannot be used and are in no "
            f"set; see {out / 'report.csv'}"
        )


@split.command()
@click.argument("instances", type=_FILE, metavar="INSTANCES.json")
@_OUT
@click.option(
    "--overlap",
    type=_FILE,
    metavar="GRAPH|LIST",
    help="Keep the classes that this graph or class list has as well. [default: all]",
)
@_image_options("Validation images to test on. [default: 1000, or all if fewer]")
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@_OVERWRITE
@_JSON
def ade(
    instances: Path,
    out: Path,
    overlap: Path | None,
    test_images: int | None,
    seed: int | None,
    train_list: Path | None,
    test_list: Path | None,
    wordnet: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Split the boxes that kgtool boxes ade made: ADE20K's training set, and validation images to test on.

    INSTANCES.json is the instances.json of kgtool boxes ade. With --overlap, classes are found in the graph
    as kgtool map finds them, and several that are one class there become one; the rest is left out and
    counted. DIR gets train.json, test.json, classes.csv and report.json.

    Example: kgtool split ade ade/instances.json --overlap relation.npz --out ade_vg
    """
    from kgtool.datasets.ade import split_ade
    from kgtool.splits import ImageChoice

    choice = _choice(test_images, seed, train_list, test_list) or ImageChoice()
    report = split_ade(instances, out, overlap=overlap, wordnet=wordnet, choice=choice, overwrite=overwrite)
    _print(out, report, as_json)


def _choice(
    test_images: int | None, seed: int | None, train_list: Path | None, test_list: Path | None
) -> "ImageChoice | None":
    """What was asked for; None: nothing."""
    from kgtool.splits import ImageChoice

    if (train_list or test_list) and (test_images is not None or seed is not None):
        raise click.UsageError(
            "--train-list and --test-list say which images: leave --test-images, --seed out"
        )
    if test_images is None and seed is None and not train_list and not test_list:
        return None
    return ImageChoice(test_images, seed or 0, train_list, test_list)


def _print(out: Path, report: dict[str, Any], as_json: bool) -> None:
    for message in report["messages"]:
        tell(message)
    click.echo(json.dumps({"out": str(out)} | report) if as_json else _summary(out, report))


def _summary(out: Path, report: dict[str, Any]) -> str:
    """The report in a few lines."""
    lines = [f"{out}: {report['num_classes']} classes"]
    for name in ("train", "test"):
        counts = ", ".join(f"{count} {what}" for what, count in report[name].items())
        lines.append(f"{name}: {counts}")
    for name in ("objects", "boxes", "relations", "images"):
        for reason, count in report.get(name, {}).get("skipped", {}).items():
            lines.append(f"left out: {count} {name}: {reason}")
    for kind, count in (report.get("findings", {}) | report.get("doubts", {})).items():
        lines.append(f"found: {count} times: {kind}")
    return "\n".join(lines)
