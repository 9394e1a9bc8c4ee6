"""A class graph as one HTML page that works offline: search a class, see its neighbours and why they are."""

from importlib.resources import files
from typing import Any

import numpy as np

from kgtool.graph import ClassGraph
from kgtool.graph_arrays import json_text
from kgtool.graph_summary import Reason, edge_reasons, selected_terms
from kgtool.image_examples import ImageExamples, pair_key
from kgtool.neighbours import top_neighbours

#: How many terms explain one edge on the page.
_NUM_REASONS = 4
#: How many images show the shared attributes on one class.
_NUM_IMAGES = 2
_PLACE = "@@GRAPH@@"
#: What would end the page's script element, or begin another.
_ESCAPES = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


def explorer_page(graph: ClassGraph, top: int, examples: ImageExamples | None = None) -> str:
    """The page: everything it needs is in it, and it asks for nothing.

    Args:
        graph: any class graph.
        top: neighbours of each class that the page holds, the strongest.
        examples: images behind the edges; None: the page names none.
    """
    template = files("kgtool").joinpath("explorer.html").read_text(encoding="utf-8")
    before, after = template.split(_PLACE)
    return before + json_text(_content(graph, top, examples)).translate(_ESCAPES) + after


def _content(graph: ClassGraph, top: int, examples: ImageExamples | None) -> dict[str, Any]:
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
    if graph.evidence is not None or examples is not None:
        reasons = [
            [edge_reasons(graph, at, other)[:_NUM_REASONS] for other in row]
            for at, row in enumerate(content["near"])
        ]
        if graph.evidence is not None:
            content |= _evidence(graph, reasons)
        if examples is not None:
            content["images"] = _images(graph, content["near"], reasons, examples)
    return content


def _evidence(graph: ClassGraph, reasons: list[list[tuple[Reason, ...]]]) -> dict[str, Any]:
    """Terms behind each edge, as numbers; and the words of those that occur."""
    word: dict[str, int] = {}
    evidence = [
        [
            [
                number
                for reason in edge
                for number in (word.setdefault(reason.term, len(word)), reason.count, reason.other_count)
            ]
            for edge in row
        ]
        for row in reasons
    ]
    attribute = graph.kind == "attribute"
    why = "shared attributes, on it / on the other" if attribute else "evidence, there / back"
    return {"terms": list(word), "evidence": evidence, "why": why}


def _images(
    graph: ClassGraph,
    near: list[list[int]],
    reasons: list[list[tuple[Reason, ...]]],
    examples: ImageExamples,
) -> list[list[list[Any]]]:
    """Images of each edge; in an attribute graph a list of the class, and one of the other."""
    if graph.kind != "attribute":
        size = len(graph.classes)
        return [
            [examples.of(pair_key(min(at, other), max(at, other), size)) for other in row]
            for at, row in enumerate(near)
        ]
    code = {term: number for number, term in enumerate(selected_terms(graph))}

    def of_class(at: int, edge: tuple[Reason, ...]) -> list[int]:
        """Of the first shared attribute first, each image once."""
        images = [image for r in edge for image in examples.of(pair_key(at, code[r.term], len(code)))]
        return list(dict.fromkeys(images))[:_NUM_IMAGES]

    return [
        [[of_class(at, edge), of_class(other, edge)] for other, edge in zip(near[at], row, strict=True)]
        for at, row in enumerate(reasons)
    ]
