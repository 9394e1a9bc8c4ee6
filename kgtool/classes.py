"""Class lists: ordered names and the synsets they mean.

A class list comes from a number (the N most frequent synsets of the data) or from a file. Names are what
graphs and data sets agree by; synsets are what Visual Genome's evidence is found by. Background is never a
class here: it is the detector's private business.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from kgtool.errors import ClassMatchError, InputError

#: "dog.n.01": lemma, part of speech, sense number.
_SYNSET = re.compile(r"\S+\.[nvars]\.\d+")

_KINDS = (
    "a number, a CSV with the header name,synset, a text file of one name or synset a line, "
    "a COCO JSON with categories, or a JSON object of name to synset"
)


@dataclass(frozen=True)
class ClassTable:
    """An ordered list of classes: unique names, and for each its synset or an empty string.

    Attributes:
        names: class names, in the data set's order.
        synsets: one a class, such as "dog.n.01"; empty where unknown; the others are unique.

    Raises:
        InputError: no class, a name twice, a synset twice, an empty name, or a name that means background.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.synsets):
            raise ValueError(f"{len(self.names)} names and {len(self.synsets)} synsets")
        if not self.names:
            raise InputError("class list: found no class; expected at least one name or synset")
        for position, name in enumerate(self.names, start=1):
            if not name:
                raise InputError(f"class list, class {position}: found an empty name; give each class a name")
            if is_background(name):
                raise InputError(
                    f"class list, class {position}: found {name!r}; expected foreground classes only: "
                    "remove it, the detector adds background itself"
                )
        _check_unique("name", self.names, "remove or rename one of the two")
        _check_unique("synset", self.synsets, "leave the synset of one of the two empty")

    def __len__(self) -> int:
        return len(self.names)


def is_synset(text: str) -> bool:
    """Say whether a text has the form of a synset, such as "dog.n.01"."""
    return _SYNSET.fullmatch(text) is not None


def is_background(name: str) -> bool:
    """Say whether a name means "no object", such as `background` or `__background__`.

    The synset background.n.01 is a real Visual Genome class (the backdrop in a picture) and does not.
    """
    return name.casefold().strip("_-<>[]() ") == "background"


def near_names(name: str, names: Sequence[str], most: int = 3) -> list[str]:
    """Names that may have been meant: the same but for case, blanks or sense number, then similar ones.

    Example:
        >>> near_names("Dog", ["cat.n.01", "dog.n.01", "hot dog"])
        ['dog.n.01', 'hot dog']
    """
    name_by_folded: dict[str, str] = {}
    for known in names:
        name_by_folded.setdefault(folded_name(known), known)
    wanted = folded_name(name).split(".")[0]
    same = [known for known in names if folded_name(known).split(".")[0] == wanted]
    similar = [
        name_by_folded[folded] for folded in get_close_matches(folded_name(name), name_by_folded, n=most)
    ]
    return list(dict.fromkeys(same + similar))[:most]


def _check_unique(what: str, values: tuple[str, ...], remedy: str) -> None:
    first: dict[str, int] = {}
    for position, value in enumerate(values, start=1):
        if value and value in first:
            raise InputError(
                f"class list, class {position}: found {what} {value!r} again, after class {first[value]}; "
                f"expected each {what} once; {remedy}"
            )
        first[value] = position


def parse_class_spec(spec: str) -> int | ClassTable:
    """Read what `--classes` was given: a number, or a file of classes.

    Args:
        spec: a positive number; or the path of a CSV with the header `name,synset`, of a text file with one
            name or synset a line, of a COCO JSON whose categories may carry `synset`, or of a JSON object
            from name to `{"synset": ...}` or to a synset (as LVIS's coco_to_synset.json, whose classes
            are put in the order of `coco_cat_id`).

    Returns:
        The number, or the classes of the file in its order.

    Raises:
        InputError: there is no such file, or it is not one of these, or its classes are not unique.
    """
    text = spec.strip()
    if re.fullmatch(r"[+-]?\d+", text):
        if int(text) < 1:
            raise InputError(
                f"--classes: found {text}; expected a number of at least 1, or a file of classes"
            )
        return int(text)
    path = Path(spec)
    if not path.is_file():
        raise InputError(f"--classes: found {spec!r}, which is not a file; expected {_KINDS}")
    try:
        return _read_classes(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_classes(path: Path) -> ClassTable:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None
    if not data:
        raise InputError(f"found an empty file; expected {_KINDS}")
    if path.suffix.lower() == ".json" or data[:1] in (b"{", b"["):
        return _from_json(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte {error.start}: found bytes that are not UTF-8; expected {_KINDS}; save it as UTF-8"
        ) from None
    return _from_csv(text) if path.suffix.lower() == ".csv" else _from_lines(text)


def _table(pairs: Iterable[tuple[str, str]]) -> ClassTable:
    stripped = [(name.strip(), synset.strip()) for name, synset in pairs]
    return ClassTable(tuple(name for name, _ in stripped), tuple(synset for _, synset in stripped))


def _from_lines(text: str) -> ClassTable:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _table((line, line if _SYNSET.fullmatch(line) else "") for line in lines)


def _from_csv(text: str) -> ClassTable:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().casefold() for name in rows.fieldnames or []]
        if "name" not in columns:
            raise InputError(
                f"line 1: found the columns {', '.join(columns)}; expected a header with name and synset"
            )
        rows.fieldnames = columns
        return _table((row["name"] or "", row.get("synset") or "") for row in rows)
    except csv.Error as error:
        raise InputError(f"line {rows.line_num}: {error}; expected CSV with the header name,synset") from None


