"""`kgtool triples`: annotations as Parquet shards that any engine counts."""

import json
from pathlib import Path
from typing import Literal

import click

from kgtool.cli.reading import exclude_option, image_data_option, read_options

_FILE = click.Path(dir_okay=False, allow_dash=True)


@click.command()
@click.argument("source", type=_FILE, metavar="RELATIONSHIPS.json|ATTRIBUTES.json|TEXT")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="The folder to write; it appears when it is complete.",
)
@click.option(
    "--kind",
    type=click.Choice(["relation", "attribute"]),
    default="relation",
    show_default=True,
    help="What the source holds: relationships, or attributes.",
)
@click.option(
    "--objects",
    type=_FILE,
    metavar="FILE",
    help="objects.json of release 1.2 or 1.4: gives a synset to ends without one.",
)
@click.option(
    "--key",
    "ends",
    type=click.Choice(["synset", "name"]),
    default="synset",
    show_default=True,
    help="An end of a Visual Genome annotation is its one synset, or its name (release 1.0 has only names).",
)
@click.option(
    "--predicate-key",
    type=click.Choice(["text", "synset"]),
    default="text",
    show_default=True,
    help="A predicate is its text, or its first synset.",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(min=1),
    default=10_000_000,
    show_default=True,
    help="Rows of a shard.",
)
@exclude_option
@image_data_option
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the folder if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def triples(
    source: str,
    out: Path,
    kind: str,
    objects: str | None,
    ends: Literal["synset", "name"],
    predicate_key: Literal["text", "synset"],
    shard_rows: int,
    exclude: Path | None,
    image_data: Path | None,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write annotations as Parquet shards of triples, one row each: for any engine, on any machines.

    The source is relationships.json or attributes.json of Visual Genome, a .csv, .tsv or .jsonl with
    subject, predicate and object, or a COCO JSON with relations; also as .gz or .zip. Nothing is dropped: an
    end without exactly one synset is null, and so is an empty predicate.

    Example: kgtool triples relationships.json --out triples
    """
    from kgtool.triple_writing import TripleOptions, write_triples

    with read_options(False, workers, exclude, image_data) as options:
        report = write_triples(
            source,
            out,
            triples=TripleOptions(kind, ends, predicate_key, objects),
            options=options,
            shard_rows=shard_rows,
            overwrite=overwrite,
        )
    if as_json:
        found = {"triples": report.triples, "shards": report.shards, "without": report.without}
        click.echo(json.dumps({"out": str(out), "kind": kind, **found, "sources": list(report.sources)}))
        return
    click.echo(f"{out}: {report.triples} triples in {report.shards} shards")
    for column, number in report.without.items():
        click.echo(f"without {column}: {number}")
