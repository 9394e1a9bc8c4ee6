"""A class graph as one HTML page that works offline: search a class, see its neighbours and why they are."""

from importlib.resources import files
from typing import Any

import numpy as np

from kgtool.graph import ClassGraph
from kgtool.graph_arrays import json_text
from kgtool.graph_summary import edge_reasons
from kgtool.neighbours import top_neighbours

#: How many terms explain one edge on the page.
_NUM_REASONS = 4
_PLACE = "@@GRAPH@@"
#: What would end the page's script element, or begin another.
_ESCAPES = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


def explorer_page(graph: ClassGraph, top: int) -> str:
    """The page: everything it needs is in it, and it asks for nothing.

    Args:
        graph: any class graph.
        top: neighbours of each class that the page holds, the strongest.
    """
    template = files("kgtool").joinpath("explorer.html").read_text(encoding="utf-8")
    before, after = template.split(_PLACE)
    return before + json_text(_content(graph, top)).translate(_ESCAPES) + after


def _content(graph: ClassGraph, top: int) -> dict[str, Any]:
    """What the page shows; the script in explorer.html says how it is laid out."""
    near = top_neighbours(graph.weight, top)
    others = graph.weight > 0
    np.fill_diagonal(others, False)
    content: dict[str, Any] = {
        "title": f"{graph.kind} graph, {len(graph.classes)} classes",
        "source": f"{graph.header['dataset']}; {graph.header['normalization']}; {graph.graph_hash}",
        "directed": graph.header["directed"],
        "classes": graph.classes,
        "synsets": graph.synsets,
        "near": [row.tolist() for row in near],
        "weight": [
            [float(f"{value:.4g}") for value in graph.weight[at, row].tolist()] for at, row in enumerate(near)
        ],
        "degree": others.sum(axis=1).tolist(),
    }
    if graph.counts is not None:
        both_ends = 0 if graph.kind == "attribute" else graph.counts.sum(axis=0) - np.diagonal(graph.counts)
        content["total"] = (graph.counts.sum(axis=1) + both_ends).tolist()
    if graph.evidence is not None:
        content |= _evidence(graph, content["near"])
    return content


def _evidence(graph: ClassGraph, near: list[list[int]]) -> dict[str, Any]:
    """Terms behind each edge, as numbers; and the words of those that occur."""
    word: dict[str, int] = {}
    evidence = []
    for at, row in enumerate(near):
        edges = [edge_reasons(graph, at, other)[:_NUM_REASONS] for other in row]
        evidence.append(
            [
                [
                    number
                    for r in edge
                    for number in (word.setdefault(r.term, len(word)), r.count, r.other_count)
                ]
                for edge in edges
            ]
        )
    attribute = graph.kind == "attribute"
    why = "shared attributes, on it / on the other" if attribute else "evidence, there / back"
    return {"terms": list(word), "evidence": evidence, "why": why}
