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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
            shapes = _shapes(file)
            _check_size(file, shapes, path.stat().st_size)
            table = file.read()
            metadata = dict(file.schema_arrow.metadata)
        return _arrays_of(table, metadata[b"kgtool"].decode(), shapes)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        line = " ".join(str(error).split())
        raise GraphFormatError(
            f"found a damaged Parquet file ({line}); expected one that kgtool wrote; copy or build it again"
        ) from None


def _shapes(file: pq.ParquetFile) -> dict[str, tuple[int, ...]]:
    metadata = file.schema_arrow.metadata or {}
    if b"kgtool" not in metadata or b"kgtool.arrays" not in metadata:
        raise GraphFormatError("found Parquet without the metadata kgtool; this is not a class graph")
    if not file.schema_arrow.equals(_SCHEMA):
        raise GraphFormatError(
            f"found the columns {', '.join(file.schema_arrow.names)}; expected {', '.join(_SCHEMA.names)}, "
            "with their types"
        )
    shapes = json.loads(metadata[b"kgtool.arrays"])
    return {name: tuple(int(length) for length in shape) for name, shape in shapes.items()}


def _check_size(file: pq.ParquetFile, shapes: Mapping[str, tuple[int, ...]], file_size: int) -> None:
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    values = sum(group.column(number).num_values for group in groups for number in range(group.num_columns))
    num_classes = shapes["classes"][0]
    check_total_size(8 * values, num_classes, file_size)
    check_total_size(
        sum(8 * int(np.prod(shape, dtype=object)) for shape in shapes.values()), num_classes, file_size
    )


def _arrays_of(table: pa.Table, meta: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    part = {
        name: table.filter(pc.equal(pc.cast(table["part"], pa.string()), name))
        for name in ("class", "edge", "term", "evidence")
    }
    if sum(rows.num_rows for rows in part.values()) != table.num_rows:
        raise GraphFormatError("column part: found a row that is no class, edge, term or evidence")
    classes = pc.cast(part["class"]["source"], pa.string())
    arrays: dict[str, Array] = {
        "meta": np.array(meta),
        "classes": np.array(classes.to_pylist(), dtype=str),
        "synsets": np.array(part["class"]["synset"].to_pylist(), dtype=str),
        "weight": _matrix(part["edge"], "weight", classes, np.float32),
    }
    counts = shapes.get("counts")
    if counts is not None:
        by_term = json.loads(meta).get("kind") == "attribute"
        arrays["counts"] = (
            _stacked(part["class"]["term_counts"], counts, np.int64)
            if by_term
            else _matrix(part["edge"], "count", classes, np.int64)
        )
    if "distribution" in shapes:
        arrays["distribution"] = _stacked(part["class"]["distribution"], shapes["distribution"], np.float32)
    if "evidence_index" in shapes:
        arrays |= _evidence_of(part["term"], part["evidence"], classes, shapes["evidence_index"][1])
    return arrays


def _positions(column: pa.ChunkedArray, names: pa.Array) -> npt.NDArray[np.int64]:
    """Where each row's name stands in a list of names."""
    plain = pc.index_in(column.cast(pa.string()), value_set=names)
    if plain.null_count:
        raise GraphFormatError(f"found a {names.type} that is in no list of names")
    return np.asarray(plain, dtype=np.int64)


def _matrix(edges: pa.Table, column: str, classes: pa.Array, dtype: npt.DTypeLike) -> Array:
    result = np.zeros((len(classes), len(classes)), dtype)
    values = np.asarray(edges[column].combine_chunks())
    result[_positions(edges["source"], classes), _positions(edges["target"], classes)] = values
    return result


def _stacked(lists: pa.ChunkedArray, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    return np.array(lists.combine_chunks().flatten(), dtype=dtype).reshape(shape)


def _evidence_of(terms: pa.Table, rows: pa.Table, classes: pa.Array, width: int) -> dict[str, Array]:
    names = pc.cast(terms["term"], pa.string())
    columns = [_positions(rows["source"], classes), _positions(rows["term"], names)]
    if width == 3:
        columns.append(_positions(rows["target"], classes))
    return {
        "evidence_terms": np.array(json.dumps(names.to_pylist())),
        "evidence_totals": np.array(terms["count"], dtype=np.int64),
        "evidence_index": np.stack(columns, axis=1).astype(np.int32),
        "evidence_count": np.array(rows["count"], dtype=np.int64),
    }
