"""`kgtool export` and `kgtool import-release`: graphs to and from other tools."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from kgtool.exports import Format
    from kgtool.release_import import ReleaseImport


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--to",
    "form",
    type=click.Choice(["csv", "dot", "gexf", "graphml", "pyg", "release-pickle"]),
    required=True,
    help="Format to write.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Leave out edges that are among so many strongest of neither class. [default: keep all]",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the file if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def export(
    graph_path: Path, form: "Format", out: Path, top: int | None, overwrite: bool, as_json: bool
) -> None:
    """Write a graph for other tools: Gephi, Cytoscape, Graphviz, spreadsheets, PyTorch Geometric.

    csv has one edge a row. pyg has edge_index and edge_weight, as NPZ or (FILE.json) as JSON. release-pickle
    is the matrix with a background row in front, for code that reads the published graphs; it has no class
    names.

    Example: kgtool export relation.npz --to graphml --top 20 --out relation.graphml
    """
    from kgtool.exports import export_graph
    from kgtool.files import check_writable
    from kgtool.graph import load_graph

    check_writable(out, overwrite=overwrite)
    num_edges = export_graph(load_graph(graph_path), out, form, top=top, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({"out": str(out), "format": form, "edges": num_edges}, indent=2))
    else:
        click.echo(f"{out}: {form}, {num_edges} edges")


@click.command("import-release")
@click.argument("pickle_path", metavar="FILE.pkl", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--classes",
    metavar="coco|voc|ade150|ade|FILE",
    required=True,
    help="Class list, in the order that the rows are said to have.",
)
@click.option(
    "--kind",
    type=click.Choice(["relation", "attribute"]),
    default="relation",
    show_default=True,
    help="What the edges mean.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Graph to write: .npz or .parquet.",
)
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the graph if it is there.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def import_release(
    pickle_path: Path,
    classes: str,
    kind: Literal["relation", "attribute"],
    out: Path,
    wordnet: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a graph of a published pickled matrix; nothing in the pickle is run.

    Of a relation matrix the integer counts behind it are solved back where they can be. Whether its rows are
    in the order of the class list is judged by whether classes near in WordNet are related more.

    Example: kgtool import-release new_COCO_graph_r.pkl --classes coco --out released.npz
    """
    from kgtool.class_names import read_class_names
    from kgtool.graph import check_graph_path, save_graph
    from kgtool.release_import import import_release as read
    from kgtool.wordnet import load_nouns

    check_graph_path(out, overwrite=overwrite)
    done = read(pickle_path, read_class_names(classes), load_nouns(wordnet), kind=kind)
    save_graph(done.graph, out, overwrite=overwrite)
    summary = _summary(done)
    if as_json:
        click.echo(json.dumps({"out": str(out), **summary}, ensure_ascii=False, indent=2))
        return
    background = "with" if done.had_background else "without"
    click.echo(f"{out}: {kind} graph of {summary['classes']} classes, from a matrix {background} background")
    if kind == "relation":
        click.echo(f"counts: {_counts_in_words(summary['counts'])}")
    click.echo(f"class order: {_order_in_words(done)}")


def _summary(done: "ReleaseImport") -> dict[str, Any]:
    recovered, order = done.recovered, done.order
    counts = None
    if recovered is not None:
        total = int(recovered.counts.sum())
        own = int(recovered.counts.trace()) if recovered.sliced_first else None
        counts = {
            "between_classes": (total - int(recovered.counts.trace())) // 2,
            "within_classes": own,
            "sliced_first": recovered.sliced_first,
        }
    return {
        "graph_hash": done.graph.graph_hash,
        "classes": len(done.graph.classes),
        "had_background": done.had_background,
        "counts": counts,
        "order": order
        and {
            "correlation": order.correlation,
            "p_value": order.p_value,
            "shift": order.shift,
            "in_doubt": order.in_doubt,
        },
    }


def _counts_in_words(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return "none found that give these weights: another formula, or fewer digits than float64 has"
    text = f"every weight is one of whole counts: {counts['between_classes']} relations between classes"
    if counts["sliced_first"]:
        return f"{text} and {counts['within_classes']} within; counts were sliced, then normalised"
    return f"{text}; normalised with more classes than these, then sliced, so the graph has no counts"


def _order_in_words(done: "ReleaseImport") -> str:
    from kgtool.class_order import DOUBT

    order = done.order
    if order is None:
        return "cannot be tested: too few classes with an edge and a place in WordNet"
    fit = f"agreement with WordNet {order.correlation:.3f}, p = {order.p_value:.3f}"
    if not order.in_doubt:
        return f"fits ({fit})"
    if order.shift and order.p_value <= DOUBT:
        return f"IN DOUBT ({fit}): it fits better one place {'on' if order.shift > 0 else 'back'}"
    return f"IN DOUBT ({fit}): no better than another order would"
