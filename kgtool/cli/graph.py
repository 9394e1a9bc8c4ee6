"""`kgtool check` and `kgtool show`: a graph file looked at."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgtool.cli.printable import printable
from kgtool.errors import GraphFormatError

if TYPE_CHECKING:
    from kgtool.graph import ClassGraph
    from kgtool.graph_summary import Edge, GraphSummary

_GRAPH = click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")


@click.command()
@_GRAPH
@_JSON
def check(graph_path: Path, as_json: bool) -> None:
    """Say whether a graph file is valid, and its hash; or what is wrong, with exit code 3.

    Example: kgtool check relation.npz
    """
    from kgtool.graph import load_graph

    try:
        graph = load_graph(graph_path)
    except GraphFormatError as error:
        if as_json:
            _print_json({"valid": False, "error": str(error)})
        raise
    if as_json:
        _print_json({"valid": True, "graph_hash": graph.graph_hash, "num_classes": len(graph.classes)})
    else:
        click.echo(
            f"{graph_path}: valid, {graph.kind} graph of {len(graph.classes)} classes, {graph.graph_hash}"
        )


@click.command()
@_GRAPH
@click.option("--class", "class_name", metavar="NAME", help="Show the edges of this class, and why they are.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many edges.")
@_JSON
def show(graph_path: Path, class_name: str | None, top: int, as_json: bool) -> None:
    """Print a graph's header, size, isolated classes and strongest edges; or the edges of one class.

    Behind each edge stands the evidence: how often each predicate leads there and (after the slash) back, or
    how often each shared attribute is on the one class and on the other.

    Example: kgtool show relation.npz --class dog.n.01 --top 5
    """
    from kgtool.graph import load_graph
    from kgtool.graph_summary import edges_of_class, summarise_graph

    graph = load_graph(graph_path)
    if class_name is not None:
        edges = edges_of_class(graph, class_name, top)
        if as_json:
            _print_json({"class": class_name, "edges": [asdict(edge) for edge in edges]})
        else:
            _print_edges(edges, graph)
        return
    summary = summarise_graph(graph, top)
    if as_json:
        _print_json({"header": graph.header, **asdict(summary)})
    else:
        _print_summary(graph, summary)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _print_summary(graph: "ClassGraph", summary: "GraphSummary") -> None:
    for key, value in graph.header.items():
        if key != "sources":
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{printable(key):15} {printable(text)}")
    for source in graph.header["sources"]:
        click.echo(f"{'source':15} {printable(json.dumps(source, ensure_ascii=False))}")
    click.echo(f"{'classes':15} {summary.num_classes}")
    click.echo(
        f"{'edges':15} {summary.num_edges} ({100 * summary.density:.1f} % of all pairs), "
        f"and {summary.num_self_loops} self loops"
    )
    click.echo(
        f"{'components':15} {summary.num_components}, the largest of {summary.largest_component} classes"
    )
    click.echo(f"{'isolated':15} {len(summary.isolated)}{_listed(summary.isolated)}")
    click.echo("strongest edges")
    _print_edges(summary.strongest, graph)


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"


def _print_edges(edges: "tuple[Edge, ...]", graph: "ClassGraph") -> None:
    if not edges:
        click.echo("  none")
    link = "->" if graph.header["directed"] else "--"
    for edge in edges:
        reasons = printable(", ".join(f"{r.term} {r.count}/{r.other_count}" for r in edge.reasons))
        click.echo(
            f"  {edge.weight:.4f}  {edge.source} {link} {edge.target}{'  ' if reasons else ''}{reasons}"
        )
