"""Whatever holds triples as Parquet shards: Visual Genome's JSON, text, or the relations of a COCO JSON."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kgtool.annotations import ReadOptions
from kgtool.byte_source import STDIN, ByteSource
from kgtool.coco_triples import CocoTriples
from kgtool.errors import InputError
from kgtool.files import atomic_folder
from kgtool.image_lists import EXCLUDED, ImageList
from kgtool.joined_source import json_files
from kgtool.text_triples import SEPARATORS, TextTriples
from kgtool.triples import COLUMNS, SHARD_ROWS, ShardWriter
from kgtool.visual_genome import EndKey, TermKey
from kgtool.visual_genome_triples import VisualGenomeTriples

if TYPE_CHECKING:
    import pyarrow as pa

_HEAD = 1 << 16
_FIRST_KEY = re.compile(rb'\s*\{\s*"(\w+)"\s*:')
_COCO_KEYS = {"images", "annotations", "categories", "info", "licenses", "type", "rel_categories"}


@dataclass(frozen=True)
class TripleOptions:
    """What triples are made of.

    Attributes:
        kind: "relation" or "attribute".
        ends: of Visual Genome: an end is its one synset, or its folded name.
        term_key: of Visual Genome: a predicate is its folded text, or its first synset.
        objects: of Visual Genome: objects.json, which gives a synset to ends without one.
    """

    kind: str = "relation"
    ends: EndKey = "synset"
    term_key: TermKey = "text"
    objects: Path | str | None = None


_ALL_DEFAULTS, _READ_DEFAULTS = TripleOptions(), ReadOptions()


@dataclass(frozen=True)
class TripleReport:
    """What was written.

    Attributes:
        triples: how many rows: one an annotation that was read.
        shards: how many files.
        without: how many rows lack a column's value, by column.
        sources: what was read.
    """

    triples: int
    shards: int
    without: dict[str, int]
    sources: tuple[dict[str, Any], ...]


class TripleSource(Protocol):
    """Something to iterate once: tables of rows. Its attributes are final after that.

    Attributes:
        ends, term_key, dataset, sources: as in `kgtool.triples.ShardHeader`.
    """

    sources: list[dict[str, Any]]

    @property
    def ends(self) -> str: ...  # noqa: D102
    @property
    def term_key(self) -> str: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    def __iter__(self) -> Iterator["pa.Table"]: ...


def write_triples(
    source: Path | str,
    folder: Path,
    *,
    triples: TripleOptions = _ALL_DEFAULTS,
    options: ReadOptions = _READ_DEFAULTS,
    shard_rows: int = SHARD_ROWS,
    overwrite: bool = False,
) -> TripleReport:
    """Write every annotation of a file as one row of Parquet shards; docs/triples-format.md is the format.

    Nothing is dropped, other than images that `options` exclude: what is no predicate or no end is null, and
    the report says how many there are.

    Args:
        source: relationships.json or attributes.json of Visual Genome, a CSV, TSV or JSON lines of triples,
            or a COCO JSON with relations; each may be compressed, and the first may be "-".
        folder: appears when it is complete.
        triples: what rows are made of.
        options: how the source is read.
        shard_rows: rows of a shard.
        overwrite: replace the folder if it is there.

    Raises:
        InputError: the source is not what it should be.
        OutputExistsError: the folder is there and is not empty.
    """
    with atomic_folder(folder, ("part-*.parquet",), overwrite=overwrite) as part:
        tables = triple_source(source, triples, options)
        if options.excluded is not None:
            options.excluded.check_joins(tables.dataset, str(source))
            tables = TriplesOfOtherImages(tables, options.excluded, str(source))
        return write_shards(tables, part, kind=triples.kind, shard_rows=shard_rows)


class TriplesOfOtherImages:
    """The tables of a source without the rows of some images. Iterate once.

    Attributes:
        sources: those of the source; the first says what was left out.

    Args:
        tables: where the rows come from; attributes as in `TripleSource`.
        images: what is left out.
        name: of the source, for messages.
    """

    def __init__(self, tables: TripleSource, images: ImageList, name: str) -> None:
        self.sources: list[dict[str, Any]] = []
        self.dataset = tables.dataset
        self.term_key = tables.term_key
        self._tables = tables
        self._images = images
        self._name = name

    @property
    def ends(self) -> str:
        """What the source says of its ends."""
        return self._tables.ends

    def __iter__(self) -> Iterator["pa.Table"]:
        """Give out the tables.

        Raises:
            InputError: as the source does; or its rows do not say of which image they are.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        listed = pa.array(self._images.ids_N)
        left_out = 0
        for table in self._tables:
            if "image_id" not in table.column_names:
                raise InputError(f"{self._name}: found no column image_id; expected it with --exclude-images")
            of_listed = pc.is_in(table["image_id"], value_set=listed)
            dropped = table.filter(of_listed)
            left_out += (
                len(dropped) if "count" not in table.column_names else pc.sum(dropped["count"]).as_py() or 0
            )
            yield table.filter(pc.invert(of_listed))
        first, *others = self._tables.sources
        record = {"skipped": {EXCLUDED: left_out}, "excluded_images": self._images.record()}
        self.sources = [first | record, *others]


