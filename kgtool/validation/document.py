"""The text of a COCO JSON file as lists of records, whatever state it is in."""

import re
from pathlib import Path

import msgspec

from kgtool.errors import InputError
from kgtool.json_errors import UNREADABLE, explain, first_bad_byte, position_of_byte
from kgtool.validation.findings import Findings

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: A text, or a number that Python writes and JSON does not know.
_TEXT_OR_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')

NEEDED_LISTS = ("images", "categories", "annotations")
RELATION_LISTS = ("rel_categories", "rel_annotations")


def read_lists(path: Path, findings: Findings) -> dict[str, list[msgspec.Raw]]:
    """Read the lists of a file, each record as text.

    Args:
        path: the file.
        findings: told what is wrong with the text and with the lists.

    Returns:
        The records by the name of their list. Those that a COCO file needs are always there, and are empty
        where the file has none; those of relations where the file has them.

    Raises:
        InputError: there is no such file, or it may not be read.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a COCO JSON file") from None
    document = _decoded(_as_utf8(text, findings), findings)
    if document is None:
        return {name: [] for name in NEEDED_LISTS}
    lists = {}
    for name in NEEDED_LISTS:
        if name not in document:
            findings.add("missing list", f"found no {name!r}; there are {_listed(document)}")
        lists[name] = _records(document, name, findings)
    for name in RELATION_LISTS:
        if name in document:
            lists[name] = _records(document, name, findings)
    return lists


def _as_utf8(text: bytes, findings: Findings) -> bytes:
    if text.startswith(_BYTE_ORDER_MARK):
        findings.add("not UTF-8", "line 1: found a byte order mark; expected none")
        return text.removeprefix(_BYTE_ORDER_MARK)
    if text.startswith(_UTF16_MARKS):
        findings.add("not UTF-8", "line 1: found UTF-16")
        return text.decode("utf-16", errors="replace").encode()
    byte = first_bad_byte(text)
    if byte < len(text):
        start, end = max(text.rfind(b"\n", 0, byte) + 1, byte - 20), byte + 10
        shown = text[start:end].split(b"\n")[0].decode("latin-1")
        findings.add("not UTF-8", f"{position_of_byte(text, byte)}: found {shown!r}")
        return text.decode("latin-1").encode()
    return text


def _decoded(text: bytes, findings: Findings) -> dict[str, msgspec.Raw] | None:
    """The members of the document; None where it is no JSON object."""
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except UNREADABLE as error:
        failure = error
    if not isinstance(failure, msgspec.ValidationError):
        text = _without_nan(text, findings)
        try:
            return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except UNREADABLE as error:
            failure = error
    place, reason = explain(failure, text)
    kind = "missing list" if isinstance(failure, msgspec.ValidationError) else "not JSON"
    findings.add(kind, f"{place}: {reason}" if place else reason)
    return None


def _without_nan(text: bytes, findings: Findings) -> bytes:
    """Make texts of NaN and Infinity, marked with a NUL for `table.py`, so that the rest can be read."""

    def quoted(match: re.Match[bytes]) -> bytes:
        token = match[0]
        if token.startswith(b'"'):
            return token
        findings.add("NaN or Infinity", f"{position_of_byte(text, match.start())}: found {token.decode()}")
        return b'"\\u0000' + token + b'"'

    return _TEXT_OR_NO_NUMBER.sub(quoted, text)


def _records(document: dict[str, msgspec.Raw], name: str, findings: Findings) -> list[msgspec.Raw]:
    if name not in document:
        return []
    try:
        return msgspec.json.decode(document[name], type=list[msgspec.Raw])
    except UNREADABLE as error:
        _, reason = explain(error, bytes(document[name]))
        findings.add("missing list", f"{name}: {reason}")
        return []


def _listed(document: dict[str, msgspec.Raw]) -> str:
    names = [repr(name) for name in document]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
