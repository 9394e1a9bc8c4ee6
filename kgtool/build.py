"""From Visual Genome's annotations to a class graph: the whole path, as one function a kind of graph."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import (
    NO_SYNSET,
    Annotations,
    Counted,
    ReadOptions,
    attribute_rows,
    relation_rows,
)
from kgtool.classes import ClassTable, most_frequent_classes, resolve_names
from kgtool.errors import InputError
from kgtool.evidence import EvidenceCounter
from kgtool.graph import ClassGraph, Evidence, check_graph_path, make_graph, save_graph
from kgtool.object_synsets import ObjectSynsets, read_object_synsets
from kgtool.visual_genome import AttributeDecoder, RelationDecoder, TermKey, first_synset, fold_text
from kgtool.weights import attribute_distribution, normalization_of, weights_from_counts
from kgtool.workers import DecoderSpec

DATASET = "Visual Genome"
DEFAULT_TERMS = 200
DEFAULTS = ReadOptions()


@dataclass(frozen=True, eq=False)
class Build:
    """A graph and how it came about.

    Attributes:
        graph: the class graph.
        num_edges: how many pairs of different classes have a weight above 0.
        annotations: how many were read: the counted and the skipped.
        counted: how many are in the graph's evidence, whatever their term.
        selected: how many of these have one of the most frequent terms: the sum of the graph's counts.
        skipped: how many did not count, by reason.
        no_evidence: classes that none of the selected mentions.
        messages: what a reader should know, a line each.
    """

    graph: ClassGraph
    num_edges: int
    annotations: int
    counted: int
    selected: int
    skipped: dict[str, int]
    no_evidence: tuple[str, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """Where a graph is written.

    Attributes:
        path: .npz or .parquet.
        overwrite: replace the file if it is there.
    """

    path: Path
    overwrite: bool = False


def build_relation_graph(
    relationships: Path | str,
    *,
    classes: int | ClassTable,
    objects: Path | str | None = None,
    num_terms: int | None = None,
    term_key: TermKey = "text",
    recipe: str = "paper",
    options: ReadOptions = DEFAULTS,
    output: Output | None = None,
) -> Build:
    """Build a relation graph from relationships.json of Visual Genome 1.0, 1.2 or 1.4.

    Every annotation whose predicate is among the most frequent of the file, and whose two ends have exactly
    one synset each, both of classes, adds 1 from the class of its subject to the class of its object.

    Args:
        relationships: plain, gzip or zip file, or "-" for standard input.
        classes: a class list, or a number: so many of the most frequent synsets, by objects with exactly one
            synset where `objects` is given, else by ends with exactly one.
        objects: objects.json; gives a synset to ends that have none, by image and object id.
        num_terms: how many predicates are selected, the most frequent over all annotations of the file, ties
            by name; 0: all. By default 200, and all for the recipe "release".
        term_key: a predicate is its text (case-folded, white space made one blank), or its first synset.
        recipe: how counts become weights: "paper" or "release" (`kgtool.weights`).
        options: how the file is read.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: an input is not what it should be; with `options.strict`, the first dirt.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    if num_terms is None:
        num_terms = 0 if recipe == "release" else DEFAULT_TERMS
    settings = {"name": recipe, "num_terms": num_terms, "term_key": term_key}
    if term_key == "text":
        annotations = Annotations(3, fold_text, "empty predicate")
    else:
        annotations = Annotations(3, first_synset, "predicate without synset")
    with closing(annotations):
        _check_first("relation", recipe, output)
        with closing(EvidenceCounter()) as counter:
            known = _read_objects(objects, annotations, options)
            spec = DecoderSpec(RelationDecoder, {"term_key": term_key, "with_ids": known is not None})
            annotations.read(relationships, spec, lambda batch: relation_rows(batch, known), options)
            return _finished("relation", settings, annotations, classes, known, counter, output)


