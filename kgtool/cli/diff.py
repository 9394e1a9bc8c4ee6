"""`kgtool diff`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kgtool.graph_difference import GraphDifference

_SHOWN = 15


@click.command()
@click.argument("path_a", metavar="A", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("path_b", metavar="B", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many changed edges to list, and neighbours of each class to compare.",
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def diff(path_a: Path, path_b: Path, top: int, as_json: bool) -> None:
    """Say how two graphs differ: classes, headers, edges, and each class's strongest neighbours.

    Classes are matched by synset, those without by name, whatever their order.

    Example: kgtool diff relation.npz shuffled.npz --top 5
    """
    from kgtool.graph import load_graph
    from kgtool.graph_difference import compare_graphs

    found = compare_graphs(load_graph(path_a), load_graph(path_b), top)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _print(found: "GraphDifference") -> None:
    click.echo("the same graph" if found.same else "two different graphs")
    order = "" if found.same_order else ", in another order"
    click.echo(f"classes: {found.num_common} in both{order}")
    for letter, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            click.echo(f"  only in {letter}, {len(names)}: {', '.join(names[:_SHOWN])}{more}")
    for key, (value_a, value_b) in found.header.items():
        click.echo(f"{key}:")
        click.echo(f"  A {json.dumps(value_a, ensure_ascii=False)}")
        click.echo(f"  B {json.dumps(value_b, ensure_ascii=False)}")
    click.echo(f"edges: {found.num_edges_a} in A, {found.num_edges_b} in B, {found.num_edges_both} in both")
    if found.rank_correlation is not None:
        click.echo(f"rank correlation of weights: {found.rank_correlation:.3f}")
    if found.overlap is not None:
        click.echo(f"overlap of the {found.top} strongest neighbours: {found.overlap:.3f}")
    if found.changed:
        click.echo("edges changed most, A to B")
    for edge in found.changed:
        click.echo(f"  {edge.weight_a:.4f} -> {edge.weight_b:.4f}  {edge.source} -- {edge.target}")
