"""`detector explain`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json

_SHOWN = 3


@click.command("explain")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for JSON and pictures.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Leave out detections with a lower score.",
)
@click.option(
    "--detections", type=click.IntRange(min=1), default=8, show_default=True, help="Explain the N best."
)
@click.option(
    "--top",
    "most",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Edges, and regions looked at, of each detection.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run; auto takes a GPU when there is one.",
)
@click.option("--no-pictures", is_flag=True, default=False, help="Write explanation.json alone.")
@click.option("--overwrite", is_flag=True, default=False, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def explain_command(
    run: Path, image: Path, out: Path, no_pictures: bool, as_json: bool, **options: Any
) -> None:
    """Show why a detector scores the objects of IMAGE as it does.

    The image's attention over classes; for each detection the graph edges, and the other objects, that moved
    its score: what it is without each of them, everything else as it was; and the regions that its own region
    looks at. Which of these there are depends on the heads of RUN: edges and attention with Reasoning-RCNN,
    regions with Relation Networks and SGRN, pairs of classes and who says what of them with class lift.

    Example: detector explain run data/sample/images/test_000000.jpg --out why
    """
    from detector.explain import explain_run

    document = explain_run(run, image, out, pictures=not no_pictures, **options)
    if as_json:
        echo_json(document)
    else:
        click.echo("\n".join(_lines(document)))
        click.echo(f"{len(document['detections'])} detections explained in {out}")


def _lines(document: dict[str, Any]) -> Iterator[str]:
    if "attention" in document:
        first = [f"{row['class']} {row['weight']:.2f}" for row in document["attention"][:_SHOWN]]
        yield f"attention: {', '.join(first)}"
    for number, found in enumerate(document["detections"], start=1):
        yield f"{number} {found['class']} {found['score']:.3f}"
        effects = [(_edge_name(edge), edge) for edge in found["edges"]]
        effects += [
            (f"object {other['detection'] + 1} {other['class']}", other) for other in found["objects"]
        ]
        effects.sort(key=lambda pair: -abs(pair[1]["change"]))
        for name, effect in effects[:_SHOWN]:
            yield f"    without {name}: {effect['score_without']:.3f}"


def _edge_name(edge: dict[str, Any]) -> str:
    name = " - ".join(edge["classes"])
    if "lift" not in edge:
        return name + (f", graph {edge['graph'] + 1}" if edge["graph"] else "")
    said = f", said by {', '.join(str(place + 1) for place in edge['said_by'])}" if edge["said_by"] else ""
    return f"{name}, lift {edge['lift']:.3g}{said}"
