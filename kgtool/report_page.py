"""A graph's report as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Iterable, Sequence
from html import escape

from kgtool.graph import ClassGraph
from kgtool.report import GraphReport
from kgtool.verdict import Verdict

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --fill: #3b7dd8; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.plain td.number { text-align: left; }
meter { width: 12rem; }
.score { font-size: 2.5rem; font-weight: 600; }
code { overflow-wrap: anywhere; }
"""


def report_page(graph: ClassGraph, report: GraphReport, verdict: Verdict) -> str:
    """The report as an HTML document.

    Args:
        graph: what was looked over.
        report: the facts.
        verdict: their judgement.
    """
    header = graph.header
    findings = "".join(f"<li><b>{escape(f.check)}</b>: {escape(f.text)}</li>" for f in verdict.findings)
    parts = [
        f"<p><span class=score>{verdict.score:.0f}</span> of 100</p>",
        f"<ul>{findings}</ul>" if findings else "<p>No finding.</p>",
        "<h2>Checks</h2>",
        _table(
            ("check", "share", ""),
            ((name, f"{share:.3f}", _Meter(share)) for name, share in verdict.checks.items()),
        ),
        "<h2>Size</h2>",
        _table((), _size_rows(report)),
        "<h2>Strongest edges</h2>",
        _table(
            ("weight", "from", "to", "evidence"),
            (
                (f"{edge.weight:.4f}", edge.source, edge.target, ", ".join(r.term for r in edge.reasons))
                for edge in report.strongest
            ),
        ),
        "<h2>Classes with most edges</h2>",
        _table(
            ("class", "edges", "share of all weight"),
            ((hub.name, str(hub.degree), f"{hub.share:.3f}") for hub in report.hubs),
        ),
    ]
    if report.coverage:
        rows = (
            (band.frequency, *map(str, (band.num_classes, band.connected)), *map(_names, lists))
            for band in report.coverage
            for lists in [(band.isolated, band.missing)]
        )
        parts += ["<h2>The data set's classes</h2>"]
        parts += [_table(("frequency", "classes", "with an edge", "isolated", "not in the graph"), rows)]
    title = escape(f"{header['kind']} graph of {report.num_classes} classes")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n"
        f"<p>{escape(header['dataset'])}<br><code>{escape(graph.graph_hash)}</code></p>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


class _Meter(float):
    """A share that is drawn."""


def _size_rows(report: GraphReport) -> Iterable[tuple[str, str]]:
    yield "classes", str(report.num_classes)
    yield "edges", f"{report.num_edges} ({100 * report.density:.1f} % of all pairs)"
    yield "components", f"{len(report.components)}, the largest of {report.components[0]} classes"
    yield "isolated classes", f"{len(report.isolated)} {_names(report.isolated)}"
    yield "edges of a class", _spread(report.degrees)
    yield "weight of an edge", _spread([f"{value:.4g}" for value in report.weights])
    hops = ", ".join(f"{value:.3f}" for value in report.smoothness)
    yield "mean cosine of two classes after 1, 2, ... hops", hops or "-"
    if report.thin is not None:
        yield f"edges on fewer than {report.thin.limit} annotations", str(report.thin.num_edges)
    if report.order is not None:
        yield "class order, p-value", f"{report.order.p_value:.3f}"


def _spread(five: Sequence[object]) -> str:
    return "least {}, quartiles {}, {}, {}, greatest {}".format(*five) if five else "-"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str | _Meter]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)] if head else []
    lines += ["".join(map(_cell, row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table{'' if head else ' class=plain'}>{body}</table>"


def _cell(value: str | _Meter) -> str:
    if isinstance(value, _Meter):
        return f'<td><meter min="0" max="1" value="{float(value):.3f}"></meter></td>'
    number = value.replace(".", "", 1).isdigit()
    return f"<td{' class=number' if number else ''}>{escape(value)}</td>"
