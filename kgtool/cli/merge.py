"""`kgtool merge`: graphs of shards into the graph of the whole."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("graphs", type=click.Path(path_type=Path, dir_okay=False), nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="GRAPH",
    required=True,
    help="The graph to write: .npz or .parquet.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the graph if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def merge(graphs: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Add up the counts of GRAPHS built from parts of the data, and make the weights again.

    The result is the graph that one build over all parts would make, with the same graph_hash. All GRAPHS
    must be of one kind and recipe and have the same classes (build them with --classes FILE, not a number);
    the order of classes is that of the first. A source that is in two of them is an error.

    Example: kgtool merge part1.npz part2.npz --out whole.npz
    """
    from kgtool.build_result import Output
    from kgtool.merge import merge_files

    graph = merge_files(graphs, Output(out, overwrite))
    if as_json:
        report = {
            "out": str(out),
            "graph_hash": graph.graph_hash,
            "kind": graph.kind,
            "recipe": graph.header["recipe"],
            "classes": len(graph.classes),
            "sources": graph.header["sources"],
        }
        click.echo(json.dumps(report))
        return
    click.echo(f"{out}: {graph.kind} graph of {len(graph.classes)} classes from {len(graphs)} graphs")
    click.echo(f"graph_hash {graph.graph_hash}")