def _from_json(data: bytes) -> ClassTable:
    try:
        # Raw: of a COCO file, which may have millions of boxes, only the categories become objects.
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw] | list[Any])
        if isinstance(document, dict) and "categories" in document:
            document = msgspec.json.decode(document["categories"], type=list[Any])
        if isinstance(document, list):
            return _table(_category(entry, position) for position, entry in enumerate(document, start=1))
        if "images" not in document:
            return _from_mapping({name: msgspec.json.decode(value) for name, value in document.items()})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"found JSON that is no class list ({error}); expected {_KINDS}") from None
    raise InputError(f'found JSON without a "categories" list; expected {_KINDS}')


def _category(entry: Any, position: int) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f'category {position}: found no "name"; expected an object with a name')
    return entry["name"], _synset_of(entry, f"category {position}")


def _synset_of(entry: Mapping[str, Any], place: str) -> str:
    synset = entry.get("synset") or ""
    if not isinstance(synset, str):
        raise InputError(f"{place}: found synset {synset!r}; expected a string such as dog.n.01")
    return synset


def _from_mapping(document: dict[str, Any]) -> ClassTable:
    pairs: list[tuple[str, str]] = []
    ids: list[int] = []
    for name, value in document.items():
        place = f"class {name!r}"
        if isinstance(value, dict):
            pairs.append((name, _synset_of(value, place)))
            if isinstance(value.get("coco_cat_id"), int):
                ids.append(value["coco_cat_id"])
        elif isinstance(value, str) or value is None:
            pairs.append((name, value or ""))
        else:
            raise InputError(f"{place}: found {value!r}; expected a synset, or an object with a synset")
    if ids and len(ids) == len(pairs):
        pairs = [pair for _, pair in sorted(zip(ids, pairs, strict=True))]
    return _table(pairs)


def most_frequent_classes(n: int, count_by_synset: Mapping[str, int]) -> ClassTable:
    """The n most frequent synsets as classes, ties in the order of names.

    The name of such a class is its synset, as in "dog.n.01": unique, and the same whatever n.

    Args:
        n: how many classes, at least 1.
        count_by_synset: occurrences in the data.

    Raises:
        InputError: the data has fewer than n synsets, or none.
    """
    seen = [synset for synset, count in count_by_synset.items() if synset and count > 0]
    if not seen:
        raise InputError(
            f"--classes: found {n}, and data without any class; give a class list, or other data"
        )
    if n < 1 or n > len(seen):
        raise InputError(
            f"--classes: found {n}; expected 1 to {len(seen)}, the number of classes seen in the data; "
            "ask for fewer classes"
        )
    chosen = tuple(sorted(seen, key=lambda synset: (-count_by_synset[synset], synset))[:n])
    return ClassTable(chosen, chosen)


def resolve_names(table: ClassTable, count_by_synset: Mapping[str, int]) -> tuple[ClassTable, list[str]]:
    """Give each class without a synset the most frequent synset of the data that has its name as lemma.

    The name is folded (case, inner white space and hyphens to one underscore) and compared with what stands
    before the synset's first dot. A frequent sense is not always the one meant (mouse, tie): the messages
    name each choice, and a synset in the class list is never replaced.

    Args:
        table: classes, some without synset.
        count_by_synset: occurrences in the data.

    Returns:
        The classes with what was found, and messages: one for each class that was resolved or could not be,
        and one for all classes whose own synset the data does not have.
    """
    by_lemma: dict[str, list[str]] = {}
    for synset in sorted(count_by_synset, key=lambda synset: (-count_by_synset[synset], synset)):
        if count_by_synset[synset] > 0:
            by_lemma.setdefault(synset.split(".")[0].casefold(), []).append(synset)
    taken = {synset for synset in table.synsets if synset}
    synsets: list[str] = []
    messages: list[str] = []
    absent: list[str] = []
    for name, synset in zip(table.names, table.synsets, strict=True):
        if synset:
            if count_by_synset.get(synset, 0) <= 0:
                absent.append(synset if name == synset else f"{name} ({synset})")
            synsets.append(synset)
            continue
        same_lemma = by_lemma.get(folded_name(name), [])
        found = next((candidate for candidate in same_lemma if candidate not in taken), "")
        if found:
            taken.add(found)
            messages.append(f"class {name!r} is taken to mean {found} ({count_by_synset[found]} occurrences)")
        elif same_lemma:
            messages.append(
                f"class {name!r} stays without evidence: {same_lemma[0]} is already another class"
            )
        else:
            messages.append(f"class {name!r} stays without evidence: no synset of the data has this name")
        synsets.append(found)
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        messages.append(
            f"{len(absent)} of {len(table)} classes stay without evidence, "
            f"the data has no such synset: {shown}"
        )
    return ClassTable(table.names, tuple(synsets)), messages


def check_some_known(table: ClassTable, seen: Iterable[str], place: str) -> None:
    """Check that data has at least one class of a list, by synset or by name.

    A list of which the data has nothing is the wrong list: all that it could give is an empty graph.

    Args:
        table: the class list.
        seen: what the data calls its classes; data without any is not checked.
        place: the data, for the message.

    Raises:
        ClassMatchError: it has none; the message has the first class and names near to it.
    """
    known = {name for name in seen if name}
    if not known or known.intersection(table.names) or known.intersection(table.synsets):
        return
    near = near_names(table.names[0], sorted(known))
    hint = f", near it {' or '.join(map(repr, near))}" if near else ""
    raise ClassMatchError(
        f"{place}: found none of the {len(table)} classes of the list, such as {table.names[0]!r}{hint}; "
        f"expected at least one of its {len(known)} synsets or names; give the class list of this data"
    )


def folded_name(name: str) -> str:
    """A name as lemmas are written: lower case, blanks and hyphens as one underscore."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()
