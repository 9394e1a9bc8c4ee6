"""`kgtool report`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgtool.cli.printable import printable
from kgtool.errors import GateError

if TYPE_CHECKING:
    from kgtool.report import GraphReport
    from kgtool.verdict import Verdict


@click.command()
@click.argument("graph_path", metavar="GRAPH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data",
    "data_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="COCO.json",
    help="Training annotations that the graph is meant for: adds coverage of their classes by frequency.",
)
@click.option(
    "--thin",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="An edge on fewer annotations is thin.",
)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="SCORE",
    help="End with exit code 6 when the score is lower.",
)
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@click.option("--html", "as_html", is_flag=True, default=False, help="Print one HTML page.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def report(
    graph_path: Path,
    data_path: Path | None,
    thin: int,
    fail_under: float | None,
    wordnet: str,
    as_html: bool,
    as_json: bool,
) -> None:
    """Look a graph over before training with it: what is wrong, and a score from 0 to 100.

    Isolated classes, parts, hubs, weights; how alike all classes become after one to four hops; edges that
    rest on few annotations; names that are no lemma of their synset; and whether the classes are in the
    order of the matrix, judged by whether those near in WordNet are related more.

    Example: kgtool report relation.npz --fail-under 60
    """
    from kgtool.coco import load_dataset
    from kgtool.graph import load_graph
    from kgtool.report import report_graph
    from kgtool.report_page import report_page
    from kgtool.verdict import judge
    from kgtool.wordnet import load_nouns

    if as_html and as_json:
        raise click.UsageError("give --html or --json, not both")
    graph = load_graph(graph_path)
    data = None if data_path is None else load_dataset(data_path)
    found = report_graph(graph, load_nouns(wordnet), data=data, thin=thin)
    verdict = judge(found)
    if as_html:
        click.echo(report_page(graph, found, verdict), nl=False)
    elif as_json:
        document = {"graph_hash": graph.graph_hash, **asdict(verdict), "report": asdict(found)}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        _print(graph_path, found, verdict)
    if fail_under is not None and verdict.score < fail_under:
        worst = min(verdict.checks, key=lambda name: verdict.checks[name])
        raise GateError(
            f"{graph_path}: found a score of {verdict.score:.1f}; expected at least {fail_under:g}; "
            f"the lowest check is {worst} ({verdict.checks[worst]:.3f})"
        )


def _print(graph_path: Path, found: "GraphReport", verdict: "Verdict") -> None:
    click.echo(f"{graph_path}: score {verdict.score:.1f} of 100, {len(verdict.findings)} findings")
    for finding in verdict.findings:
        click.echo(f"  {finding.check:10} {printable(finding.text)}")
    click.echo("checks, 0 to 1")
    for name, share in verdict.checks.items():
        click.echo(f"  {name:10} {share:.3f}")
    click.echo(f"{found.num_classes} classes, {found.num_edges} edges ({100 * found.density:.1f} % of pairs)")
    click.echo(f"  {'components':22} {', '.join(map(str, found.components[:10]))}")
    click.echo(f"  {'edges of a class':22} {_spread(found.degrees)}")
    click.echo(f"  {'weight of an edge':22} {_spread(found.weights)}")
    hops = ", ".join(f"{value:.3f}" for value in found.smoothness)
    click.echo(f"  {'cosine after 1-4 hops':22} {hops or '-'}")
    if found.order is not None:
        order = found.order
        click.echo(
            f"  {'agreement with WordNet':22} {order.correlation:.3f}, p = {order.p_value:.3f}, "
            f"{order.num_classes} classes"
        )
    click.echo("classes with most edges")
    for hub in found.hubs:
        click.echo(f"  {hub.degree:6} {hub.name} ({100 * hub.share:.1f} % of all weight)")
    click.echo("strongest edges")
    for edge in found.strongest:
        click.echo(f"  {edge.weight:.4f} {edge.source} -- {edge.target}")
    for band in found.coverage:
        click.echo(
            f"data set's classes, frequency {band.frequency}: {band.num_classes}, with an edge "
            f"{band.connected}, without {len(band.isolated)}, not in the graph {len(band.missing)}"
        )


def _spread(five: tuple[float, ...]) -> str:
    if not five:
        return "-"
    least, low, middle, high, greatest = (f"{value:.4g}" for value in five)
    return f"{least} to {greatest}, median {middle}, quartiles {low} and {high}"
