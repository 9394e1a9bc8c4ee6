"""`kgtool explore`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="HTML page to write."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Neighbours of each class that the page holds.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the page if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def explore(graph_path: Path, out: Path, top: int, overwrite: bool, as_json: bool) -> None:
    """Write a graph as one HTML page: search a class, see its neighbours and the evidence behind each edge.

    The page works offline and asks for nothing; open it in any browser.

    Example: kgtool explore relation.npz --out relation.html
    """
    from kgtool.explorer import explorer_page
    from kgtool.files import atomic_path, check_writable
    from kgtool.graph import load_graph

    check_writable(out, overwrite=overwrite)
    page = explorer_page(load_graph(graph_path), top).encode()
    with atomic_path(out, overwrite=overwrite) as part:
        part.write_bytes(page)
    if as_json:
        click.echo(json.dumps({"out": str(out), "bytes": len(page)}, indent=2))
    else:
        click.echo(f"{out}: {len(page) / 1e6:.2f} MB; open it in a browser")