def build_attribute_graph(
    attributes: Path | str,
    *,
    classes: int | ClassTable,
    objects: Path | str | None = None,
    num_terms: int = DEFAULT_TERMS,
    recipe: str = "similarity",
    options: ReadOptions = DEFAULTS,
    output: Output | None = None,
) -> Build:
    """Build an attribute graph from attributes.json of Visual Genome 1.0, 1.2 or 1.4.

    Every mention of one of the most frequent attributes, on an object with exactly one synset which is that
    of a class, adds 1 to the class's count of the attribute.

    Args:
        attributes: plain, gzip or zip file, or "-" for standard input.
        classes: a class list, or a number: so many of the most frequent synsets, by objects with exactly one
            synset where `objects` is given, else by mentions on objects with exactly one.
        objects: objects.json; gives a synset to objects that have none, by image and object id.
        num_terms: how many attributes are selected, the most frequent over the file, ties by name; 0: all.
        recipe: how counts become weights: "similarity", "divergence" or "release" (`kgtool.weights`).
        options: how the file is read.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: an input is not what it should be; with `options.strict`, the first dirt.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    settings = {"name": recipe, "num_terms": num_terms}
    with closing(Annotations(2, fold_text, "empty attribute")) as annotations:
        _check_first("attribute", recipe, output)
        with closing(EvidenceCounter()) as counter:
            known = _read_objects(objects, annotations, options)
            spec = DecoderSpec(AttributeDecoder, {"with_ids": known is not None})
            annotations.read(attributes, spec, lambda batch: attribute_rows(batch, known), options)
            return _finished("attribute", settings, annotations, classes, known, counter, output)


def _check_first(kind: str, recipe: str, output: Output | None) -> None:
    """What can be wrong before hours of reading should be said before."""
    normalization_of(kind, recipe)
    if output is not None:
        check_graph_path(output.path, overwrite=output.overwrite)


def _read_objects(
    objects: Path | str | None, annotations: Annotations, options: ReadOptions
) -> ObjectSynsets | None:
    if objects is None:
        return None
    return read_object_synsets(
        objects, annotations.synsets, num_workers=options.num_workers, on_progress=options.on_progress
    )


def _finished(
    kind: str,
    recipe: dict[str, Any],
    annotations: Annotations,
    classes: int | ClassTable,
    known: ObjectSynsets | None,
    counter: EvidenceCounter,
    output: Output | None,
) -> Build:
    table, messages = _choose_classes(classes, annotations, known)
    counted = annotations.count(table.synsets, counter)
    counts = _dense_counts(kind, counted, recipe["num_terms"], len(table))
    source = {**annotations.source, "annotations": annotations.num_read, "skipped": counted.skipped}
    graph = make_graph(
        classes=table.names,
        synsets=table.synsets,
        weight=weights_from_counts(kind, recipe["name"], counts),
        counts=counts,
        kind=kind,
        recipe=recipe,
        dataset=DATASET,
        sources=[source, *([known.source] if known else [])],
        normalization=normalization_of(kind, recipe["name"]),
        evidence=Evidence(counted.terms, counted.totals, counted.index, counted.count),
        distribution=attribute_distribution(counts) if kind == "attribute" else None,
    )
    if output is not None:
        save_graph(graph, output.path, overwrite=output.overwrite)
    seen = counts.any(axis=1) | (counts.any(axis=0) if kind == "relation" else False)
    return Build(
        graph,
        num_edges=int(np.count_nonzero(np.triu(graph.weight, 1))),
        annotations=annotations.num_read,
        counted=int(counted.count.sum()),
        selected=int(counts.sum()),
        skipped=counted.skipped,
        no_evidence=tuple(table.names[i] for i in np.flatnonzero(~seen)),
        messages=tuple(messages),
    )


def _choose_classes(
    classes: int | ClassTable, annotations: Annotations, known: ObjectSynsets | None
) -> tuple[ClassTable, list[str]]:
    count_by_synset = annotations.count_by_synset()
    messages = []
    if annotations.num_read and not any(count_by_synset.values()):
        message = (
            f"{annotations.source['name']}: found no annotation with a synset (release 1.0 has none), so all "
            f'are skipped as "{NO_SYNSET}"; give --objects with objects.json of the release whose ids these '
            "are, or use annotations of release 1.2 or 1.4"
        )
        if isinstance(classes, int):
            raise InputError(message)
        messages.append(message)
    if known is not None:
        names = annotations.synsets.names()
        count_by_synset = {names[code] or "": int(known.count[code]) for code in np.flatnonzero(known.count)}
    if isinstance(classes, int):
        classes = most_frequent_classes(classes, count_by_synset)
    table, resolved = resolve_names(classes, count_by_synset)
    return table, messages + resolved


def _dense_counts(kind: str, counted: Counted, num_terms: int, num_classes: int) -> npt.NDArray[np.int64]:
    """The counts of the selected terms: (C, C) of a relation graph, (C, A) of an attribute graph."""
    num_selected = min(num_terms or len(counted.terms), len(counted.terms))
    chosen = counted.index[:, 1] < num_selected
    counts = np.zeros((num_classes, num_classes if kind == "relation" else num_selected), dtype=np.int64)
    index = counted.index[chosen]
    np.add.at(counts, (index[:, 0], index[:, -1]), counted.count[chosen])
    return counts
