"""Named arrays as a Parquet file: one table of rows, which SQL and data frames can ask.

The column `part` says what a row is:

    class      source, synset
    edge       source, target, weight, count (a pair that has neither is left out)
    attribute  source, column, count, probability (of an attribute graph; zeros are left out)
    term       term, count (occurrences in the whole input), most frequent first
    evidence   source, term, target (none in an attribute graph), count

Classes and terms are names; `column` alone is a number, a column of the counts. The header is the schema's
metadata `kgtool`; `kgtool.arrays` holds the shapes, as the rows cannot tell an array of zeros from none.
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
from kgtool.graph_arrays import check_total_size, json_value

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
        ("synset", _NAME),
        ("column", pa.int32()),
        ("probability", pa.float32()),
    ]
)
_NAMED = ["part", "source", "term", "target", "synset"]
_ROW_BYTES = 40  # what a row takes in memory, at most


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as one table; the same arrays give the same bytes."""
    classes = pa.array(arrays["classes"].tolist(), pa.string())
    terms = pa.array(json.loads(str(arrays.get("evidence_terms", "[]"))), pa.string())
    parts = [_class_rows(arrays, classes), _edge_rows(arrays, classes)]
    if _is_attribute(arrays):
        parts.append(_attribute_rows(arrays, classes))
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
        use_dictionary=_NAMED,
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


def _class_rows(arrays: Mapping[str, Array], classes: pa.Array) -> pa.Table:
    synset = pa.array(arrays["synsets"].tolist(), pa.string()).dictionary_encode()
    return _rows("class", len(classes), source=_names(np.arange(len(classes)), classes), synset=synset)


def _is_attribute(arrays: Mapping[str, Array]) -> bool:
    """Whether counts and distribution are of shape (C, A), as in an attribute graph."""
    return bool(json_value(arrays, "meta", dict).get("kind") == "attribute")


def _edge_rows(arrays: Mapping[str, Array], classes: pa.Array) -> pa.Table:
    used = arrays["weight"] != 0
    with_count = "counts" in arrays and not _is_attribute(arrays)
    if with_count:
        used |= arrays["counts"] != 0
    source, target = np.nonzero(used)
    values = {"weight": pa.array(arrays["weight"][used])}
    if with_count:
        values["count"] = pa.array(arrays["counts"][used])
    names = {"source": _names(source, classes), "target": _names(target, classes)}
    return _rows("edge", len(source), **names, **values)


