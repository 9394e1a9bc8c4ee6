"""Names of classes with all that helps to find their sense: other names, context, synsets already known.

Five lists ship in kgtool/curated: coco, voc and ade150 with synsets chosen by hand, lvis with the synsets of
its makers, ade with names alone. A user's list is a file; its columns are those of the shipped tables.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kgtool.classes import ClassTable, parse_class_spec
from kgtool.errors import InputError

BUILT_IN = ("coco", "voc", "ade150", "ade", "lvis")
FOLDER = Path(__file__).with_name("curated")

_NOUN_SYNSET = re.compile(r"\S+\.n\.\d+")


@dataclass(frozen=True)
class ClassName:
    """A class as its data set names it.

    Attributes:
        name: what the data set calls it; after a comma come other names, as in ADE20K.
        aliases: other names that the data set gives it.
        context: words for its kind, such as COCO's supercategory.
        synset: its noun synset where that is known, else empty.
        vg_synsets: the Visual Genome synsets whose boxes show it, where that is known; None: not known.
        known_by: who chose the synset: "curated" (this project), "given" (the file), or empty.
        reason: why this synset, where it is not obvious.
    """

    name: str
    aliases: tuple[str, ...] = ()
    context: str = ""
    synset: str = ""
    vg_synsets: tuple[str, ...] | None = None
    known_by: str = ""
    reason: str = ""


def read_class_names(spec: str) -> list[ClassName]:
    """Read a class list.

    Args:
        spec: coco, voc, ade150, ade or lvis; or a file: a CSV with the column `name` and, as they are known,
            `aliases` and `vg_synset` (several joined by ;), `context`, `synset`, `reason`, as `kgtool map`
            writes it (also as Parquet); a COCO JSON (supercategory, synonyms and synset are used); a JSON
            list of such categories or of names (those without a letter, as ADE20K's "-", are left out); or
            any class list of --classes.

    Raises:
        InputError: there is no such file, or it is not one of these, or a name is there twice.
    """
    if spec in BUILT_IN:
        rows = csv.DictReader((FOLDER / f"{spec}.csv").read_text(encoding="utf-8").splitlines())
        return _from_rows(rows, known_by="given" if spec == "lvis" else "curated")
    path = Path(spec)
    if not path.is_file():
        raise InputError(
            f"class list: found {spec!r}, which is not a file; expected {', '.join(BUILT_IN)} or a file"
        )
    try:
        names = _from_file(path)
        _check_names([name.name for name in names])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return names


def _check_names(names: list[str]) -> None:
    if not names:
        raise InputError("found no class; expected at least one name")
    first: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"class {position}: found an empty name; give each class a name")
        if name in first:
            raise InputError(
                f"class {position}: found {name!r} again, after class {first[name]}; "
                "remove or rename one of the two"
            )
        first[name] = position


def _from_file(path: Path) -> list[ClassName]:
    if path.suffix.lower() == ".parquet":
        return _from_parquet(path)
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        entries = _json_entries(text)
        if entries is not None:
            found = [_from_json(entry, position) for position, entry in enumerate(entries, start=1)]
            return [name for name in found if re.search(r"\w", name.name)]
    elif path.suffix.lower() == ".csv" and text.strip():
        return _from_csv(text)
    return _from_class_list(path.absolute())


def _from_class_list(path: Path) -> list[ClassName]:
    """What `--classes` takes; the path is absolute, so that it cannot be taken for a number."""
    try:
        table = parse_class_spec(str(path))
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path}: ")) from None
    assert isinstance(table, ClassTable)
    return [_given(name, synset=synset) for name, synset in zip(table.names, table.synsets, strict=True)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start}: found bytes that are not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None


def _from_csv(text: str) -> list[ClassName]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [column.strip().casefold() for column in rows.fieldnames or []]
        if "name" not in columns:
            raise InputError(f"line 1: found the columns {', '.join(columns)}; expected name among them")
        rows.fieldnames = columns
        return _from_rows(_whole(rows), known_by="given")
    except csv.Error as error:
        raise InputError(f"line {rows.line_num}: {error}; expected CSV") from None


def _whole(rows: "csv.DictReader[str]") -> Iterator[dict[str, Any]]:
    for row in rows:
        if None in row:
            raise InputError(
                f"line {rows.line_num}: found more cells than columns; put a name with a comma in quotes"
            )
        yield row


def _from_rows(rows: Iterable[Mapping[str, Any]], known_by: str) -> list[ClassName]:
    names = []
    for row in rows:
        value = {key: str(text or "").strip() for key, text in row.items()}
        synset = value.get("synset", "")
        vg = value.get("vg_synset")
        names.append(
            ClassName(
                name=value["name"],
                aliases=_listed(value.get("aliases", "")),
                context=value.get("context", ""),
                synset=synset,
                vg_synsets=_listed(vg) if synset and vg is not None else None,
                known_by=known_by if synset else "",
                reason=value.get("reason", ""),
            )
        )
    return names


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _from_parquet(path: Path) -> list[ClassName]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"cannot be read as Parquet ({error})") from None
    if "name" not in table.column_names:
        raise InputError(f"found the columns {', '.join(table.column_names)}; expected name among them")
    return _from_rows(table.to_pylist(), known_by="given")


def _json_entries(text: str) -> list[Any] | None:
    """Categories of a COCO JSON, or the entries of a JSON list; None for other JSON."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error}); expected a class list") from None
    entries = document.get("categories") if isinstance(document, dict) else document
    return entries if isinstance(entries, list) else None


def _from_json(entry: Any, position: int) -> ClassName:
    if isinstance(entry, str):
        return _given(entry.strip())
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f'class {position}: found no "name"; expected a name, or an object with a name')
    synonyms = entry.get("synonyms")
    if not isinstance(synonyms, list):
        synonyms = []
    return _given(
        entry["name"].strip(),
        aliases=tuple(str(other) for other in synonyms if other != entry["name"]),
        context=str(entry.get("supercategory") or ""),
        synset=str(entry.get("synset") or ""),
    )


def _given(name: str, *, aliases: tuple[str, ...] = (), context: str = "", synset: str = "") -> ClassName:
    """A class of a user's file; a name that is a synset is its own synset."""
    synset = synset or (name if _NOUN_SYNSET.fullmatch(name) else "")
    return ClassName(name, aliases, context, synset, None, "given" if synset else "")
