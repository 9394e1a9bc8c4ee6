"""`kgtool sample`: write a sample world."""

import json
from dataclasses import asdict
from pathlib import Path

import click

#: The names in kgtool/sample_world.py, which is not imported for `--help`; a test compares them.
FAMILY_NAMES = ("W", "L", "S", "mini")


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the world."
)
@click.option(
    "--family",
    type=click.Choice(FAMILY_NAMES),
    default="mini",
    show_default=True,
    help="mini: 24 classes, easy. W: 96 classes. L: 160 classes, longer tail. S: 96 classes, half of "
    "which only the place of their company tells apart.",
)
@click.option("--images", type=click.IntRange(min=1), help="Training images. [default: the family's]")
@click.option("--test-images", type=click.IntRange(min=1), help="Test images. [default: the family's]")
@click.option(
    "--corpus", type=click.IntRange(min=1), help="Images annotated but not painted. [default: the family's]"
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace an earlier sample.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def sample(
    out: Path,
    seed: int,
    family: str,
    images: int | None,
    test_images: int | None,
    corpus: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a sample world: small scenes in which some classes are told apart by context only.

    DIR gets train.json, test.json and images/ for a detector, and vg/, Visual-Genome-shaped annotations of
    other scenes to count class graphs from. The same seed makes the same world, whatever the numbers of
    images; the first images of a larger sample are those of a smaller one.

    Example: kgtool sample --seed 0 --images 240 --out world
    """
    from kgtool.sample_files import save_sample
    from kgtool.sample_world import FAMILIES, World

    sizes = FAMILIES[family]
    summary = save_sample(
        World(sizes, seed),
        out,
        train_images=images or sizes.train_images,
        test_images=test_images or sizes.test_images,
        corpus_images=corpus or sizes.corpus_images,
        overwrite=overwrite,
    )
    if as_json:
        click.echo(json.dumps({"out": str(out)} | asdict(summary)))
        return
    click.echo(
        f"{out}: {summary.classes} classes, {summary.train_images} training and "
        f"{summary.test_images} test images, {summary.corpus_images} more without pictures\n"
        f"boxes of a class in train: {summary.instances_min} to {summary.instances_max}, "
        f"median {summary.instances_median:g}"
    )
