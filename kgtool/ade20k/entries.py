"""What text and JSON say of an image's objects and parts.

    NAME_atr.txt (2016/17), one line an object or part:
        001 # 0 # 1 # sky # sky # ""
        number in its level # part level # occluded # names # name as typed # attributes

    NAME.json (2021):
        {"annotation": {"imsize": [1650, 2200, 3], "object": [{"id": 2, "name": "car, auto, ...",
          "name_ndx": 401, "raw_name": "car", "attributes": [], "occluded": "no", "crop": "0",
          "parts": {"hasparts": [32, 33], "ispartof": [], "part_level": 0},
          "instance_mask": "NAME/instance_002_NAME.png", "polygon": {"x": [493, ...], "y": [728, ...]}}]}}

Both come as UTF-8 or Latin-1. In the JSON a value that is not there is `[]`, numbers may be strings, and one
part is an int where several are a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kgtool.ade20k.findings import BAD_ENTRY, ENTRY_TWICE, Finding
from kgtool.errors import InputError

_TEXT_COLUMNS = "number # part level # occluded # names # name as typed # attributes"
_ANSWERS = {"0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


@dataclass(frozen=True, eq=False)
class Entry:
    """One object or part as text or JSON describe it.

    Attributes:
        number: 2016/17: the instance's rank in its level, from 1; 2021: an id of the image's own.
        level: 0 for a whole object, n for a part of level n.
        name: WordNet names, joined by commas.
        raw_name: the name as it was typed.
        class_index: place of the name in the data set's list of names, from 1; 0 where the text has none.
        attributes: such as "walking".
        occluded: whether something stands before it; None where that is not said.
        crop: whether the edge of the image cuts it; None where that is not said.
        part_of: number of the entry it is a part of, or None.
        mask: path of its own mask beside the JSON, or empty.
        outline_P2: corners x, y in pixels; fewer than three where it has none.
    """

    number: int
    level: int
    name: str
    raw_name: str = ""
    class_index: int = 0
    attributes: tuple[str, ...] = ()
    occluded: bool | None = None
    crop: bool | None = None
    part_of: int | None = None
    mask: str = ""
    outline_P2: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Description:
    """What a text or JSON says.

    Attributes:
        entries: those that could be read.
        size: height and width of the image, where they are said.
        findings: what could not be read.
    """

    entries: tuple[Entry, ...] = ()
    size: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()


def read_text(path: Path, image: str) -> Description:
    """Read NAME_atr.txt. A line that cannot be read becomes a finding, the others are kept.

    Raises:
        InputError: the file cannot be read.
    """
    entries, findings = [], []
    for number, line in enumerate(_decoded(path).splitlines(), start=1):
        if line.strip():
            entry = _from_line(line)
            if entry is None:
                found = f"line {number}: {line.strip()[:80]}"
                findings.append(Finding(image, BAD_ENTRY, found=found, expected=_TEXT_COLUMNS))
            else:
                entries.append(entry)
    kept, twice = _once(image, [(entry.level, entry.number) for entry in entries], entries)
    return Description(kept, None, (*findings, *twice))


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _from_line(line: str) -> Entry | None:
    columns = [column.strip() for column in line.split("#", 5)]
    if len(columns) < 5 or not all(column.isdecimal() for column in columns[:2]):
        return None
    return Entry(
        number=int(columns[0]),
        level=int(columns[1]),
        name=_folded_blanks(columns[3]),
        raw_name=columns[4],
        attributes=_words(columns[5]) if len(columns) == 6 else (),
        occluded=_answer(columns[2]),
    )


def read_json(path: Path, image: str) -> Description:
    """Read NAME.json. An object that cannot be read becomes a finding, the others are kept.

    Raises:
        InputError: the file cannot be read, or is not JSON, or has no list of objects.
    """
    try:
        document = msgspec.json.decode(_decoded(path))
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    annotation = document.get("annotation") if isinstance(document, dict) else None
    objects = annotation.get("object") if isinstance(annotation, dict) else None
    if isinstance(objects, dict):
        objects = [objects]  # one object alone may come without its list
    if annotation is None or not isinstance(objects, list):
        raise InputError(f'{path}: found no "annotation" with a list "object"; expected JSON of ADE20K 2021')
    entries, findings = [], []
    for position, record in enumerate(objects):
        entry = _from_object(record)
        if entry is None:
            found = f"object {position}: {str(record)[:80]}"
            findings.append(Finding(image, BAD_ENTRY, found=found, expected="id, name and part_level"))
        else:
            entries.append(entry)
    kept, twice = _once(image, [entry.number for entry in entries], entries)
    return Description(kept, _size(annotation.get("imsize")), (*findings, *twice))


def _from_object(record: Any) -> Entry | None:
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        return None
    parts = record.get("parts")
    number = _whole(record.get("id"))
    level = _whole(parts.get("part_level") if isinstance(parts, dict) else 0)
    if number is None or level is None or level < 0:
        return None
    raw_name, mask = record.get("raw_name"), record.get("instance_mask")
    return Entry(
        number=number,
        level=level,
        name=_folded_blanks(record["name"]),
        raw_name=raw_name if isinstance(raw_name, str) else "",
        class_index=_whole(record.get("name_ndx")) or 0,
        attributes=_words(record.get("attributes")),
        occluded=_answer(record.get("occluded")),
        crop=_answer(record.get("crop")),
        part_of=_whole(parts.get("ispartof")) if isinstance(parts, dict) else None,
        mask=mask if isinstance(mask, str) else "",
        outline_P2=_outline(record.get("polygon")),
    )


def _once(image: str, keys: Sequence[Any], entries: list[Entry]) -> tuple[tuple[Entry, ...], list[Finding]]:
    """The first entry of each key, and a finding for each other."""
    kept: dict[Any, Entry] = {}
    twice = []
    for key, entry in zip(keys, entries, strict=True):
        if kept.setdefault(key, entry) is not entry:
            found, expected = f"{entry.name} again", "each number once"
            twice.append(Finding(image, ENTRY_TWICE, entry.level, "", entry.number, found, expected))
    return tuple(kept.values()), twice


def _whole(value: Any) -> int | None:
    """A whole number, also written as a string or as the only item of a list; None for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _answer(value: Any) -> bool | None:
    return None if isinstance(value, list) else _ANSWERS.get(str(value).strip().lower())


def _words(value: Any) -> tuple[str, ...]:
    """Attributes: a string with commas, in quotes or not, or a list of such strings."""
    if isinstance(value, list):
        return tuple(word for item in value for word in _words(item))
    if not isinstance(value, str):
        return ()
    words = (_folded_blanks(word) for word in value.strip().strip('"').split(","))
    return tuple(word for word in words if word)


def _folded_blanks(text: str) -> str:
    return " ".join(text.split())


def _outline(value: Any) -> npt.NDArray[np.float64] | None:
    if not isinstance(value, dict):
        return None
    try:
        corners = np.array([value.get("x"), value.get("y")], dtype=np.float64).T
    except (TypeError, ValueError):
        return None
    return corners if corners.ndim == 2 and len(corners) > 2 and np.isfinite(corners).all() else None


def _size(value: Any) -> tuple[int, int] | None:
    whole = [_whole(number) for number in value[:2]] if isinstance(value, list) else []
    if len(whole) != 2 or whole[0] is None or whole[1] is None:
        return None
    return whole[0], whole[1]