def write_shards(
    tables: TripleSource, folder: Path, *, kind: str, shard_rows: int = SHARD_ROWS
) -> TripleReport:
    """Write tables of rows as shards into a folder that is there.

    Args:
        tables: what to write.
        folder: where to; empty.
        kind: "relation" or "attribute".
        shard_rows: rows of a shard.
    """
    import pyarrow.compute as pc

    without = dict.fromkeys(COLUMNS[kind], 0)
    with closing(ShardWriter(folder, shard_rows=shard_rows)) as writer:
        for table in tables:
            for name in without:
                without[name] += pc.sum(table[name].is_null()).as_py() or 0
            writer.add(table)
        shards = writer.finish(
            kind=kind,
            ends=tables.ends,
            term_key=tables.term_key,
            dataset=tables.dataset,
            sources=tables.sources,
        )
    return TripleReport(writer.rows, shards, without, tuple(tables.sources))


def triple_source(source: Path | str, triples: TripleOptions, options: ReadOptions) -> TripleSource:
    """What gives out the rows of a file, by what the file holds.

    Raises:
        InputError: it cannot be read, or an option asks for what only Visual Genome's JSON has.
    """
    form = form_of(source)
    if form == "visual genome":
        return VisualGenomeTriples(
            source,
            kind=triples.kind,
            ends=triples.ends,
            term_key=triples.term_key,
            objects=triples.objects,
            options=options,
        )
    if triples.objects or triples.ends == "name" or triples.term_key == "synset":
        raise InputError(
            f"{source}: found {form}; expected relationships.json or attributes.json of Visual Genome with "
            "objects, names or predicate synsets asked for; leave those options out"
        )
    if form == "COCO JSON":
        return CocoTriples(Path(source), kind=triples.kind)
    return TextTriples(source, SEPARATORS[_suffix(source)], triples.kind)


def form_of(source: Path | str) -> str:
    """What a file holds, by its suffix or its first bytes.

    Returns:
        "triples as text", "COCO JSON", or "visual genome" for anything else.

    Raises:
        InputError: it cannot be read.
    """
    if str(source) == STDIN or json_files(source):
        return "visual genome"
    separator = SEPARATORS.get(_suffix(source))
    if separator:
        return "triples as text"
    with closing(ByteSource(source)) as opened:
        head = opened.read(_HEAD)
    if separator is not None and _keys(head.partition(b"\n")[0]) & {
        *COLUMNS["relation"],
        *COLUMNS["attribute"],
    }:
        return "triples as text"
    first_key = _FIRST_KEY.match(head)
    return "COCO JSON" if first_key and first_key[1].decode() in _COCO_KEYS else "visual genome"


def _suffix(source: Path | str) -> str:
    name = str(source).lower()
    return Path(name.removesuffix(".gz").removesuffix(".zip")).suffix


def _keys(line: bytes) -> set[str]:
    """Keys of a JSON object whose values are no lists or objects; none for anything else."""
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return set()
    plain = (str, int, float, type(None))
    return (
        {key for key, value in found.items() if isinstance(value, plain)}
        if isinstance(found, dict)
        else set()
    )
