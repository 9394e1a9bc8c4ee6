"""From annotations to a class graph: the whole path, as one function a kind of graph."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kgtool.annotations import NO_SYNSET, Annotations, ReadOptions, attribute_rows, relation_rows
from kgtool.build_result import Build, Output, check_first, finish_build, graph_from_evidence
from kgtool.classes import ClassTable, check_some_known, most_frequent_classes, resolve_names
from kgtool.decoding import DecoderSpec
from kgtool.errors import InputError
from kgtool.evidence import EvidenceCounter
from kgtool.graph import Evidence
from kgtool.object_synsets import ObjectSynsets, read_object_synsets
from kgtool.triple_build import build_from_triples, needs_engine
from kgtool.triple_writing import TripleOptions
from kgtool.visual_genome import AttributeDecoder, RelationDecoder, TermKey, first_synset, fold_text

__all__ = ["Build", "Output", "build_attribute_graph", "build_relation_graph"]

DATASET = "Visual Genome"
DEFAULT_TERMS = 200
DEFAULTS = ReadOptions()


def build_relation_graph(
    relationships: Path | str,
    *,
    classes: int | ClassTable,
    objects: Path | str | None = None,
    num_terms: int | None = None,
    term_key: TermKey = "text",
    recipe: str = "paper",
    engine: str = "duckdb",
    options: ReadOptions = DEFAULTS,
    output: Output | None = None,
) -> Build:
    """Build a relation graph from relationships.json of Visual Genome 1.0, 1.2 or 1.4, or from triples.

    Every annotation whose predicate is among the most frequent of the file, and whose two ends have exactly
    one synset each, both of classes, adds 1 from the class of its subject to the class of its object.

    Args:
        relationships: plain, gzip or zip file, or "-" for standard input; or triples: Parquet shards (folder,
            file, glob or URL), CSV, TSV or JSON lines, or a COCO JSON with relations.
        classes: a class list, or a number: so many of the most frequent synsets, by objects with exactly one
            synset where `objects` is given, else by ends with exactly one.
        objects: objects.json; gives a synset to ends that have none, by image and object id.
        num_terms: how many predicates are selected, the most frequent over all annotations of the file, ties
            by name; 0: all. By default 200, and all for the recipe "release".
        term_key: a predicate is its text (case-folded, white space made one blank), or its first synset.
        recipe: how counts become weights: "paper" or "release" (`kgtool.weights`).
        engine: what counts: "duckdb", "spark" or a Spark master (`kgtool.engines`); the graph is the same.
        options: how the file is read.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: an input is not what it should be; with `options.strict`, the first dirt.
        ClassMatchError: the input has none of the classes of the list.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    if num_terms is None:
        num_terms = 0 if recipe == "release" else DEFAULT_TERMS
    settings = {"name": recipe, "num_terms": num_terms, "term_key": term_key}
    check_first("relation", recipe, output)
    if needs_engine(relationships, engine):
        return build_from_triples(
            "relation",
            relationships,
            classes=classes,
            recipe=settings,
            triples=TripleOptions(term_key=term_key, objects=objects),
            options=options,
            engine=engine,
            output=output,
        )
    if term_key == "text":
        annotations = Annotations(3, fold_text, "empty predicate")
    else:
        annotations = Annotations(3, first_synset, "predicate without synset")
    with closing(annotations), closing(EvidenceCounter(3)) as counter:
        known = _read_objects(objects, annotations, options)
        spec = DecoderSpec(RelationDecoder, {"term_key": term_key, "with_ids": _needs_ids(known, options)})
        annotations.read(relationships, spec, lambda batch: relation_rows(batch, known), options)
        return _finished("relation", settings, annotations, classes, known, counter, output)


def build_attribute_graph(
    attributes: Path | str,
    *,
    classes: int | ClassTable,
    objects: Path | str | None = None,
    num_terms: int = DEFAULT_TERMS,
    recipe: str = "similarity",
    engine: str = "duckdb",
    options: ReadOptions = DEFAULTS,
    output: Output | None = None,
) -> Build:
    """Build an attribute graph from attributes.json of Visual Genome 1.0, 1.2 or 1.4, or from triples.

    Every mention of one of the most frequent attributes, on an object with exactly one synset which is that
    of a class, adds 1 to the class's count of the attribute.

    Args:
        attributes: plain, gzip or zip file, or "-" for standard input; or rows of subject and attribute as
            Parquet shards (folder, file, glob or URL), CSV, TSV or JSON lines.
        classes: a class list, or a number: so many of the most frequent synsets, by objects with exactly one
            synset where `objects` is given, else by mentions on objects with exactly one.
        objects: objects.json; gives a synset to objects that have none, by image and object id.
        num_terms: how many attributes are selected, the most frequent over the file, ties by name; 0: all.
        recipe: how counts become weights: "similarity", "divergence" or "release" (`kgtool.weights`).
        engine: what counts: "duckdb", "spark" or a Spark master (`kgtool.engines`); the graph is the same.
        options: how the file is read.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: an input is not what it should be; with `options.strict`, the first dirt.
        ClassMatchError: the input has none of the classes of the list.
        OutputExistsError: the output is there and is not to be overwritten.
    """
    settings = {"name": recipe, "num_terms": num_terms}
    check_first("attribute", recipe, output)
    if needs_engine(attributes, engine):
        return build_from_triples(
            "attribute",
            attributes,
            classes=classes,
            recipe=settings,
            triples=TripleOptions(kind="attribute", objects=objects),
            options=options,
            engine=engine,
            output=output,
        )
    annotations = Annotations(2, fold_text, "empty attribute")
    with closing(annotations), closing(EvidenceCounter(2)) as counter:
        known = _read_objects(objects, annotations, options)
        spec = DecoderSpec(AttributeDecoder, {"with_ids": _needs_ids(known, options)})
        annotations.read(attributes, spec, lambda batch: attribute_rows(batch, known), options)
        return _finished("attribute", settings, annotations, classes, known, counter, output)


def _read_objects(
    objects: Path | str | None, annotations: Annotations, options: ReadOptions
) -> ObjectSynsets | None:
    if objects is None:
        return None
    return read_object_synsets(
        objects,
        annotations.synsets,
        num_workers=options.num_workers,
        on_progress=options.on_progress,
        excluded=options.excluded,
    )


def _needs_ids(known: ObjectSynsets | None, options: ReadOptions) -> bool:
    """Whether images and objects must be known: reading their ids takes time."""
    return known is not None or options.excluded is not None


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
    source = {**annotations.source, "annotations": annotations.num_read, "skipped": counted.skipped}
    graph = graph_from_evidence(
        kind,
        recipe,
        table,
        Evidence(counted.terms, counted.totals, counted.index, counted.count),
        dataset=DATASET,
        sources=[source, *([known.source] if known else [])],
    )
    return finish_build(
        graph, annotations=annotations.num_read, skipped=counted.skipped, messages=messages, output=output
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
        return most_frequent_classes(classes, count_by_synset), messages
    table, resolved = resolve_names(classes, count_by_synset)
    seen = [synset for synset, count in count_by_synset.items() if count]
    check_some_known(table, seen, annotations.source["name"])
    return table, messages + resolved
