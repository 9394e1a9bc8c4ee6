"""What class names are mapped onto: the synsets of a class list or of a graph, with the boxes behind each."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kgtool.classes import ClassTable, parse_class_spec
from kgtool.errors import InputError
from kgtool.graph import ClassGraph, load_graph


@dataclass(frozen=True)
class Target:
    """The class list that is mapped onto.

    Attributes:
        synsets: its synsets, without empty ones.
        count_by_synset: boxes of each synset, or annotations of a graph; None when they are not known.
    """

    synsets: frozenset[str]
    count_by_synset: Mapping[str, int] | None = None


def load_target(path: Path) -> Target:
    """Read the class list of --onto.

    Args:
        path: a graph (NPZ or Parquet; counts are the annotations of each class), a classes.csv as `kgtool
            split` writes it or any CSV with `synset` (counts: the sum of the columns that end in
            instance_count), a COCO JSON whose categories have synsets (counts: instance_count, or else the
            boxes), or another class list with synsets, without counts.

    Raises:
        InputError: there is no such file, or it has no synset.
    """
    if path.suffix in (".npz", ".parquet"):
        return graph_target(load_graph(path))
    if not path.is_file():
        raise InputError(
            f"--onto: found {path}, which is not a file; expected a graph, or classes with synsets"
        )
    table = parse_class_spec(str(path.absolute()))
    assert isinstance(table, ClassTable)  # an absolute path is never a number
    synsets = [synset for synset in table.synsets if synset]
    if not synsets:
        raise InputError(
            f"{path}: found no synset; expected a class list whose classes have synsets such as dog.n.01"
        )
    try:
        return Target(frozenset(synsets), _read_counts(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def graph_target(graph: ClassGraph) -> Target:
    """The synsets of a graph, with how many annotations each class takes part in."""
    counts = None
    if graph.counts is not None:
        total_C = graph.counts.sum(axis=1)
        if graph.kind != "attribute":
            total_C = total_C + graph.counts.sum(axis=0)
        counts = {synset: int(total) for synset, total in zip(graph.synsets, total_C, strict=True) if synset}
    return Target(frozenset(synset for synset in graph.synsets if synset), counts)


def _read_counts(path: Path) -> dict[str, int] | None:
    """Boxes of each synset, where the file says or shows them; it has been read as a class list before."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip()
    if path.suffix.lower() == ".json" or data[:1] in (b"{", b"["):
        try:
            return _counts_of_json(msgspec.json.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"not valid JSON ({error}); expected a class list, or a COCO JSON") from None
    return _counts_of_csv(data.decode()) if path.suffix.lower() == ".csv" else None


def _counts_of_csv(text: str) -> dict[str, int] | None:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    rows.fieldnames = [column.strip().casefold() for column in rows.fieldnames or []]
    columns = [column for column in rows.fieldnames if column.endswith("instance_count")]
    if not columns:
        return None
    counts: dict[str, int] = {}
    for row in rows:
        try:
            counts[(row["synset"] or "").strip()] = sum(int(row[column] or 0) for column in columns)
        except ValueError as error:
            raise InputError(f"line {rows.line_num}: {error}; expected whole numbers of boxes") from None
    return counts


def _counts_of_json(document: Any) -> dict[str, int] | None:
    categories = document.get("categories") if isinstance(document, dict) else document
    if not isinstance(categories, list):
        return None
    if all(isinstance(category.get("instance_count"), int) for category in categories):
        return {category.get("synset") or "": category["instance_count"] for category in categories}
    boxes = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(boxes, list):
        return None
    ids = [box["category_id"] for box in boxes if isinstance(box, dict) and "category_id" in box]
    count_by_id: Counter[int | None] = Counter(value for value in ids if isinstance(value, int))
    return {category.get("synset") or "": count_by_id[_whole(category.get("id"))] for category in categories}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
