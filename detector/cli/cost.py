"""`detector cost`."""

from typing import Any

import click

from detector.cli.output import echo_json

#: Columns of the table: key, heading, divisor, digits.
COLUMNS = (
    ("weights", "M weights", 1e6, 2),
    ("multiply_adds", "G mult-adds", 1e9, 2),
    ("milliseconds", "ms", 1, 1),
    ("region_milliseconds", "ms for regions", 1, 1),
    ("peak_bytes", "peak MB", 1e6, 0),
)

#: What each percentage is of.
LABELS = {
    "weights": "weights",
    "multiply_adds": "multiply-adds",
    "milliseconds": "time",
    "peak_bytes": "memory",
    "region_milliseconds": "time for regions",
    "beyond_stacked": "time for regions beyond stacked",
}


@click.command("cost")
@click.option("--recipe", help="Recipe to measure.")
@click.option("--backbone", help="Instead of a recipe, a backbone as ImageNet classifier.")
@click.option("--base", help="Recipe to compare with; without it, the recipe without what its paper adds.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the recipe; may be repeated.",
)
@click.option(
    "--classes", type=click.IntRange(min=1), default=80, show_default=True, help="Classes of the recipe."
)
@click.option(
    "--size", type=click.IntRange(min=32), help="Side of the square image in px; without it, the recipe's."
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def cost_command(
    recipe: str | None,
    backbone: str | None,
    base: str | None,
    assignments: tuple[str, ...],
    classes: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Print weights, multiply-adds, time and memory of one image, for a recipe and for its base.

    The base is the same detector without later stages, context blocks, deformable convolutions and other
    heads. "ms for regions" is the part after the proposals: less noisy than the whole, and where a paper
    about regions adds. Where a later stage has the head of a paper there is a third row, "stacked", with the
    plain head in its place: what the recipe costs beyond it is the paper's own part. Papers call
    multiply-adds FLOPs. Weights and image are random.

    Example: detector cost --recipe reasoning_rcnn_sample --classes 20

    Example: detector cost --backbone glore_resnext50
    """
    from detector.cost import cost_of_backbone, cost_of_recipe
    from detector.overrides import parse_assignments

    settings = parse_assignments(assignments)
    if (recipe is None) == (backbone is None):
        raise click.UsageError("give --recipe or --backbone, one of them")
    if backbone is not None and (base is not None or settings):
        raise click.UsageError("--base and --set are for recipes; a backbone has neither")
    if backbone is not None:
        result = cost_of_backbone(backbone, **options)
    else:
        result = cost_of_recipe(str(recipe), base=base, settings=settings, num_classes=classes, **options)
    if as_json:
        echo_json(result)
        return
    regions = f", {result['regions']} regions" if "regions" in result else ""
    click.echo(f"{result['classes']} classes, {result['size']} px{regions}, {result['device']}")
    width = max(len(row["name"]) for row in result["models"])
    click.echo(" " * width + "".join(f"{heading:>16}" for _, heading, _, _ in COLUMNS))
    for row in result["models"]:
        numbers = "".join(f"{row[key] / divisor:>16.{digits}f}" for key, _, divisor, digits in COLUMNS)
        click.echo(f"{row['name']:<{width}}{numbers}")
    for name, percent in result["added_percent"].items():
        click.echo(f"added {LABELS[name]}: {percent} % of the base")
