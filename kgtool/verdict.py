"""What a graph's report means: a share for each check, findings in plain words, one score.

A check gives a share between 0 and 1, the larger the better; the score is a hundred times their mean. It is
for comparing graphs of one kind and for a gate in a build. It is no promise of accuracy: for that run the
controls (`kgtool.controls`).

| check | share of |
|---|---|
| connected | classes with an edge to another |
| whole | connected classes that are in the largest component |
| distinct | difference left between classes after one hop: 1 - mean cosine of two rows |
| evidence | edges that rest on enough annotations; where the graph has counts |
| synsets | classes with a synset whose name is one of its lemmas; where there are synsets |
| order | 1 - p-value of the test of the class order; where it can be tested |
| coverage | the data set's classes that have an edge; where a data set is given |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgtool.class_order import DOUBT, OrderTest
from kgtool.report import GraphReport

#: Two rows with a larger cosine on average are nearly one row.
_SMOOTH = 0.9
#: One pair with more of the annotations than this is odd, in a graph with more edges than this.
_LOPSIDED = 0.1
_MANY_EDGES = 50
_SHOWN = 15
_BANDS = {"f": "frequent", "c": "common", "r": "rare"}


@dataclass(frozen=True)
class Finding:
    """Something a person should look at: the check that saw it, and one sentence."""

    check: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of a report.

    Attributes:
        score: 0 to 100.
        checks: share by check, 0 to 1, in the order of the module's table.
        findings: what to look at, in that order.
    """

    score: float
    checks: dict[str, float]
    findings: tuple[Finding, ...]


def judge(report: GraphReport) -> Verdict:
    """Judge a graph by its report."""
    checks = _shares(report)
    findings = tuple(Finding(check, text) for check, text in _findings(report))
    return Verdict(100 * sum(checks.values()) / len(checks), checks, findings)


def _shares(report: GraphReport) -> dict[str, float]:
    num_connected = report.num_classes - len(report.isolated)
    shares = {"connected": num_connected / report.num_classes}
    shares["whole"] = report.components[0] / num_connected if num_connected else 0.0
    shares["distinct"] = 1 - report.smoothness[0] if report.smoothness else 0.0
    if report.thin is not None:
        shares["evidence"] = 1 - report.thin.num_edges / report.num_edges if report.num_edges else 0.0
    if report.num_synsets:
        shares["synsets"] = 1 - len(report.doubtful) / report.num_synsets
    if report.order is not None:
        shares["order"] = 1 - report.order.p_value
    if report.coverage:
        num_classes = sum(band.num_classes for band in report.coverage)
        shares["coverage"] = sum(band.connected for band in report.coverage) / num_classes
    return shares


def _findings(report: GraphReport) -> Iterator[tuple[str, str]]:
    if report.isolated:
        yield (
            "connected",
            f"{len(report.isolated)} of {report.num_classes} classes are isolated, "
            f"without an edge to another: {_listed(report.isolated)}",
        )
    parts = [size for size in report.components if size > 1]
    if len(parts) > 1:
        yield "whole", f"the connected classes fall into {len(parts)} parts, of {_listed(parts)} classes"
    if report.smoothness and report.smoothness[0] > _SMOOTH:
        yield (
            "distinct",
            f"over-smoothing: after one hop the mean cosine of two classes is {report.smoothness[0]:.3f}; "
            "all classes get nearly the same",
        )
    yield from _evidence_findings(report)
    if report.doubtful:
        pairs = [f"{name} ({synset})" for name, synset in report.doubtful.items()]
        yield "synsets", f"{len(pairs)} names are no lemma of their synset: {_listed(pairs)}"
    if report.order is not None and report.order.in_doubt:
        yield "order", _order_finding(report, report.order)
    for band in report.coverage:
        for names, words in ((band.missing, "not in the graph"), (band.isolated, "in it without an edge")):
            if names:
                yield (
                    "coverage",
                    f"{len(names)} of {band.num_classes} {_BANDS[band.frequency]} classes are {words}: "
                    f"{_listed(names)}",
                )


def _order_finding(report: GraphReport, order: OrderTest) -> str:
    strongest = report.strongest[0]
    if order.p_value > DOUBT:
        found = (
            "classes near in WordNet are related hardly more than chance would have it "
            f"(p = {order.p_value:.3f}); there is too little evidence, or the classes are not in the "
            "matrix's order"
        )
    else:
        found = (
            "the matrix agrees better with WordNet when its classes are taken one place "
            f"{'on' if order.shift > 0 else 'back'}; has one of two lists a background class?"
        )
    return (
        f"the class order is in doubt: {found}; "
        f"the strongest edge is {strongest.source} -- {strongest.target}"
    )


def _evidence_findings(report: GraphReport) -> Iterator[tuple[str, str]]:
    thin, pair = report.thin, report.most_counted
    if thin is not None and thin.num_edges:
        alone = (
            f"; {len(thin.classes)} classes have no other: {_listed(thin.classes)}" if thin.classes else ""
        )
        yield (
            "evidence",
            f"{thin.num_edges} of {report.num_edges} edges rest on fewer than {thin.limit} annotations"
            f"{alone}",
        )
    if pair is not None and report.num_edges > _MANY_EDGES and pair.count > _LOPSIDED * pair.total:
        yield (
            "evidence",
            f"one pair, {pair.first} and {pair.second}, has {pair.count} of the {pair.total} annotations "
            f"between classes ({100 * pair.count / pair.total:.0f} %)",
        )


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN]))
    return shown if len(items) <= _SHOWN else f"{shown} and {len(items) - _SHOWN} more"