def _attribute_rows(arrays: Mapping[str, Array], classes: pa.Array) -> pa.Table:
    matrices = {
        column: arrays[name]
        for column, name in (("count", "counts"), ("probability", "distribution"))
        if name in arrays
    }
    used = np.logical_or.reduce([matrix != 0 for matrix in matrices.values()] or [np.zeros((0, 0), bool)])
    source, term = np.nonzero(used)
    values = {column: pa.array(matrix[used]) for column, matrix in matrices.items()}
    column = pa.array(term.astype(np.int32))
    return _rows("attribute", len(source), source=_names(source, classes), column=column, **values)


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
        with pq.ParquetFile(path) as file:
            meta, shapes = _metadata(file.schema_arrow)
            _check_size(file.metadata, shapes, path.stat().st_size)
        # Named here too: a file that another tool wrote again does not say that names were dictionaries.
        with pq.ParquetFile(path, read_dictionary=_NAMED) as file:
            table = file.read()
        if not table.schema.equals(_SCHEMA):
            raise GraphFormatError("found columns of other types; expected those of docs/graph-format.md")
        return _arrays_of(table, meta, shapes)
    except (pa.ArrowException, OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise GraphFormatError(
            f"found a damaged Parquet file ({line}); expected one that kgtool wrote; copy or build it again"
        ) from None


def _metadata(schema: pa.Schema) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The header's JSON, and the shape of each array."""
    metadata = schema.metadata or {}
    if b"kgtool" not in metadata or b"kgtool.arrays" not in metadata:
        raise GraphFormatError("found Parquet without the metadata kgtool; this is not a class graph")
    if schema.names != _SCHEMA.names:
        raise GraphFormatError(
            f"found the columns {', '.join(schema.names)[:200]}; expected {', '.join(_SCHEMA.names)}"
        )
    try:
        shapes = msgspec.json.decode(metadata[b"kgtool.arrays"], type=dict[str, tuple[int, ...]])
    except msgspec.DecodeError as error:
        raise GraphFormatError(f"metadata kgtool.arrays: {error}; expected a shape for each array") from None
    if any(length < 0 for shape in shapes.values() for length in shape):
        raise GraphFormatError("metadata kgtool.arrays: found a negative length; expected 0 or more")
    return metadata[b"kgtool"].decode(), shapes


def _check_size(metadata: pq.FileMetaData, shapes: Mapping[str, tuple[int, ...]], file_size: int) -> None:
    """Check the memory that the rows will take, and the arrays made of them."""
    # Columns' own metadata is not asked: where it is damaged, pyarrow 26 ends the process.
    num_text = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    num_elements = sum(math.prod(shape) for shape in shapes.values())
    num_classes = min(math.prod(shapes.get("classes", ())), metadata.num_rows)
    for num_bytes in (_ROW_BYTES * metadata.num_rows, num_text, 8 * num_elements):
        check_total_size(num_bytes, num_classes, file_size)


def _arrays_of(table: pa.Table, meta: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    kind = table["part"].cast(pa.string())
    parts = ("class", "edge", "attribute", "term", "evidence")
    rows = {part: table.filter(pc.equal(kind, part)) for part in parts}
    if sum(part.num_rows for part in rows.values()) != table.num_rows:
        raise GraphFormatError(f"column part: found a row that is none of {', '.join(parts)}")
    if shapes.get("classes") != (rows["class"].num_rows,):
        raise GraphFormatError(f"found {rows['class'].num_rows} classes; expected {shapes.get('classes')}")
    classes = _text(rows["class"], "source")
    place = _positions(rows["edge"], "source", classes), _positions(rows["edge"], "target", classes)
    square = (len(classes), len(classes))
    arrays: dict[str, Array] = {
        "meta": np.array(meta),
        "classes": np.array(classes.to_pylist(), dtype=str),
        "synsets": np.array(_text(rows["class"], "synset").to_pylist(), dtype=str),
        "weight": _matrix(rows["edge"], "weight", place, square),
    }
    if "counts" in shapes:
        arrays["counts"] = (
            _attributes(rows["attribute"], "count", classes, shapes["counts"])
            if _is_attribute(arrays)
            else _matrix(rows["edge"], "count", place, square)
        )
    if "distribution" in shapes:
        arrays["distribution"] = _attributes(
            rows["attribute"], "probability", classes, shapes["distribution"]
        )
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


def _attributes(rows: pa.Table, name: str, classes: pa.Array, shape: tuple[int, ...]) -> Array:
    term = np.asarray(_column(rows, "column")).astype(np.int64)
    if len(shape) != 2 or shape[0] != len(classes) or ((term < 0) | (term >= shape[-1])).any():
        raise GraphFormatError(f"column column: found a number outside of the shape {list(shape)}")
    return _matrix(rows, name, (_positions(rows, "source", classes), term), shape)


def _matrix(rows: pa.Table, name: str, place: tuple[Array, Array], shape: tuple[int, ...]) -> Array:
    """A matrix of zeros but for the rows' values."""
    values = np.asarray(_column(rows, name))
    seen = np.zeros(shape, bool)
    seen[place] = True
    if np.count_nonzero(seen) != len(values):
        raise GraphFormatError(f"column {name}: found two values for one place; expected one")
    result = np.zeros(shape, values.dtype)
    result[place] = values
    return result


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
