"""`kgtool explore`."""

import json
from pathlib import Path

import click

from kgtool.cli.reading import exclude_option, image_data_option, read_options


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
@click.option(
    "--examples",
    "sources",
    multiple=True,
    metavar="ANNOTATIONS",
    help="What the graph was built from: the page names images behind each edge; may be repeated.",
)
@click.option(
    "--objects",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="objects.json, of a graph that was built with it.",
)
@exclude_option
@image_data_option
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--overwrite", is_flag=True, default=False, help="Replace the page if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def explore(
    graph_path: Path,
    out: Path,
    top: int,
    sources: tuple[str, ...],
    objects: str | None,
    exclude: Path | None,
    image_data: Path | None,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a graph as one HTML page: search a class, see its neighbours and the evidence behind each edge.

    The page works offline and asks for nothing; open it in any browser. A graph keeps no image ids: with
    --examples the annotations that it was built from are read once more, and each edge has up to three images
    in which it can be seen.

    Example: kgtool explore relation.npz --out relation.html

    Example: kgtool explore relation.npz --examples relationships.json --out relation.html
    """
    from kgtool.explorer import explorer_page
    from kgtool.files import atomic_path, check_writable
    from kgtool.graph import load_graph

    check_writable(out, overwrite=overwrite)
    graph, examples = load_graph(graph_path), None
    if sources:
        from kgtool.edge_examples import find_examples

        with read_options(False, workers, exclude, image_data) as options:
            examples = find_examples(graph, sources, objects=objects, options=options)
    elif objects is not None or exclude is not None or image_data is not None:
        raise click.UsageError("--objects, --exclude-images and --image-data go with --examples")
    page = explorer_page(graph, top, examples).encode()
    with atomic_path(out, overwrite=overwrite) as part:
        part.write_bytes(page)
    if as_json:
        click.echo(json.dumps({"out": str(out), "bytes": len(page)}, indent=2))
    else:
        click.echo(f"{out}: {len(page) / 1e6:.2f} MB; open it in a browser")
