"""`kgtool build-cooccurrence`: a class graph from the user's own boxes."""

import json
from pathlib import Path

import click

from kgtool.cli.reading import engine_option, exclude_option, image_data_option, read_options


@click.command()
@click.argument("source", metavar="INSTANCES.json|TRIPLES")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="GRAPH",
    required=True,
    help="The graph to write: .npz or .parquet.",
)
@click.option(
    "--classes",
    "spec",
    metavar="N|FILE",
    help="The N classes with most boxes, or a class list, matched by name, else by synset. "
    "[default: the categories of the COCO file]",
)
@click.option(
    "--window",
    type=click.Choice(["image", "near", "knn"]),
    help="Which pairs of boxes: all of an image; boxes apart by at most the mean of their sides; a box and "
    "its nearest. [default: image]",
)
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    help="How many nearest boxes --window knn takes. [default: 5]",
)
@click.option(
    "--geometry",
    is_flag=True,
    default=False,
    help="Name the relation of a pair: inside, overlaps, above, below, near.",
)
@click.option(
    "--weight",
    type=click.Choice(["normalized", "npmi", "conditional"]),
    default="normalized",
    show_default=True,
    help="Counts over the root of both sums; normalised mutual information; or P(other class | class), "
    "which is a directed graph.",
)
@engine_option
@exclude_option
@image_data_option
@click.option("--workers", type=click.IntRange(min=1), help="Threads that count. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the graph if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def build_cooccurrence(
    source: str,
    out: Path,
    spec: str | None,
    window: str | None,
    neighbours: int | None,
    geometry: bool,
    weight: str,
    engine: str,
    exclude: Path | None,
    image_data: Path | None,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build a class graph from your own COCO file: which classes are together, and how.

    An image counts once for two classes that have a pair of boxes in the window, and once for a class with
    itself where two of its boxes are. With TRIPLES (as build-relation takes them) each row counts as a pair.

    Example: kgtool build-cooccurrence instances.json --out cooccurrence.npz
    """
    from kgtool.build_result import Output
    from kgtool.classes import parse_class_spec
    from kgtool.cooccurrence import PairOptions, build_cooccurrence_graph

    if neighbours is not None and window != "knn":
        raise click.UsageError("--neighbours goes with --window knn")
    asked = window is not None or geometry
    with read_options(False, workers, exclude, image_data) as options:
        build = build_cooccurrence_graph(
            source,
            classes=None if spec is None else parse_class_spec(spec),
            pairs=PairOptions(window or "image", geometry, neighbours or 5) if asked else None,
            weight=weight,
            engine=engine,
            options=options,
            output=Output(out, overwrite),
        )
    graph = build.graph
    read = graph.header["sources"][0]
    if as_json:
        report = {
            "out": str(out),
            "graph_hash": graph.graph_hash,
            "kind": graph.kind,
            "recipe": graph.header["recipe"],
            "classes": len(graph.classes),
            "edges": build.num_edges,
            "pairs": build.counted,
            "classes_without_evidence": list(build.no_evidence),
            "sources": graph.header["sources"],
        }
        click.echo(json.dumps(report))
        return
    click.echo(f"{out}: {graph.kind} graph of {len(graph.classes)} classes, {build.num_edges} edges")
    click.echo(f"graph_hash {graph.graph_hash}")
    click.echo(f"pairs: {build.counted}")
    if "boxes" in read:
        click.echo(f"boxes: {read['boxes']} in {read['records']} images")
    for reason, number in {**read.get("skipped_boxes", {}), **build.skipped}.items():
        if number:
            click.echo(f"skipped, {reason}: {number}")
    if build.no_evidence:
        names = ", ".join(build.no_evidence[:10]) + (", ..." if len(build.no_evidence) > 10 else "")
        click.echo(f"classes without evidence: {len(build.no_evidence)} ({names})")
