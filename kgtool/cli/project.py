"""`kgtool project`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from kgtool.cli.printable import printable

#: Messages that are shown; a list of thousands of classes has many with one synset.
_SHOWN = 20
#: Names that are printed of a long list.
_NAMED = 60


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--classes",
    metavar="coco|voc|ade150|ade|FILE",
    required=True,
    help="Class list of the new graph; a table that kgtool map wrote says which boxes each class takes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Graph to write: .npz or .parquet.",
)
@click.option(
    "--fallback",
    type=click.Choice(["hypernym"]),
    help="A class without evidence takes the row of the nearest hypernym, marked in the file.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="With --fallback: how many steps above the hypernym may be.",
)
@click.option(
    "--order",
    type=click.Choice(["counts", "weights"]),
    default="counts",
    show_default=True,
    help="Slice counts, then normalise; or slice the weights that all classes of the graph normalised.",
)
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the graph if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def project(
    graph_path: Path,
    classes: str,
    out: Path,
    fallback: str | None,
    steps: int,
    order: Literal["counts", "weights"],
    wordnet: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn a graph into one over another class list, as Visual Genome's into COCO's.

    Each class takes the counts of the graph classes that kgtool map finds for it; several add up. Classes
    without evidence are listed; their rows stay empty, or with --fallback are a hypernym's. The header's
    `projection` says what each class was made of.

    Example: kgtool project relation.npz --classes coco --out coco.npz
    """
    from kgtool.class_names import read_class_names
    from kgtool.graph import check_graph_path, load_graph, save_graph
    from kgtool.projection import project_graph
    from kgtool.wordnet import load_nouns

    check_graph_path(out, overwrite=overwrite)
    done = project_graph(
        load_graph(graph_path),
        read_class_names(classes),
        load_nouns(wordnet),
        order=order,
        fallback_steps=steps if fallback else 0,
    )
    save_graph(done.graph, out, overwrite=overwrite)
    summary = {
        "out": str(out),
        "graph_hash": done.graph.graph_hash,
        "classes": len(done.rows),
        "merged": list(done.merged),
        "fallback": done.fallback,
        "no_evidence": list(done.no_evidence),
        "isolated": list(done.isolated),
        "left_out": list(done.left_out),
        "messages": list(done.messages),
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    found = len(done.rows) - len(done.no_evidence)
    click.echo(f"{out}: {done.graph.kind} graph, {found} of {len(done.rows)} classes with evidence")
    if done.merged:
        click.echo(f"Merged from several: {_first(done.merged)}")
    if done.fallback:
        above = [f"{name} ({hypernym})" for name, hypernym in done.fallback.items()]
        click.echo(f"From a hypernym: {_first(above)}")
    for message in done.messages[:_SHOWN]:
        click.echo(printable(message), err=True)
    if len(done.messages) > _SHOWN:
        click.echo(f"... and {len(done.messages) - _SHOWN} more such lines: see --json", err=True)
    if done.isolated:
        click.echo(f"Without an edge to another class: {_first(done.isolated)}", err=True)
    if done.no_evidence:
        click.echo(f"Without evidence: {_first(done.no_evidence)}", err=True)


def _first(names: Sequence[str]) -> str:
    """The names that fit on a screen."""
    more = f"; ... and {len(names) - _NAMED} more: see --json" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
