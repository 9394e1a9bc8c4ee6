"""The rules of docs/graph-format.md, one function for each part of a graph file.

Each raises GraphFormatError with what was found, what was expected and, where there is one, the remedy.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.classes import is_background
from kgtool.errors import GraphFormatError

FORMAT = "kgtool.class-graph"
VERSION = "1.0"

#: The weight matrix is dense: at this size it has 3.6 GB.
MAX_CLASSES = 30_000
MAX_NAME_LENGTH = 500

_HEADER_TYPES: dict[str, tuple[type, str]] = {
    "dataset": (str, "a string"),
    "kind": (str, "a string"),
    "recipe": (dict, "an object"),
    "directed": (bool, "true or false"),
    "normalization": (str, "a string"),
    "self_loops": (bool, "true or false"),
    "sources": (list, "a list"),
    "producer": (str, "a string"),
    "graph_hash": (str, "a string"),
}


def check_format(header: Mapping[str, Any]) -> None:
    """Check that a header is of this format and of a version this tool reads.

    Raises:
        GraphFormatError: it is not.
    """
    if header.get("format") != FORMAT:
        raise GraphFormatError(
            f"header: found format {_shown(header.get('format'))}; expected {FORMAT!r}; it is no class graph"
        )
    version = header.get("version")
    if not isinstance(version, str) or not version:
        raise GraphFormatError(
            f"header: found version {_shown(version)}; expected a string such as {VERSION!r}"
        )
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise GraphFormatError(
            f"header: found version {_shown(version)}; expected {VERSION.split('.')[0]}.x, the only one "
            "that this kgtool reads; build the graph again, or use the kgtool that wrote it"
        )


def check_header(header: Mapping[str, Any]) -> None:
    """Check that a header has every key, of the right type.

    Raises:
        GraphFormatError: a key is missing or of another type.
    """
    check_format(header)
    for key, (kind, words) in _HEADER_TYPES.items():
        if key not in header:
            raise GraphFormatError(f"header: found no {key!r}; expected {words}")
        if not isinstance(header[key], kind):
            raise GraphFormatError(f"header: found {key} {_shown(header[key])}; expected {words}")
    if not header["kind"]:
        raise GraphFormatError("header: found an empty kind; expected relation, attribute or another word")
    if not isinstance(header["recipe"].get("name"), str):
        raise GraphFormatError(
            f"header: found recipe {_shown(header['recipe'])}; expected an object with a name"
        )
    num_terms = header["recipe"].get("num_terms", 0)
    if isinstance(num_terms, bool) or not isinstance(num_terms, int) or num_terms < 0:
        raise GraphFormatError(
            f"header: found num_terms {_shown(num_terms)}; expected a number, 0 for no limit"
        )
    if not all(isinstance(source, dict) for source in header["sources"]):
        raise GraphFormatError(
            "header: found a source that is not an object; expected name, sha256 and counts"
        )
    try:
        json.dumps(header, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise GraphFormatError(f"header: cannot be written as JSON ({error})") from None


def check_classes(classes: Sequence[str], synsets: Sequence[str]) -> None:
    """Check the class list: between 1 and `MAX_CLASSES` unique clean names, none of them background.

    Raises:
        GraphFormatError: a rule is broken.
    """
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise GraphFormatError(f"classes: found {len(classes)}; expected 1 to {MAX_CLASSES}")
    if len(synsets) != len(classes):
        raise GraphFormatError(f"synsets: found {len(synsets)}; expected one a class, {len(classes)}")
    for what, values in (("classes", classes), ("synsets", synsets)):
        for position, value in enumerate(values):
            if not isinstance(value, str) or value != value.strip() or not _is_clean(value):
                raise GraphFormatError(
                    f"{what}[{position}]: found {_shown(value)}; expected text without control characters "
                    f"or blanks at its ends, at most {MAX_NAME_LENGTH} characters"
                )
    first: dict[str, int] = {}
    for position, name in enumerate(classes):
        if not name:
            raise GraphFormatError(f"classes[{position}]: found an empty name; expected a name")
        if is_background(name):
            raise GraphFormatError(
                f"classes[{position}]: found {name!r}; expected no background; the detector adds its own"
            )
        if name in first:
            raise GraphFormatError(f"classes[{position}]: found {name!r} again, as classes[{first[name]}]")
        first[name] = position


def _shown(value: Any) -> str:
    """A value as a message can hold it: on one line, and not longer than one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_clean(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def check_weight(weight: npt.NDArray[Any], num_classes: int, header: Mapping[str, Any]) -> None:
    """Check the weight matrix: float32, (C, C), finite, not negative, and as the header describes it.

    Raises:
        GraphFormatError: a rule is broken.
    """
    _check_array("weight", weight, np.float32, (num_classes, num_classes))
    _check_finite("weight", weight)
    if not header["directed"] and not np.array_equal(weight, weight.T):
        row, column = np.argwhere(weight != weight.T)[0]
        raise GraphFormatError(
            f"weight[{row}, {column}]: found {weight[row, column]}, and {weight[column, row]} the other way; "
            "expected the same, as the header says directed: false"
        )
    if header["self_loops"] != bool(np.diagonal(weight).any()):
        raise GraphFormatError(
            f"header: found self_loops {header['self_loops']}; expected "
            f"{not header['self_loops']}, from the diagonal of weight"
        )


def check_counts(counts: npt.NDArray[Any], num_classes: int, kind: str) -> None:
    """Check the counts: int64, not negative, (C, A) for an attribute graph and (C, C) for all others.

    Raises:
        GraphFormatError: a rule is broken.
    """
    _check_array("counts", counts, np.int64, (num_classes, None if kind == "attribute" else num_classes))
    _check_not_negative("counts", counts)


def check_distribution(
    distribution: npt.NDArray[Any], counts: npt.NDArray[Any] | None, num_classes: int, kind: str
) -> None:
    """Check an attribute graph's distributions: float32, (C, A) as the counts, finite, not negative.

    Raises:
        GraphFormatError: a rule is broken.
    """
    if kind != "attribute":
        raise GraphFormatError(f"distribution: found in a graph of kind {kind!r}; expected kind 'attribute'")
    num_terms = None if counts is None else counts.shape[1]
    _check_array("distribution", distribution, np.float32, (num_classes, num_terms))
    _check_finite("distribution", distribution)


def check_evidence(
    terms: Sequence[str],
    totals: npt.NDArray[Any],
    index: npt.NDArray[Any],
    count: npt.NDArray[Any],
    num_classes: int,
    kind: str,
) -> None:
    """Check sparse counts: unique terms, most frequent first; index rows in range, unique and sorted.

    The index of an attribute graph is class, term; of all others subject class, term, object class.

    Raises:
        GraphFormatError: a rule is broken.
    """
    if not all(isinstance(term, str) for term in terms) or len(set(terms)) != len(terms):
        raise GraphFormatError("evidence_terms: found a term twice, or not text; expected each once")
    try:
        "\n".join(terms).encode()
    except UnicodeEncodeError:
        raise GraphFormatError("evidence_terms: found a lone surrogate; expected valid Unicode") from None
    _check_array("evidence_totals", totals, np.int64, (len(terms),))
    _check_not_negative("evidence_totals", totals)
    ranks = list(zip((-totals).tolist(), terms, strict=True))
    if ranks != sorted(ranks):
        raise GraphFormatError("evidence_terms: not in order; expected most frequent first, ties by name")
    _check_array("evidence_index", index, np.int32, (None, 2 if kind == "attribute" else 3))
    _check_array("evidence_count", count, np.int64, (len(index),))
    if len(index) == 0:
        return
    limit = np.array([num_classes, len(terms), num_classes][: index.shape[1]])
    if (index < 0).any() or (index >= limit).any():
        row = int(np.flatnonzero(((index < 0) | (index >= limit)).any(axis=1))[0])
        raise GraphFormatError(
            f"evidence_index[{row}]: found {index[row].tolist()}; expected 0 to {(limit - 1).tolist()}"
        )
    if not _strictly_ascending(index):
        raise GraphFormatError("evidence_index: rows not in order or not unique; expected sorted unique rows")
    if count.min() < 1:
        raise GraphFormatError(f"evidence_count: found {count.min()}; expected at least 1")


def check_evidence_sums(
    index: npt.NDArray[Any],
    count: npt.NDArray[Any],
    counts: npt.NDArray[Any],
    recipe: Mapping[str, Any],
    kind: str,
) -> None:
    """Check that the evidence of the recipe's selected terms adds up to the counts.

    Only a recipe that names `num_terms` says which terms were selected (0: all); others are not checked.

    Raises:
        GraphFormatError: it does not add up.
    """
    if "num_terms" not in recipe:
        return
    selected = index[:, 1] < (recipe["num_terms"] or np.iinfo(np.int32).max)
    if kind == "attribute":
        selected &= index[:, 1] < counts.shape[1]
    total = np.zeros_like(counts)
    np.add.at(total, (index[selected, 0], index[selected, -1]), count[selected])
    if not np.array_equal(total, counts):
        row, column = np.argwhere(total != counts)[0]
        raise GraphFormatError(
            f"counts[{row}, {column}]: found {counts[row, column]}; expected {total[row, column]}, "
            "the sum of its evidence; build the graph again"
        )


def _strictly_ascending(index: npt.NDArray[Any]) -> bool:
    earlier, later = index[:-1], index[1:]
    ascending = np.zeros(len(earlier), dtype=bool)
    for column in reversed(range(index.shape[1])):  # a later column decides where the earlier ones are equal
        equal = later[:, column] == earlier[:, column]
        ascending = (later[:, column] > earlier[:, column]) | (equal & ascending)
    return bool(ascending.all())


def _check_array(
    name: str, array: npt.NDArray[Any], dtype: npt.DTypeLike, shape: tuple[int | None, ...]
) -> None:
    """Check type and shape; None in `shape` stands for any length."""
    if array.dtype != np.dtype(dtype):
        raise GraphFormatError(f"{name}: found {array.dtype}; expected {np.dtype(dtype)}")
    if len(array.shape) != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=True)
    ):
        words = ", ".join("any" if want is None else str(want) for want in shape)
        raise GraphFormatError(f"{name}: found shape {array.shape}; expected ({words})")


def _check_finite(name: str, array: npt.NDArray[Any]) -> None:
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise GraphFormatError(
            f"{name}[{row}, {column}]: found {array[row, column]}; expected a finite number, not negative"
        )


def _check_not_negative(name: str, array: npt.NDArray[Any]) -> None:
    if array.size and array.min() < 0:
        raise GraphFormatError(f"{name}: found {array.min()}; expected no negative count")
