"""The named arrays that a graph file holds, whatever its encoding, and the hash over them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.errors import GraphFormatError

Array = npt.NDArray[Any]

REQUIRED = ("meta", "classes", "synsets", "weight")
EVIDENCE = ("evidence_terms", "evidence_totals", "evidence_index", "evidence_count")
_OPTIONAL = ("counts", "distribution", *EVIDENCE)


def check_names(arrays: Mapping[str, Array]) -> None:
    """Check that the arrays of a file are those of a class graph, and that the class list is text.

    Raises:
        GraphFormatError: one is missing, unknown, or holds no text where text is due.
    """
    for name in REQUIRED:
        if name not in arrays:
            raise GraphFormatError(
                f"{name}: missing; expected an array of that name; this is not a class graph"
            )
    if any(name in arrays for name in EVIDENCE):
        for name in EVIDENCE:
            if name not in arrays:
                raise GraphFormatError(f"{name}: missing; expected beside the other evidence arrays")
    for name in arrays:
        if name not in REQUIRED + _OPTIONAL:
            raise GraphFormatError(f"{name}: unknown array; expected only {', '.join(REQUIRED + _OPTIONAL)}")
    for name in ("classes", "synsets"):
        if arrays[name].ndim != 1 or arrays[name].dtype.kind != "U":
            raise GraphFormatError(
                f"{name}: found {arrays[name].dtype} {arrays[name].shape}; expected text, one a class"
            )


def check_total_size(num_bytes: int, num_classes: int, file_size: int) -> None:
    """Check that a file's content is not out of proportion: a small file must not fill the memory.

    Two dense matrices of 8 bytes a class pair may be all zeros; the rest never shrinks to less than 1 / 200.

    Raises:
        GraphFormatError: it is.
    """
    limit = 2**26 + 16 * num_classes**2 + 200 * file_size
    if num_bytes > limit:
        raise GraphFormatError(
            f"found {num_bytes} bytes of content in {file_size} bytes; expected at most {limit} for "
            f"{num_classes} classes; the file is damaged or made to fill the memory"
        )


def json_text(value: Any) -> str:
    """JSON with sorted keys and no blanks: the same text for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def json_value(arrays: Mapping[str, Array], name: str, kind: type) -> Any:
    """The JSON value, of a Python type, that an array of one string holds.

    Raises:
        GraphFormatError: the array is no single string, or the string no such JSON.
    """
    array = arrays[name]
    if array.shape != () or array.dtype.kind != "U":
        raise GraphFormatError(f"{name}: found {array.dtype} {array.shape}; expected one string of JSON")
    try:
        value = json.loads(str(array))
    except (ValueError, RecursionError) as error:
        raise GraphFormatError(f"{name}: found text that is not JSON ({error})") from None
    if not isinstance(value, kind):
        raise GraphFormatError(f"{name}: found a JSON {type(value).__name__}; expected a {kind.__name__}")
    return value


def hash_arrays(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """SHA-256 over kind, recipe, class list and the little-endian values of all arrays.

    Sources, producer and all that an encoding adds are left out: one graph has one hash.

    Args:
        header: has `kind` and `recipe`.
        arrays: as of `check_names`; `meta` is not needed.

    Returns:
        64 hexadecimal digits.
    """
    identity = [header["kind"], header["recipe"], arrays["classes"].tolist(), arrays["synsets"].tolist()]
    digest = hashlib.sha256(json_text(identity).encode())
    for name in ("weight", *_OPTIONAL):
        if name not in arrays:
            continue
        array = arrays[name]
        if array.dtype.kind == "U":
            digest.update(f"\n{name}\n{array}".encode())
        else:
            digest.update(f"\n{name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
