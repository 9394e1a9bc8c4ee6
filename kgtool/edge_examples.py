"""Images in which a graph's edges can be seen: the sources that it was built from are read once more.

A graph keeps no image ids. What counted for an edge is found by the same rules as when the graph was built:
the source's SHA-256 must be among those of the graph's header, and images that were left out then must be
left out again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgtool.annotations import ReadOptions
from kgtool.box_relations import iter_image_relations
from kgtool.classes import ClassTable
from kgtool.cooccurrence import load_boxes
from kgtool.errors import InputError
from kgtool.graph import ClassGraph
from kgtool.graph_summary import selected_terms
from kgtool.image_evidence import whole_numbers
from kgtool.image_examples import ExampleCollector, ImageExamples, pair_key, unordered
from kgtool.triple_build import header_sources
from kgtool.triple_counts import texts_of_classes
from kgtool.triple_writing import TripleOptions, TripleSource, form_of, triple_source
from kgtool.triples import COLUMNS, find_shards, is_parquet_place
from kgtool.visual_genome import EndKey, fold_text

if TYPE_CHECKING:
    import pyarrow as pa

_DEFAULTS = ReadOptions()


def find_examples(
    graph: ClassGraph,
    sources: Sequence[Path | str],
    *,
    objects: Path | str | None = None,
    options: ReadOptions = _DEFAULTS,
) -> ImageExamples:
    """Find images that stand behind the edges of a graph.

    Args:
        graph: its header names its sources.
        sources: files that the graph was built from, as the build commands take them; some of several do.
        objects: objects.json, where the graph was built with it.
        options: how the sources are read, and the images that were left out.

    Raises:
        InputError: a source is none of the graph's, has no image ids, or is not what it should be; the graph
            was built with other objects; or images were left out of it that `options` does not leave out.
    """
    collector = ExampleCollector()
    for source in sources:
        if graph.kind == "cooccurrence" and not is_parquet_place(source) and form_of(source) == "COCO JSON":
            _add_boxes(graph, Path(source), options, collector)
        else:
            _add_triples(graph, source, objects, options, collector)
    return collector.examples()


def _add_boxes(graph: ClassGraph, path: Path, options: ReadOptions, collector: ExampleCollector) -> None:
    """Add the images of every pair of classes that the windows of a COCO file's boxes relate."""
    recipe = graph.header["recipe"]
    boxes = load_boxes(path, _table(graph), options.excluded)
    _check_source(graph, path, [boxes.source], options)
    for image, subject, object_ in iter_image_relations(
        boxes.image_N,
        boxes.class_N,
        boxes.boxes_N4,
        window=recipe.get("window", "image"),
        num_neighbours=recipe.get("num_neighbours", 5),
    ):
        collector.add(pair_key(*unordered(subject, object_), len(graph.classes)), image)


def _add_triples(
    graph: ClassGraph,
    source: Path | str,
    objects: Path | str | None,
    options: ReadOptions,
    collector: ExampleCollector,
) -> None:
    """Add the images of every annotation that counted."""
    kind = "attribute" if graph.kind == "attribute" else "relation"
    tables = _open(graph, source, kind, objects, options)
    if options.excluded is not None:
        options.excluded.check_joins(tables.dataset, str(source))
    code_by_term = {term: code for code, term in enumerate(selected_terms(graph))}
    code_by_end: dict[str, int] = {}
    for table in tables:
        if not code_by_end:  # only now a source knows what its ends are
            texts, position = texts_of_classes(_table(graph), tables.ends)
            code_by_end = dict(zip(texts, position.tolist(), strict=True))
        ends = [_codes(table[name], code_by_end) for name in COLUMNS[kind] if name in ("subject", "object")]
        term = _codes(table["predicate" if kind == "relation" else "attribute"], code_by_term, folded=True)
        image = _image_ids(table, source)
        counted = (image >= 0) & (term >= 0) & np.all([codes >= 0 for codes in ends], axis=0)
        if "count" in table.column_names:
            counted &= whole_numbers(table, "count", 1, str(source)) > 0
        if options.excluded is not None:
            counted &= ~options.excluded.contains(image)
        if kind == "attribute":
            key = pair_key(ends[0], term, len(code_by_term))
        else:
            key = pair_key(*unordered(*ends), len(graph.classes))
        collector.add(key[counted], image[counted])
    _check_source(graph, source, tables.sources, options)


