"""Named arrays as a Parquet file: one table of rows, which SQL and data frames can ask.

The column `part` says what a row is:

    class     source, synset, and of an attribute graph term_counts and distribution (lists, one value a term)
    edge      source, target, weight, count (a pair with neither is left out)
    term      term, count (occurrences in the whole input), most frequent first
    evidence  source, term, target (none in an attribute graph), count

Classes and terms are names, never positions. The header is the schema's metadata `kgtool`; `kgtool.arrays`
holds the shapes, as the rows cannot tell an array of zeros from none.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kgtool.errors import GraphFormatError
from kgtool.graph_npz import check_total_size

Array = npt.NDArray[Any]

_NAME = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    [
        ("part", _NAME),
        ("source", _NAME),
        ("term", _NAME),
        ("target", _NAME),
        ("weight", pa.float32()),
        ("count", pa.int64()),
        ("synset", pa.string()),
        ("term_counts", pa.list_(pa.int64())),
        ("distribution", pa.list_(pa.float32())),
    ]
)
_NAMED = ("part", "source", "term", "target")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as one table; the same arrays give the same bytes."""
    classes = pa.array(arrays["classes"].tolist(), pa.string())
    terms = pa.array(json.loads(str(arrays.get("evidence_terms", "[]"))), pa.string())
    parts = [_class_rows(arrays, classes), _edge_rows(arrays, classes)]
    if "evidence_index" in arrays:
        parts += [_term_rows(arrays, terms), _evidence_rows(arrays, classes, terms)]
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    table = table.replace_schema_metadata(
        {"kgtool": str(arrays["meta"]), "kgtool.arrays": json.dumps(shapes, sort_keys=True)}
    )
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=list(_NAMED),
        dictionary_pagesize_limit=2**24,
    )


def _rows(part: str, num_rows: int, **columns: Any) -> pa.Table:
    """A table of the full schema; columns not given are null."""
    columns["part"] = _names(np.zeros(num_rows, np.int32), pa.array([part]))
    return pa.table(
        [columns.get(field.name, pa.nulls(num_rows, field.type)) for field in _SCHEMA], schema=_SCHEMA
    )


def _names(positions: Array, names: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(positions.astype(np.int32)), names)


def _lists(matrix: Array) -> pa.ListArray:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(matrix.reshape(-1)))


def _class_rows(arrays: Mapping[str, Array], classes: pa.Array) -> pa.Table:
    lists: dict[str, Any] = {}
    if "distribution" in arrays:
        lists["distribution"] = _lists(arrays["distribution"])
    if _counts_by_term(arrays):
        lists["term_counts"] = _lists(arrays["counts"])
    return _rows(
        "class",
        len(classes),
        source=_names(np.arange(len(classes)), classes),
        synset=pa.array(arrays["synsets"].tolist(), pa.string()),
        **lists,
    )


def _counts_by_term(arrays: Mapping[str, Array]) -> bool:
    """Whether counts are (C, A): those of an attribute graph are."""
    return "counts" in arrays and json.loads(str(arrays["meta"])).get("kind") == "attribute"


def _edge_rows(arrays: Mapping[str, Array], classes: pa.Array) -> pa.Table:
    weight = arrays["weight"]
    with_counts = "counts" in arrays and not _counts_by_term(arrays)
    used = (weight != 0) | (arrays["counts"] != 0) if with_counts else weight != 0
    source, target = np.nonzero(used)
    extra = {"count": pa.array(arrays["counts"][source, target])} if with_counts else {}
    return _rows(
        "edge",
        len(source),
        source=_names(source, classes),
        target=_names(target, classes),
        weight=pa.array(weight[source, target]),
        **extra,
    )


def _term_rows(arrays: Mapping[str, Array], terms: pa.Array) -> pa.Table:
    return _rows(
        "term",
        len(terms),
        term=_names(np.arange(len(terms)), terms),
        count=pa.array(arrays["evidence_totals"]),
    )


def _evidence_rows(arrays: Mapping[str, Array], classes: pa.Array, terms: pa.Array) -> pa.Table:
    index = arrays["evidence_index"]
    target = {"target": _names(index[:, 2], classes)} if index.shape[1] == 3 else {}
    return _rows(
        "evidence",
        len(index),
        source=_names(index[:, 0], classes),
        term=_names(index[:, 1], terms),
        count=pa.array(arrays["evidence_count"]),
        **target,
    )


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all arrays, after the size of what they hold was checked.

    Raises:
        GraphFormatError: the file is cut off, damaged, or not laid out as a class graph.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=list(_NAMED)) as file:
            meta, shapes = _metadata(file)
            _check_size(file, shapes, path.stat().st_size)
            table = file.read()
        return {"meta": np.array(meta), **_arrays_of(table, shapes)}
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise GraphFormatError(
            f"found a damaged Parquet file ({line}); expected one that kgtool wrote; copy or build it again"
        ) from None


