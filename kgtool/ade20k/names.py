"""Names of ADE20K's classes: the list that its colours count in, and a class list to choose from it.

The list is in the data set's index_ade20k.mat (`index.objectnames`). Where it is not given, the names are
those that the texts or JSONs of the images themselves use for each place in it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kgtool.ade20k.findings import OTHER_CLASS, UNKNOWN_CLASS, Finding
from kgtool.ade20k.images import INDEX, JSON, TEXT, ImageRows
from kgtool.class_names import ClassName
from kgtool.coco import Category
from kgtool.errors import InputError


def load_names(path: Path) -> dict[int, str]:
    """Read the list of names; places count from 1, and those without a word ("-", blank) are left out.

    Args:
        path: index_ade20k.mat, a JSON list of names, or a text file of one name a line.

    Raises:
        InputError: there is no such file, or it is none of these.
    """
    expected = "index_ade20k.mat, a JSON list of names, or one name a line"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from None
    if path.suffix.lower() == ".mat":
        names = _from_matlab(path)
    elif path.suffix.lower() == ".json":
        names = _from_json(content)
    else:
        names = content.decode("utf-8-sig", errors="replace").splitlines()
    if not names:
        raise InputError(f"{path}: found no list of names; expected {expected}")
    return {place: name for place, name in enumerate(map(folded_blanks, names), start=1) if has_word(name)}


def folded_blanks(text: Any) -> str:
    """The text with one blank where there are several, and none at its ends."""
    return " ".join(str(text).split())


def has_word(name: str) -> bool:
    """Say whether a name is one: ADE20K's "-" and its blank are not."""
    return any(character.isalnum() for character in name)


