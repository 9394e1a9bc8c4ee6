"""A COCO results file of any detector: read, and written again with other scores."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detector.annotations import Annotations
from detector.errors import InputError
from detector.files import atomic_path


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    category_name: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """A COCO results file as columns, N detections in the order of the file.

    Attributes:
        records: the file's own objects, for what is passed on as it is.
        class_names: C names.
        synsets: "" where unknown.
        image_N: int64 image ids.
        class_N: int64, 0..C-1.
        boxes_xyxy: (N, 4) float64 px.
        score_N: float64, 0..1.
    """

    records: list[dict[str, Any]]
    class_names: tuple[str, ...]
    synsets: tuple[str, ...]
    image_N: np.ndarray
    class_N: np.ndarray
    boxes_xyxy: np.ndarray
    score_N: np.ndarray


def read_results(path: Path, annotations: Annotations | None) -> Results:
    """Read a COCO results file; classes are named by the annotations, else by `category_name`.

    Raises:
        InputError: the file is not a list of results, a score is not in 0..1, or a class has no name.
    """
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        rows, records = msgspec.json.decode(text, type=list[_Result]), msgspec.json.decode(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}; expected COCO results: a list of objects") from error
    for number, row in enumerate(rows):
        if not 0 <= row.score <= 1:
            raise InputError(f"{path}, record {number}: found score {row.score}; expected 0 to 1")
    names, synsets, class_by_category = _classes(path, rows, annotations)
    for number, row in enumerate(rows):
        if row.category_id not in class_by_category:
            raise InputError(
                f"{path}, record {number}: category_id {row.category_id} has no name; expected one that "
                "--annotations names, or category_name in every record"
            )
    boxes = np.array([row.bbox for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Results(
        records,
        names,
        synsets,
        np.array([row.image_id for row in rows], dtype=np.int64),
        np.array([class_by_category[row.category_id] for row in rows], dtype=np.int64),
        boxes,
        np.array([row.score for row in rows], dtype=np.float64),
    )


def save_results(results: Results, score_N: np.ndarray, out: Path) -> None:
    """Write the records as they came, but for their scores, atomically."""
    moved = [
        {**record, "score": score} for record, score in zip(results.records, score_N.tolist(), strict=True)
    ]
    with atomic_path(out) as part:
        part.write_bytes(msgspec.json.encode(moved) + b"\n")


def _classes(
    path: Path, rows: list[_Result], annotations: Annotations | None
) -> tuple[tuple[str, ...], tuple[str, ...], dict[int, int]]:
    """Names, synsets, and the position of each category id."""
    if annotations is not None:
        positions = {category: number for number, category in enumerate(annotations.category_ids.tolist())}
        return annotations.class_names, annotations.synsets, positions
    name_by_category: dict[int, str] = {}
    for number, row in enumerate(rows):
        if row.category_name and name_by_category.setdefault(row.category_id, row.category_name) != (
            row.category_name
        ):
            raise InputError(
                f"{path}, record {number}: category_id {row.category_id} is {row.category_name!r} here and "
                f"{name_by_category[row.category_id]!r} before; expected one name"
            )
    positions = {category: number for number, category in enumerate(sorted(name_by_category))}
    names = tuple(name_by_category[category] for category in positions)
    return names, ("",) * len(names), positions