def _metadata(file: pq.ParquetFile) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The header's JSON, and the shape of each array."""
    metadata = file.schema_arrow.metadata or {}
    if b"kgtool" not in metadata or b"kgtool.arrays" not in metadata:
        raise GraphFormatError("found Parquet without the metadata kgtool; this is not a class graph")
    try:
        shapes = msgspec.json.decode(metadata[b"kgtool.arrays"], type=dict[str, tuple[int, ...]])
    except msgspec.DecodeError as error:
        raise GraphFormatError(f"metadata kgtool.arrays: {error}; expected a shape for each array") from None
    if any(length < 0 for shape in shapes.values() for length in shape):
        raise GraphFormatError("metadata kgtool.arrays: found a negative length; expected 0 or more")
    return metadata[b"kgtool"].decode(), shapes


def _check_size(file: pq.ParquetFile, shapes: Mapping[str, tuple[int, ...]], file_size: int) -> None:
    """Check the memory that the rows will take, and the arrays made of them."""
    if not file.schema_arrow.equals(_SCHEMA):
        raise GraphFormatError(
            f"found the columns {', '.join(file.schema_arrow.names)}; expected {', '.join(_SCHEMA.names)}, "
            "of the types in docs/graph-format.md"
        )
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    num_values = sum(group.column(n).num_values for group in groups for n in range(group.num_columns))
    num_elements = sum(math.prod(shape) for shape in shapes.values())
    num_classes = min(math.prod(shapes.get("classes", ())), file.metadata.num_rows)
    for number in (num_values, num_elements):
        check_total_size(8 * number, num_classes, file_size)


def _arrays_of(table: pa.Table, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    parts = table["part"].cast(pa.string())
    rows = {name: table.filter(pc.equal(parts, name)) for name in ("class", "edge", "term", "evidence")}
    if sum(part.num_rows for part in rows.values()) != table.num_rows:
        raise GraphFormatError("column part: found a row that is no class, edge, term or evidence")
    if shapes.get("classes") != (rows["class"].num_rows,):
        raise GraphFormatError(f"found {rows['class'].num_rows} classes; expected {shapes.get('classes')}")
    classes = _text(rows["class"], "source")
    arrays: dict[str, Array] = {
        "classes": np.array(classes.to_pylist(), dtype=str),
        "synsets": np.array(_text(rows["class"], "synset").to_pylist(), dtype=str),
        "weight": _matrix(rows["edge"], "weight", classes, np.float32),
    }
    if "counts" in shapes:
        by_term = rows["class"]["term_counts"].null_count == 0
        arrays["counts"] = (
            _stacked(rows["class"], "term_counts", shapes["counts"])
            if by_term
            else _matrix(rows["edge"], "count", classes, np.int64)
        )
    if "distribution" in shapes:
        arrays["distribution"] = _stacked(rows["class"], "distribution", shapes["distribution"])
    if "evidence_index" in shapes:
        with_target = shapes["evidence_index"][-1:] == (3,)
        arrays |= _evidence_of(rows["term"], rows["evidence"], classes, with_target)
    return arrays


def _column(rows: pa.Table, name: str) -> pa.Array:
    """A column that may have no null in these rows."""
    column = rows[name].combine_chunks()
    if column.null_count:
        raise GraphFormatError(f"column {name}: found null in {column.null_count} rows; expected a value")
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _text(rows: pa.Table, name: str) -> pa.Array:
    return _column(rows, name).cast(pa.string())


def _positions(rows: pa.Table, name: str, known: pa.Array) -> npt.NDArray[np.int64]:
    """Where in a list of names each row's name stands."""
    found = pc.index_in(_text(rows, name), value_set=known)
    if found.null_count:
        raise GraphFormatError(f"column {name}: found a name that no class or term row has")
    return np.asarray(found).astype(np.int64)


def _matrix(edges: pa.Table, name: str, classes: pa.Array, dtype: npt.DTypeLike) -> Array:
    source, target = _positions(edges, "source", classes), _positions(edges, "target", classes)
    result = np.zeros((len(classes), len(classes)), dtype)
    seen = np.zeros(result.shape, bool)
    seen[source, target] = True
    if np.count_nonzero(seen) != len(source):
        raise GraphFormatError("column part: found an edge twice; expected each pair of classes once")
    result[source, target] = np.asarray(_column(edges, name))
    return result


def _stacked(rows: pa.Table, name: str, shape: tuple[int, ...]) -> Array:
    lists = _column(rows, name)
    if len(shape) != 2 or not pc.all(pc.equal(pc.list_value_length(lists), shape[1])).as_py():
        raise GraphFormatError(f"column {name}: found lists of other lengths than shape {list(shape)} says")
    values = lists.flatten()
    if values.null_count:
        raise GraphFormatError(f"column {name}: found null in a list; expected numbers")
    return np.array(values).reshape(shape)


def _evidence_of(terms: pa.Table, rows: pa.Table, classes: pa.Array, with_target: bool) -> dict[str, Array]:
    names = _text(terms, "term")
    columns = [_positions(rows, "source", classes), _positions(rows, "term", names)]
    if with_target:
        columns.append(_positions(rows, "target", classes))
    return {
        "evidence_terms": np.array(json.dumps(names.to_pylist())),
        "evidence_totals": np.array(_column(terms, "count")),
        "evidence_index": np.stack(columns, axis=1).astype(np.int32),
        "evidence_count": np.array(_column(rows, "count")),
    }
