"""What class names are mapped onto: the synsets of a class list or of a graph, with the boxes behind each."""

import csv
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
    table = parse_class_spec(str(path))
    if not isinstance(table, ClassTable):
        raise InputError(
            f"--onto: found the number {table}; expected a file of classes with synsets, or a graph"
        )
    synsets = [synset for synset in table.synsets if synset]
    if not synsets:
        raise InputError(
            f"{path}: found no synset; expected a class list whose classes have synsets such as dog.n.01"
        )
    counts = None
    if path.suffix.lower() == ".csv":
        counts = _counts_of_csv(path)
    elif path.suffix.lower() == ".json":
        counts = _counts_of_json(path)
    return Target(frozenset(synsets), counts)


def graph_target(graph: ClassGraph) -> Target:
    """The synsets of a graph, with how many annotations each class takes part in."""
    counts = None
    if graph.counts is not None:
        total_C = graph.counts.sum(axis=1)
        if graph.kind != "attribute":
            total_C = total_C + graph.counts.sum(axis=0)
        counts = {synset: int(total) for synset, total in zip(graph.synsets, total_C, strict=True) if synset}
    return Target(frozenset(synset for synset in graph.synsets if synset), counts)


def _counts_of_csv(path: Path) -> dict[str, int] | None:
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    columns = [column for column in rows[0] if column and column.strip().endswith("instance_count")]
    if not columns:
        return None
    try:
        return {str(row["synset"]).strip(): sum(int(row[column] or 0) for column in columns) for row in rows}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error} in {' or '.join(columns)}; expected whole numbers") from None


def _counts_of_json(path: Path) -> dict[str, int] | None:
    document: Any = msgspec.json.decode(path.read_bytes())
    categories = document.get("categories") if isinstance(document, dict) else document
    if not isinstance(categories, list):
        return None
    if all(isinstance(category.get("instance_count"), int) for category in categories):
        return {category.get("synset", ""): category["instance_count"] for category in categories}
    boxes = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(boxes, list):
        return None
    count_by_id: dict[Any, int] = {}
    for box in boxes:
        if isinstance(box, dict):
            count_by_id[box.get("category_id")] = count_by_id.get(box.get("category_id"), 0) + 1
    return {category.get("synset", ""): count_by_id.get(category.get("id"), 0) for category in categories}
