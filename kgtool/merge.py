"""Graphs of shards built apart, added up: the graph of the whole, bit for bit.

What is added is the evidence, which has all terms and not only the selected ones. Terms are ranked again by
their totals over all shards, the recipe's limit is applied to that ranking, and the weights are made again.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kgtool.build_result import Output, graph_from_evidence
from kgtool.classes import ClassTable
from kgtool.errors import ClassMatchError, InputError
from kgtool.evidence import EvidenceCounter
from kgtool.graph import ClassGraph, Evidence, check_graph_path, load_graph, save_graph


def merge_files(paths: Sequence[Path], output: Output) -> ClassGraph:
    """Load graphs, merge them and write the result; see `merge_graphs`.

    Raises:
        GraphFormatError: a file is not a graph.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    check_graph_path(output.path, overwrite=output.overwrite)
    merged = merge_graphs([load_graph(path) for path in paths], names=[str(path) for path in paths])
    save_graph(merged, output.path, overwrite=output.overwrite)
    return merged


def merge_graphs(graphs: Sequence[ClassGraph], *, names: Sequence[str] = ()) -> ClassGraph:
    """Add up the evidence of graphs of one kind, recipe and class list, and make their weights again.

    The result has the classes in the order of the first graph, and is the graph that one build over all
    sources together would have made with this class list: its graph_hash is the same.

    Args:
        graphs: at least one; the others may have the same classes in another order.
        names: what messages call them.

    Raises:
        InputError: kinds or recipes differ, a graph has no evidence, or a source was counted in two graphs.
        ClassMatchError: class lists differ.
    """
    names = names or [f"graph {number}" for number in range(1, len(graphs) + 1)]
    first = graphs[0]
    for name, graph in zip(names, graphs, strict=True):
        _check_alike(name, graph, names[0], first)
    ordered = [_in_order_of(first, graph, name) for name, graph in zip(names, graphs, strict=True)]
    sources = [graph.header["sources"] for graph in graphs]
    _check_distinct(names, sources)
    return graph_from_evidence(
        first.kind,
        first.header["recipe"],
        ClassTable(first.classes, first.synsets),
        _added_up(ordered),
        dataset=" + ".join(sorted({str(graph.header["dataset"]) for graph in graphs})),
        sources=_joined(sources),
    )


def _check_alike(name: str, graph: ClassGraph, first_name: str, first: ClassGraph) -> None:
    for what, found, expected in (
        ("kind", graph.kind, first.kind),
        ("recipe", graph.header["recipe"], first.header["recipe"]),
    ):
        if found != expected:
            raise InputError(
                f"{name}: found {what} {found}; expected {expected}, as in {first_name}; "
                "build all shards with the same options"
            )
    if graph.evidence is None or "num_terms" not in graph.header["recipe"]:
        raise InputError(f"{name}: found no counts by term; expected a graph that a build command made")


def _check_distinct(names: Sequence[str], lists: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """No file, and no shard of a set, was counted in two graphs; what was only looked things up in may be."""
    counted: dict[str, list[tuple[int | None, int]]] = {}
    for place, sources in enumerate(lists):
        for source in sources:
            for sha256, shard in _counted_parts(source):
                for other, where in counted.get(sha256, []):
                    if where != place and (shard == other or shard is None or other is None):
                        raise InputError(
                            f"{names[place]}: found the source {source.get('name')}, as in {names[where]}; "
                            "expected each source in one graph only; leave one of the two out"
                        )
                counted.setdefault(sha256, []).append((shard, place))


def _counted_parts(source: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """SHA-256 of what a source counted, with the shard's number where it is one of a set."""
    if not source.get("annotations"):
        return []
    files = [file for file in source.get("made_from", [source]) if "objects" not in file]
    return [
        (file["sha256"], shard)
        for file in files
        if file.get("sha256")
        for shard in file.get("shards", [None])
    ]


def _in_order_of(first: ClassGraph, graph: ClassGraph, name: str) -> ClassGraph:
    """The graph with its classes in the order of the first."""
    if (graph.classes, graph.synsets) == (first.classes, first.synsets):
        return graph
    position = {known: at for at, known in enumerate(graph.classes)}
    missing = [known for known in first.classes if known not in position]
    extra = sorted(set(graph.classes) - set(first.classes))
    if missing or extra:
        what = f"no class {missing[0]!r}" if missing else f"the class {extra[0]!r}"
        raise ClassMatchError(
            f"{name}: found {what}; expected the {len(first.classes)} classes of the first graph "
            f"({len(missing)} missing, {len(extra)} more); build all shards with --classes FILE"
        )
    ordered = graph.permuted([position[known] for known in first.classes])
    for known, found, expected in zip(ordered.classes, ordered.synsets, first.synsets, strict=True):
        if found != expected:
            raise ClassMatchError(
                f"{name}, class {known!r}: found synset {found!r}; expected {expected!r}, as in the first "
                "graph; build all shards with one class list that has synsets"
            )
    return ordered


def _added_up(graphs: Sequence[ClassGraph]) -> Evidence:
    """The sum of the evidence: terms by their totals, equal rows added."""
    parts = [graph.evidence for graph in graphs if graph.evidence is not None]
    total_by_term: dict[str, int] = {}
    for part in parts:
        for term, total in zip(part.terms, part.totals.tolist(), strict=True):
            total_by_term[term] = total_by_term.get(term, 0) + total
    terms = tuple(sorted(total_by_term, key=lambda term: (-total_by_term[term], term)))
    rank = {term: place for place, term in enumerate(terms)}
    rows = []
    for part in parts:
        index = part.index.copy()
        index[:, 1] = np.array([rank[term] for term in part.terms], dtype=np.int32)[index[:, 1]]
        rows.append(index)
    totals = np.array([total_by_term[term] for term in terms], dtype=np.int64)
    with closing(EvidenceCounter(rows[0].shape[1])) as counter:
        index, count = counter.count(np.concatenate(rows), np.concatenate([part.count for part in parts]))
    return Evidence(terms, totals, index, count)


def _joined(lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """All sources in the order of their names, equal ones once."""
    unique = {json.dumps(source, sort_keys=True): source for sources in lists for source in sources}
    return [unique[text] for text in sorted(unique, key=lambda text: (str(unique[text].get("name")), text))]
