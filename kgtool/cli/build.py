"""`kgtool build-relation` and `kgtool build-attribute`: annotations in, a class graph out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kgtool.cli.printable import tell
from kgtool.cli.reading import engine_option, exclude_option, image_data_option, read_options

if TYPE_CHECKING:
    from kgtool.build import Build

_FILE = click.Path(dir_okay=False, allow_dash=True)


def _shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of both commands, in the order of their help."""
    for option in reversed(
        [
            click.option(
                "--classes",
                "spec",
                metavar="N|FILE",
                required=True,
                help="The N most frequent synsets (by objects with exactly one if --objects is given, else "
                "by annotations; ties by name), or a class list: CSV name,synset, one name or synset a line, "
                "COCO JSON, JSON of name to synset.",
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="GRAPH",
                required=True,
                help="The graph to write: .npz or .parquet.",
            ),
            click.option(
                "--objects",
                type=_FILE,
                metavar="FILE",
                help="objects.json of release 1.2 or 1.4: gives a synset to annotations without one.",
            ),
        ]
    ):
        command = option(command)
    return command


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of both commands that change how, not what."""
    for option in reversed(
        [
            exclude_option,
            image_data_option,
            engine_option,
            click.option(
                "--strict",
                is_flag=True,
                default=False,
                help="Make the first annotation that would be skipped for dirt an error.",
            ),
            click.option(
                "--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]"
            ),
            click.option(
                "--overwrite", is_flag=True, default=False, help="Replace the graph if it is there."
            ),
            click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document."),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", metavar="RELATIONSHIPS.json|TRIPLES")
@_shared_options
@click.option(
    "--recipe",
    type=click.Choice(["paper", "release"]),
    default="paper",
    show_default=True,
    help="How counts become weights: as in the paper, or as in its authors' code.",
)
@click.option(
    "--predicates",
    type=click.IntRange(min=0),
    help="How many predicates count, the most frequent of the file; 0: all. [default: 200; release: 0]",
)
@click.option(
    "--predicate-key",
    type=click.Choice(["text", "synset"]),
    default="text",
    show_default=True,
    help="A predicate is its text, or its first synset.",
)
@_run_options
def build_relation(
    source: str,
    spec: str,
    out: Path,
    objects: str | None,
    recipe: str,
    predicates: int | None,
    predicate_key: Literal["text", "synset"],
    engine: str,
    exclude: Path | None,
    image_data: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build a class graph from relationships: which classes stand in relation, and how often.

    RELATIONSHIPS.json is relationships.json of Visual Genome 1.2 or 1.4 (1.0 with --objects), also as .gz or
    .zip, or one record a line; a folder or glob of such files is read as one; - is standard input. Each
    annotation whose two ends have exactly one synset, both of classes, counts once. Whatever is skipped is
    counted by reason.

    TRIPLES is a folder, file, glob or URL of Parquet shards (kgtool triples makes them), a .csv, .tsv or
    .jsonl with subject, predicate and object, or a COCO JSON with relations. The same data give the same
    graph_hash in any form, from any engine.

    Example: kgtool build-relation relationships.json --classes 1000 --out relation.npz
    """
    from kgtool.build import Output, build_relation_graph
    from kgtool.classes import parse_class_spec

    with read_options(strict, workers, exclude, image_data) as options:
        build = build_relation_graph(
            source,
            classes=parse_class_spec(spec),
            objects=objects,
            num_terms=predicates,
            term_key=predicate_key,
            recipe=recipe,
            engine=engine,
            options=options,
            output=Output(out, overwrite),
        )
    _print_build(build, out, as_json)


@click.command()
@click.argument("source", metavar="ATTRIBUTES.json|TRIPLES")
@_shared_options
@click.option(
    "--recipe",
    type=click.Choice(["similarity", "divergence", "release"]),
    default="similarity",
    show_default=True,
    help="1 - JS / ln 2; the divergence JS itself, in nats; or as in the authors' code.",
)
@click.option(
    "--attributes",
    "num_attributes",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="How many attributes count, the most frequent of the file; 0: all.",
)
@_run_options
def build_attribute(
    source: str,
    spec: str,
    out: Path,
    objects: str | None,
    recipe: str,
    num_attributes: int,
    engine: str,
    exclude: Path | None,
    image_data: Path | None,
    strict: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build a class graph from attributes: which classes look alike.

    ATTRIBUTES.json is attributes.json of Visual Genome 1.2 or 1.4 (1.0 with --objects), also as .gz or .zip,
    or one record a line; a folder or glob of such files is read as one; - is standard input. Classes are
    compared by the Jensen-Shannon divergence between their distributions over the most frequent attributes,
    which are stored beside the graph.

    TRIPLES is a folder, file, glob or URL of Parquet shards (kgtool triples --kind attribute makes them), or
    a .csv, .tsv or .jsonl, with subject and attribute.

    Example: kgtool build-attribute attributes.json --classes 1000 --out attribute.npz
    """
    from kgtool.build import Output, build_attribute_graph
    from kgtool.classes import parse_class_spec

    with read_options(strict, workers, exclude, image_data) as options:
        build = build_attribute_graph(
            source,
            classes=parse_class_spec(spec),
            objects=objects,
            num_terms=num_attributes,
            recipe=recipe,
            engine=engine,
            options=options,
            output=Output(out, overwrite),
        )
    _print_build(build, out, as_json)


def _print_build(build: "Build", out: Path, as_json: bool) -> None:
    graph = build.graph
    num_edges = build.num_edges
    for message in build.messages:
        tell(message)
    if as_json:
        report = {
            "out": str(out),
            "graph_hash": graph.graph_hash,
            "dataset": graph.header["dataset"],
            "kind": graph.kind,
            "recipe": graph.header["recipe"],
            "classes": len(graph.classes),
            "edges": num_edges,
            "annotations": build.annotations,
            "counted": build.counted,
            "selected": build.selected,
            "skipped": build.skipped,
            "classes_without_evidence": list(build.no_evidence),
            "sources": graph.header["sources"],
        }
        click.echo(json.dumps(report))
        return
    click.echo(f"{out}: {graph.kind} graph of {len(graph.classes)} classes, {num_edges} edges")
    click.echo(f"graph_hash {graph.graph_hash}")
    terms = "predicates" if graph.kind == "relation" else "attributes"
    click.echo(
        f"annotations: {build.annotations} read, {build.counted} counted, "
        f"{build.selected} of them of the selected {terms}"
    )
    for reason, number in build.skipped.items():
        click.echo(f"skipped, {reason}: {number}")
    if build.no_evidence:
        names = ", ".join(build.no_evidence[:10]) + (", ..." if len(build.no_evidence) > 10 else "")
        click.echo(f"classes without evidence: {len(build.no_evidence)} ({names})")
