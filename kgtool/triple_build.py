"""Class graphs from triples: shards wherever they lie, counted by DuckDB or Spark."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kgtool.annotations import NOT_IN_LIST, ReadOptions
from kgtool.build_result import Build, Output, finish_build, graph_from_evidence
from kgtool.classes import ClassTable
from kgtool.engines import open_engine
from kgtool.errors import InputError
from kgtool.image_lists import EXCLUDED, ImageList, check_some_left
from kgtool.triple_counts import TripleCounts
from kgtool.triple_writing import TripleOptions, TripleSource, form_of, triple_source, write_shards
from kgtool.triples import Shards, find_shards, is_parquet_place


def needs_engine(source: Path | str, engine: str) -> bool:
    """Whether a source is triples already, or must become triples for another engine than DuckDB."""
    return engine != "duckdb" or is_parquet_place(source) or form_of(source) != "visual genome"


def build_from_triples(
    kind: str,
    source: Path | str,
    *,
    classes: int | ClassTable,
    recipe: Mapping[str, Any],
    triples: TripleOptions,
    options: ReadOptions,
    engine: str,
    output: Output | None,
) -> Build:
    """Build a graph from triples; the graph_hash is the same from every engine, form and order of shards.

    Args:
        kind: of the graph: "relation", "attribute" or "cooccurrence".
        source: Parquet shards (folder, file, glob or URL), or anything `write_triples` takes.
        classes: a class list, or a number: so many of the most frequent ends.
        recipe: for the header; `name` and `num_terms` decide the weights.
        triples: what the rows of a source that is no Parquet are made of.
        options: how the source is read; `num_workers` is also how many threads DuckDB has.
        engine: as `open_engine` takes it.
        output: where to write the graph; None writes nothing.

    Raises:
        InputError: the source is not what it should be; with `options.strict`, dirt.
        ClassMatchError: the source has none of the classes of the list.
        MissingResourceError: the engine is not installed.
    """
    with _shards(source, triples, options) as shards:
        _check_term_key(source, shards, triples)
        sources = header_sources(source, shards)
        return build_from_shards(
            kind,
            shards,
            classes=classes,
            recipe=recipe,
            sources=sources,
            options=options,
            engine=engine,
            output=output,
        )


def build_from_shards(
    kind: str,
    shards: Shards,
    *,
    classes: int | ClassTable,
    recipe: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    options: ReadOptions,
    engine: str,
    output: Output | None,
) -> Build:
    """Count shards and make their graph; as `build_from_triples`.

    Args:
        kind: of the graph.
        shards: what to count.
        classes: a class list, or a number.
        recipe: for the header.
        sources: for the header; what was counted is added to the first.
        options: threads, and whether dirt is an error.
        engine: as `open_engine` takes it.
        output: where to write the graph; None writes nothing.
    """
    dataset = "triples" if shards.header is None else shards.header.dataset
    if options.excluded is not None:
        _check_images(options.excluded, dataset, str(sources[0]["name"]), shards.columns)
    term_kind = "attribute" if kind == "attribute" else "relation"
    with open_engine(engine, num_threads=options.num_workers) as opened:
        counts = TripleCounts(shards, opened, term_kind, options.excluded)
        table, messages = counts.choose_classes(classes)
        evidence = counts.evidence(table)
        check_some_left(counts.skipped.get(EXCLUDED, 0), counts.num_read, str(sources[0]["name"]))
        if not len(evidence.count):
            counts.check_has_class(table, str(sources[0]["name"]))
    if options.strict:
        _check_clean(str(sources[0]["name"]), counts.skipped)
    found: dict[str, Any] = {"annotations": counts.num_read, "skipped": counts.skipped}
    if options.excluded is not None:
        found["excluded_images"] = options.excluded.record()
    graph = graph_from_evidence(
        kind, recipe, table, evidence, dataset=dataset, sources=[{**sources[0], **found}, *sources[1:]]
    )
    return finish_build(
        graph, annotations=counts.num_read, skipped=counts.skipped, messages=messages, output=output
    )


@contextmanager
def temporary_shards(tables: TripleSource, *, kind: str = "relation") -> Iterator[Shards]:
    """Shards of some tables, for as long as they are needed."""
    with tempfile.TemporaryDirectory(prefix="kgtool-triples-") as folder:
        write_shards(tables, Path(folder), kind=kind)
        yield find_shards(folder, kind=kind)


@contextmanager
def _shards(source: Path | str, triples: TripleOptions, options: ReadOptions) -> Iterator[Shards]:
    """The shards of a source; what is not Parquet is written as shards first, for as long as it takes."""
    if is_parquet_place(source):
        if triples.objects is not None:
            raise InputError(f"{source}: found triples; expected no --objects: give it to kgtool triples")
        yield find_shards(str(source), kind=triples.kind)
        return
    with temporary_shards(triple_source(source, triples, options), kind=triples.kind) as shards:
        yield shards


def _check_term_key(source: Path | str, shards: Shards, triples: TripleOptions) -> None:
    found = "text" if shards.header is None else shards.header.term_key
    if triples.kind == "relation" and found != triples.term_key:
        raise InputError(
            f"{source}: found predicates by {found}; expected by {triples.term_key}; "
            f"give --predicate-key {found}, or make triples with --predicate-key {triples.term_key}"
        )


def _check_images(excluded: ImageList, dataset: str, source: str, columns: Sequence[str]) -> None:
    excluded.check_joins(dataset, source)
    if "image_id" not in columns:
        raise InputError(f"{source}: found no column image_id; expected it with --exclude-images")


def _check_clean(source: str, skipped: Mapping[str, int]) -> None:
    for reason, number in skipped.items():
        if number and reason not in (NOT_IN_LIST, EXCLUDED):
            raise InputError(
                f"{source}: found {number} triples to skip ({reason}); expected none with --strict; "
                "correct them, or leave --strict out to skip and count them"
            )


def header_sources(source: Path | str, shards: Shards) -> Sequence[Mapping[str, Any]]:
    """For the header: the file that was read, or the shards and what those were made from."""
    if not is_parquet_place(source):
        return shards.sources
    made_from = json.dumps(shards.sources, sort_keys=True)
    return [
        {
            "name": str(source).rstrip("/").rpartition("/")[2],
            "sha256": hashlib.sha256(made_from.encode()).hexdigest(),
            "made_from": list(shards.sources),
        }
    ]
