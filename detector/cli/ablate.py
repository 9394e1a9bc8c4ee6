"""`detector ablate`."""

from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json


@click.command("ablate")
@click.option("--recipe", required=True, help="The recipe whose method is examined.")
@click.option(
    "--controls",
    default="none,context",
    show_default=True,
    help="What is taken away, by comma: none, context (always part of it), identity, shuffled, random, "
    "degree-preserving, uniform, no-attention, region-feature; all: every one that fits.",
)
@click.option("--rivals", default="", help="Other recipes in the same setting, by comma.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds 0 to so many less one."
)
@click.option("--worlds", help="Sample worlds: 4 for W0 to W3, or names such as W101,L12.")
@click.option("--data", type=click.Path(path_type=Path), help="Data folder with the splits train and test.")
@click.option("--graph", type=click.Path(path_type=Path), help="Class graph of --data.")
@click.option(
    "--init", type=click.Path(path_type=Path), help="Trained base detector of --data; else one is trained."
)
@click.option(
    "--protocol",
    type=click.Choice(["frozen-trunk", "end-to-end"]),
    default="frozen-trunk",
    show_default=True,
    help="Train region stages alone on kept regions, or whole detectors.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where whole detectors are trained; region stages alone are trained on the CPU.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the experiment.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of the recipe, for all arms; may be repeated.",
)
@click.option(
    "--base-set",
    "base_assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of the base detector; may be repeated.",
)
@click.option(
    "--max-images", type=click.IntRange(min=1), help="Use the first N images with boxes of each split."
)
@click.option(
    "--resamples",
    type=click.IntRange(min=2),
    default=300,
    show_default=True,
    help="Resamples of the test images, for intervals.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes at the same time, one thread each.",
)
@click.option(
    "--overwrite", is_flag=True, default=False, help="Make again what was made with other settings."
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def ablate_command(
    controls: str,
    rivals: str,
    worlds: str | None,
    out: Path,
    assignments: tuple[str, ...],
    base_assignments: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask what of a method helps: its recipe beside the same with something taken away.

    On a frozen trunk: the base detector is trained once, the regions it finds are kept, and only region
    stages are trained on them, all from the same weights in the same order of images. End to end: ordinary
    trainings of all arms, which start from the base detector. Differences are paired, with 95 % intervals
    over resamples of the images (and of worlds and seeds where there are several). What is finished in --out
    is not made again.

    Example: detector ablate --recipe reasoning_rcnn_sample --worlds 4 --controls all --out ablation

    Example: detector ablate --recipe R --data DIR --graph G --init RUN --controls shuffled --out ablation
    """
    from detector.ablation import ablate
    from detector.ablation_report import table_rows
    from detector.experiment import Experiment
    from detector.overrides import parse_assignments
    from detector.worlds import parse_worlds

    experiment = Experiment(
        controls=_words(controls),
        rivals=_words(rivals),
        worlds=parse_worlds(worlds) if worlds else (),
        settings=parse_assignments(assignments),
        base_settings=parse_assignments(base_assignments),
        **options,
    )
    report = ablate(
        experiment, out, jobs=jobs, overwrite=overwrite, say=lambda text: click.echo(text, err=True)
    )
    if as_json:
        echo_json({"out": str(out), **report})
        return
    head, rows = table_rows(report)
    for line in _aligned([head, *rows]):
        click.echo(line)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows of text as columns: the first to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