def _from_matlab(path: Path) -> list[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        index = loadmat(path, simplify_cells=True).get("index")
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read ({line}); expected a MATLAB file before 7.3") from None
    names = index.get("objectnames") if isinstance(index, dict) else None
    return [] if names is None else list(names)


def _from_json(content: bytes) -> list[str]:
    try:
        return msgspec.json.decode(content, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def names_in_use(images: Iterable[ImageRows]) -> dict[int, str]:
    """The name that most entries use for each place in the list, ties by name.

    The place is the one that the entry gives (2021), or the one of the colours of its instance (2016/17).
    """
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for rows in images:
        places = rows.entry_class_N if rows.files.layout == JSON else rows.class_index_N
        for place, name in zip(places, rows.entry_name_N, strict=True):
            if place and has_word(name):
                votes[place][name] += 1
    return {
        place: min(names, key=lambda name, names=names: (-names[name], name))  # type: ignore[misc]
        for place, names in sorted(votes.items())
    }


def same_name(first: str, second: str) -> bool:
    """Say whether two names are the same but for case and blanks."""
    return _key(first) == _key(second)


def compare_classes(rows: ImageRows, names: Mapping[int, str]) -> None:
    """Compare the class of each instance's colours with that of its entry; a difference is a finding.

    An entry of 2016/17 that names another class is of another instance: its number is all that it was paired
    by. What it says is then left out. An entry of 2021 lies where its instance does, and keeps it.
    """
    for row, place in enumerate(rows.class_index_N):
        number, entry_name = rows.entry_number_N[row], rows.entry_name_N[row]
        where = (rows.level_N[row], rows.instance_N[row], "" if number is None else number)
        if place not in names:
            found, expected = f"class {place}", "a place in the list of names"
            rows.findings.append(Finding(rows.files.name, UNKNOWN_CLASS, *where, found, expected))
            continue
        differs = rows.entry_class_N[row] not in (0, place) or not same_name(entry_name, names[place])
        if number is not None and differs:
            found = f"{entry_name} ({rows.entry_class_N[row] or 'no place given'})"
            expected = f"{names[place]} ({place}), by the colours"
            rows.findings.append(Finding(rows.files.name, OTHER_CLASS, *where, found, expected))
            if rows.files.layout == TEXT:
                rows.entry_name_N[row], rows.detail_N[row] = "", b""


def names_of_rows(rows: ImageRows, names: Mapping[int, str]) -> list[str]:
    """The name of each instance's class: by its colours, else by its entry, else by its number.

    A value of the challenge's masks that has no name is no class, and its name is empty.
    """
    is_index = rows.files.layout == INDEX
    pairs = zip(rows.class_index_N, rows.entry_name_N, strict=True)
    return [
        names.get(place) or entry_name or ("" if is_index else f"class {place}")
        for place, entry_name in pairs
    ]


@dataclass(frozen=True)
class Choice:
    """The classes that become categories.

    Attributes:
        categories: in the order of their ids.
        id_by_name: the category of each of ADE20K's names.
        messages: what a reader should know, a line each.
    """

    categories: tuple[Category, ...]
    id_by_name: dict[str, int]
    messages: tuple[str, ...] = ()


def choose_categories(
    used: Collection[str], names: Mapping[int, str], wanted: Sequence[ClassName] | None
) -> Choice:
    """Make categories of the names in use, or of a class list.

    Without a class list a category's id is the place in ADE20K's list of names (the smallest, where a name
    is there more than once); names without a place come after the others. With one, ids count from 1.
    """
    if wanted is None:
        id_by_name = {name: place for place, name in sorted(names.items(), reverse=True)}
        without = sorted(set(used) - id_by_name.keys())
        id_by_name |= {name: place for place, name in enumerate(without, start=max(names, default=0) + 1)}
        ordered = sorted(used, key=id_by_name.__getitem__)
        return Choice(tuple(Category(id_by_name[name], name) for name in ordered), id_by_name)
    class_by_name, messages = match_classes(wanted, {*used, *names.values()})
    id_by_class = {name.name: number for number, name in enumerate(wanted, start=1)}
    categories = tuple(Category(id_by_class[name.name], name.name, name.synset) for name in wanted)
    id_by_name = {name: id_by_class[found] for name, found in class_by_name.items()}
    return Choice(categories, id_by_name, tuple(messages))


def match_classes(wanted: Sequence[ClassName], names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find what ADE20K calls the classes of a list.

    A class is the name that is the same, alone or with its aliases ("car, auto, automobile, machine,
    motorcar"); else the only name of which it is the first word; else the only name of which it is any word.
    Names that differ in case alone are one name. A name goes to the first class that is it.

    Args:
        wanted: the class list.
        names: ADE20K's names.

    Returns:
        Class by ADE20K's name, and a line for each class that none or several names may mean.
    """
    names_by_word = _index_of_words(names)
    class_by_name: dict[str, str] = {}
    messages = []
    for name in wanted:
        keys = [(", ".join([name.name, *name.aliases]), 0), (name.name, 0), (name.name, 1), (name.name, 2)]
        found = next(
            (names_by_word[_key(text), rank] for text, rank in keys if (_key(text), rank) in names_by_word),
            [],
        )
        if not found:
            messages.append(f"class {name.name!r} stays without boxes: ADE20K has no such name")
        elif len({_key(other) for other in found}) > 1:
            listed = "; ".join(found[:5])
            messages.append(f"class {name.name!r} stays without boxes: write which name is meant ({listed})")
        else:
            for other in found:
                class_by_name.setdefault(other, name.name)
    return class_by_name, messages


def _index_of_words(names: Iterable[str]) -> dict[tuple[str, int], list[str]]:
    """Names by word and rank: 0 for the whole name, 1 for its first word, 2 for any."""
    names_by_word: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        words = list(dict.fromkeys(map(_key, name.split(","))))
        for place in [(_key(name), 0), (words[0], 1), *((word, 2) for word in words)]:
            names_by_word[place].append(name)
    return dict(names_by_word)


def _key(name: str) -> str:
    return folded_blanks(name).casefold()
