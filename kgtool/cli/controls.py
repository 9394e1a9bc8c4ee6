"""`kgtool controls`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kgtool.controls import ControlKind


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--kind",
    type=click.Choice(["identity", "uniform", "random", "shuffled", "degree-preserving"]),
    required=True,
    help="What is taken away from the graph.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Where chance decides."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Graph to write: .npz or .parquet.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the graph if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def controls(
    graph_path: Path, kind: "ControlKind", seed: int, out: Path, overwrite: bool, as_json: bool
) -> None:
    """Make a control of a graph: the same classes, something taken away, for a fair comparison.

    identity: no edge, each class has itself. uniform: every pair of classes has the mean weight of all pairs.
    random: the same weights between other classes. degree-preserving: also each class has as many edges as
    before. shuffled: the same graph with its classes exchanged, counts and evidence too. The control's recipe
    says what it is, of which graph and by which seed.

    Example: kgtool controls relation.npz --kind shuffled --seed 0 --out shuffled.npz
    """
    from kgtool.controls import control_graph
    from kgtool.graph import check_graph_path, load_graph, save_graph

    check_graph_path(out, overwrite=overwrite)
    control = control_graph(load_graph(graph_path), kind, seed)
    save_graph(control, out, overwrite=overwrite)
    about = control.header["recipe"]["control"]
    if as_json:
        click.echo(
            json.dumps({"out": str(out), "graph_hash": control.graph_hash, "control": about}, indent=2)
        )
        return
    drawn = f", seed {seed}" if "seed" in about else ""
    click.echo(f"{out}: {kind} control of {graph_path} ({about['of'][:12]}){drawn}")
