"""Triples as Parquet: one row an annotation, in shards that any engine counts.

docs/triples-format.md is the format. Columns are `image_id` (int64), `subject`, `predicate` and `object`
(strings, dictionary-encoded; an end is null where the annotation names none); attributes have `attribute`
in place of `predicate` and `object`. A column `count` (integer) is optional and means so many rows. The
footer's key `kgtool` says what was read to make a file. Files without that key are read as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kgtool.byte_source import sha256_of
from kgtool.errors import InputError, MissingResourceError
from kgtool.joined_source import json_files

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "kgtool.triples"
VERSION = "1.0"
METADATA_KEY = b"kgtool"

#: Columns that make a row, beside `image_id` and `count`, for each kind of graph.
COLUMNS = {"relation": ("subject", "predicate", "object"), "attribute": ("subject", "attribute")}

#: Rows of a row group: what a reader takes at a time.
ROW_GROUP_ROWS = 1_000_000
SHARD_ROWS = 10_000_000


class ShardHeader(msgspec.Struct, frozen=True):
    """What the key `kgtool` of a shard's footer holds, as JSON.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`; the major number must agree.
        kind: "relation" or "attribute".
        ends: what subjects and objects are: "synset", "name" (folded), "class" (a class's name as it is), or
            "text" (a class's name or its synset).
        term_key: what predicates are: "text" or "synset".
        dataset: what was read, for people.
        shard: number of this shard, from 0.
        shards: how many there are.
        sources: the files that all shards together were made from, as in a graph's header.
    """

    format: str
    version: str
    kind: str
    ends: str
    term_key: str
    dataset: str
    shard: int
    shards: int
    sources: list[dict[str, Any]]


class ShardWriter:
    """Writes tables of triples into a folder: shards of row groups, the same bytes for the same rows.

    Shards stay open until `finish`, as only then is known what their footers say.

    Args:
        folder: an existing folder.
        shard_rows: rows of a shard, before the next one is begun.
        row_group_rows: rows of a row group.
    """

    def __init__(
        self, folder: Path, *, shard_rows: int = SHARD_ROWS, row_group_rows: int = ROW_GROUP_ROWS
    ) -> None:
        self.rows = 0
        self._folder = folder
        self._shard_rows = shard_rows
        self._row_group_rows = min(row_group_rows, shard_rows)
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writers: list[Any] = []
        self._room = 0  # rows that the last shard can still take

    def add(self, table: "pa.Table") -> None:
        """Add rows; all tables have the same columns, strings dictionary-encoded."""
        self._pending.append(table)
        self._pending_rows += len(table)
        while self._pending_rows >= self._row_group_rows:
            self._write(self._row_group_rows)

    def finish(
        self, *, kind: str, ends: str, term_key: str, dataset: str, sources: Sequence[dict[str, Any]]
    ) -> int:
        """Write what is left, and the footers, which say what `ShardHeader` says.

        Returns:
            The number of shards; without any row there is one.
        """
        if not self._pending:
            self._pending = [_no_rows(kind)]
        if self._pending_rows or not self._writers:
            self._write(self._pending_rows)
        num_shards = len(self._writers)
        for number, writer in enumerate(self._writers):
            header = ShardHeader(
                FORMAT, VERSION, kind, ends, term_key, dataset, number, num_shards, list(sources)
            )
            writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(header, order="deterministic")})
        self.close()
        return num_shards

    def close(self) -> None:
        """Close all files."""
        while self._writers:
            self._writers.pop().close()

    def _write(self, num_rows: int) -> None:
        """Write the first pending rows as one row group, or two where a shard ends between them."""
        import pyarrow as pa

        table = pa.concat_tables(self._pending)
        self._pending, self._pending_rows = [table.slice(num_rows)], self._pending_rows - num_rows
        table = table.slice(0, num_rows)
        while True:
            if not self._room or not self._writers:
                self._writers.append(self._new_shard(table.schema))
                self._room = self._shard_rows
            group = table.slice(0, self._room)
            self._writers[-1].write_table(_compact(group), row_group_size=self._row_group_rows)
            self._room -= len(group)
            self.rows += len(group)
            table = table.slice(len(group))
            if not len(table):
                return

    def _new_shard(self, schema: "pa.Schema") -> Any:
        import pyarrow.parquet as pq

        path = self._folder / f"part-{len(self._writers):05d}.parquet"
        try:
            return pq.ParquetWriter(path, schema, compression="zstd")
        except OSError as error:
            raise InputError(
                f"{path.name}: cannot be opened ({error}); expected fewer shards; give a larger --shard-rows"
            ) from None


def _no_rows(kind: str) -> "pa.Table":
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([("image_id", pa.int64()), *((name, text) for name in COLUMNS[kind])]).empty_table()


def _compact(table: "pa.Table") -> "pa.Table":
    """One chunk a column, its dictionary in the order of first appearance and without unused values."""
    import pyarrow as pa

    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).combine_chunks().dictionary_encode()
        columns.append(column)
    return pa.table(columns, schema=table.schema)


@dataclass(frozen=True, eq=False)
class Shards:
    """Parquet files of triples, found and checked, not yet read.

    Attributes:
        files: paths, as `filesystem` calls them.
        urls: the same, as Spark opens them.
        filesystem: a pyarrow filesystem, or None for local files.
        columns: names of the columns that all files have.
        header: the first shard's header, or None when the files were not made by kgtool.
        sources: what the rows come from, for a graph's header.
    """

    files: tuple[str, ...]
    urls: tuple[str, ...]
    filesystem: Any
    columns: tuple[str, ...]
    header: ShardHeader | None
    sources: tuple[dict[str, Any], ...]


def is_parquet_place(source: Path | str) -> bool:
    """Whether a source is Parquet by its looks: a URL, a folder, a glob, or a file named *.parquet."""
    text = str(source)
    many = Path(text).is_dir() or _is_glob(text)
    return "://" in text or text.endswith(".parquet") or (many and not json_files(text))


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[") and not Path(text).exists()


def find_shards(place: str, *, kind: str = "relation") -> Shards:
    """Find the Parquet files of a folder, a path, a glob or a URL, and check their footers.

    Args:
        place: a local folder (its *.parquet), file or glob such as `triples/part-0000*.parquet`; or the same
            as a URL that fsspec knows, such as `s3://bucket/triples` or `memory://triples`.
        kind: what they are to be counted for: "relation" or "attribute".

    Raises:
        InputError: no file there, or one that is not Parquet or has not the columns, or files that differ.
        MissingResourceError: the package for this kind of URL is not installed.
    """
    files, urls, filesystem = _remote_files(place) if "://" in place else _local_files(place)
    if not files:
        raise InputError(f"{place}: found no Parquet file; expected *.parquet, as kgtool triples writes them")
    headers, columns = [], None
    for file in files:
        names, header = _read_footer(file, filesystem, kind)
        columns = names if columns is None else tuple(name for name in columns if name in names)
        headers.append(header)
    _check_alike(files, headers, kind)
    sources = _sources_of(files, headers, filesystem)
    assert columns is not None
    return Shards(files, urls, filesystem, columns, headers[0], sources)


def _local_files(place: str) -> tuple[tuple[str, ...], tuple[str, ...], None]:
    from glob import glob

    path = Path(place)
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob(place))  # noqa: PTH207 (an absolute pattern)
    files = tuple(str(name) for name in found)
    return files, tuple(f"file://{name.resolve()}" for name in found), None


def _remote_files(place: str) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    from importlib import import_module

    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        remote, path = import_module("fsspec").core.url_to_fs(place)
        names = [path] if remote.exists(path) else []
        if any(sign in path for sign in "*?["):
            names = remote.glob(path)
        elif remote.isdir(path):
            names = [name for name in remote.find(path, maxdepth=1) if name.endswith(".parquet")]
    except ImportError as error:
        raise MissingResourceError(f"{place}: {error}; expected the package for this kind of URL") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{place}: cannot be read ({error}); expected a URL that fsspec knows") from None
    files = tuple(sorted(names))
    return files, tuple(remote.unstrip_protocol(name) for name in files), PyFileSystem(FSSpecHandler(remote))


def _read_footer(file: str, filesystem: Any, kind: str) -> tuple[tuple[str, ...], ShardHeader | None]:
    """Names of a file's columns and its header, checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, filesystem=filesystem) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata.metadata
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    missing = [name for name in COLUMNS[kind] if name not in schema.names]
    if missing:
        raise InputError(
            f"{file}: found the columns {', '.join(schema.names)}; expected {', '.join(COLUMNS[kind])}"
        )
    for name in COLUMNS[kind]:
        _check_type(file, schema.field(name), "text", pa.types.is_string, pa.types.is_large_string)
    if "count" in schema.names:
        _check_type(file, schema.field("count"), "whole numbers", pa.types.is_integer)
    text = (metadata or {}).get(METADATA_KEY)
    return tuple(schema.names), None if text is None else _header(file, text)


def _check_type(file: str, field: "pa.Field", words: str, *tests: Any) -> None:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not any(test(kind) for test in tests):
        raise InputError(f"{file}, column {field.name}: found {field.type}; expected {words}")


def _header(file: str, text: bytes) -> ShardHeader:
    try:
        header = msgspec.json.decode(text, type=ShardHeader)
    except msgspec.DecodeError as error:
        raise InputError(f"{file}, metadata key kgtool: {error}; write the shards again") from None
    if header.format != FORMAT or header.version.split(".")[0] != VERSION.split(".")[0]:
        raise InputError(
            f"{file}: found {header.format} {header.version}; expected {FORMAT} {VERSION.split('.')[0]}.x"
        )
    return header


def _check_alike(files: tuple[str, ...], headers: list[ShardHeader | None], kind: str) -> None:
    """All files were made by kgtool in the same way, or none of them was."""
    kinds = {None if header is None else (header.kind, header.ends, header.term_key) for header in headers}
    if len(kinds) > 1:
        raise InputError(
            f"{files[0]} and others: found shards of {len(kinds)} kinds; expected the same kind, ends and "
            "predicate key in all; name them apart"
        )
    header = headers[0]
    if header is not None and header.kind != kind:
        raise InputError(f"{files[0]}: found triples of kind {header.kind!r}; expected {kind!r}")


def _sources_of(
    files: tuple[str, ...], headers: list[ShardHeader | None], filesystem: Any
) -> tuple[dict[str, Any], ...]:
    """What the shards were made from; where some shards of a set are left out, which ones there are."""
    if headers[0] is None:
        local = filesystem is None
        return tuple(
            {"name": Path(file).name, "sha256": sha256_of(file) if local else None} for file in files
        )
    sets: dict[bytes, tuple[ShardHeader, list[int]]] = {}
    for header in headers:
        assert header is not None
        identity = msgspec.json.encode([header.sources, header.shards], order="deterministic")
        sets.setdefault(identity, (header, []))[1].append(header.shard)
    result = []
    for header, numbers in sets.values():
        if len(set(numbers)) < len(numbers):
            raise InputError(f"{files[0]} and others: found the same shard twice; name each once")
        part = (
            {} if len(numbers) == header.shards else {"shards": sorted(numbers), "of_shards": header.shards}
        )
        result += [{**source, **part} for source in header.sources]
    return tuple(result)