def _open(
    graph: ClassGraph, source: Path | str, kind: str, objects: Path | str | None, options: ReadOptions
) -> TripleSource:
    if is_parquet_place(source):
        return _Shards(str(source), kind)
    if form_of(source) != "visual genome":
        return triple_source(source, TripleOptions(kind=kind), options)
    ends: EndKey = "synset" if any(graph.synsets) else "name"
    term_key = graph.header["recipe"].get("term_key", "text")
    return triple_source(source, TripleOptions(kind, ends, term_key, objects), options)


class _Shards:
    """Parquet shards as tables. Iterate once; attributes as in `TripleSource`."""

    def __init__(self, place: str, kind: str) -> None:
        self._shards = find_shards(place, kind=kind)
        self._names = [name for name in ("image_id", *COLUMNS[kind], "count") if name in self._shards.columns]
        header = self._shards.header
        self.ends = "" if header is None else header.ends
        self.term_key = "text" if header is None else header.term_key
        self.dataset = "triples" if header is None else header.dataset
        self.sources = [dict(found) for found in header_sources(place, self._shards)]

    def __iter__(self) -> Iterator["pa.Table"]:
        import pyarrow as pa
        import pyarrow.dataset

        shards = self._shards
        files = pyarrow.dataset.dataset(list(shards.files), filesystem=shards.filesystem, format="parquet")
        for batch in files.to_batches(columns=self._names):
            yield pa.Table.from_batches([batch])


def _table(graph: ClassGraph) -> ClassTable:
    return ClassTable(graph.classes, graph.synsets)


def _image_ids(table: "pa.Table", source: Path | str) -> npt.NDArray[np.int64]:
    if "image_id" not in table.column_names:
        raise InputError(f"{source}: found no column image_id; expected it to name example images")
    return whole_numbers(table, "image_id", -1, str(source))


def _codes(column: Any, code_by_text: Mapping[str, int], *, folded: bool = False) -> npt.NDArray[np.int64]:
    """The code of each text of a column; -1 where it has none."""
    import pyarrow as pa

    encoded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    codes = [code_by_text.get(fold_text(text) if folded else text, -1) for text in texts]
    return np.take(np.array(codes, dtype=np.int64), np.asarray(encoded.indices))


def _check_source(
    graph: ClassGraph, source: Path | str, found: Sequence[Mapping[str, Any]], options: ReadOptions
) -> None:
    """Check that the graph was built from what was read, with the same objects and without the same images.

    Args:
        graph: its header says what it was built from.
        source: what was read, for messages.
        found: what a header would say of it; after the first, its objects.
        options: how it was read.

    Raises:
        InputError: it was not.
    """
    built_from = [entry for top in graph.header["sources"] for entry in (top, *top.get("made_from", ()))]
    hashes = {entry["sha256"] for entry in (found[0], *found[0].get("made_from", ()))}
    if not hashes & {entry.get("sha256") for entry in built_from}:
        names = ", ".join(str(entry.get("name")) for entry in built_from) or "none"
        raise InputError(
            f"{source}: found content that is no source of the graph, by SHA-256; expected one that it was "
            f"built from ({names})"
        )
    # What shards were made with is in them, and what they were made without is not.
    shards = is_parquet_place(source)
    given = "" if options.excluded is None else options.excluded.record()["sha256"]
    for entry in graph.header["sources"] if shards else built_from:
        record = entry.get("excluded_images")
        if record and record["sha256"] != given:
            raise InputError(
                f"{source}: found that {record['images']} images were left out of the graph, a list with "
                f"SHA-256 {record['sha256']}; expected that list; give it with --exclude-images"
            )
        if "objects" in entry and not shards and entry["sha256"] not in {one["sha256"] for one in found[1:]}:
            raise InputError(
                f"{source}: found that the graph was built with {entry['name']}, with SHA-256 "
                f"{entry['sha256']}; expected that file; give it with --objects"
            )
