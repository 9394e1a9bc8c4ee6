"""Visual Genome files as dirty as the real ones and dirtier, small, made from a seed.

Everything here was seen in the published files or is the next thing that could be: several names of a key,
null instead of missing, several synsets or none, blanks and capitals, escapes, text that looks like records.
"""

import random
from typing import Any

SYNSETS = [
    f"{word}.n.01"
    for word in ("man", "tree", "dog", "car", "sky", "leaf", "hand", "street", "wheel", "couch")
]
PREDICATES = [
    "on",
    "ON",
    " on",
    "On  Top of",
    "on top of",
    "has",
    "HAS ",
    "wearing",
    "straße",
    "STRASSE",
    "ﬁn",
]
PREDICATES += [
    'a "quoted" one',
    "back\\slash",
    'looks like }, {"image_id": 1',
    "tab\there",
    "",
    "   ",
    "naïve",
]
ATTRIBUTES = ["white", "White ", " white", "dark  blue", "dark blue", "}, {", '{"attributes": [', "[]", "\\"]
ATTRIBUTES += ["", "  ", "long", "Tall", "éclair", "ÉCLAIR", "x" * 40]


def _synsets(stream: random.Random, version: str) -> dict[str, Any]:
    if version == "1.0":
        return {}
    kind = stream.random()
    synset = stream.choice(SYNSETS) if stream.random() < 0.8 else SYNSETS[int(stream.random() ** 3 * 10)]
    if kind < 0.75:
        return {"synsets": [synset]}
    if kind < 0.83:
        return {"synsets": []}
    if kind < 0.88:
        return {}
    if kind < 0.91:
        return {"synsets": None}
    return {"synsets": [synset, stream.choice(SYNSETS)]}


def _thing(stream: random.Random, version: str, number: int) -> dict[str, Any]:
    """An object, or an end of a relationship."""
    found: dict[str, Any] = {"h": 5, "w": stream.randint(0, 50), "y": -1, "x": 3}
    found["id" if version == "1.0" else "object_id"] = number
    if stream.random() < 0.2 and version == "1.4":
        found["merged_object_ids"] = [number + 1000, number + 2000][: stream.randint(0, 2)]
    if stream.random() < 0.5:
        found["name"] = stream.choice(PREDICATES)
    else:
        found["names"] = [stream.choice(PREDICATES)]
    found |= _synsets(stream, version)
    return _shuffled(stream, found)


def _shuffled(stream: random.Random, found: dict[str, Any]) -> dict[str, Any]:
    keys = list(found)
    stream.shuffle(keys)
    return {key: found[key] for key in keys}


def _record(stream: random.Random, version: str, number: int, key: str, rows: Any, id_first: bool) -> Any:
    image = {"id" if version == "1.0" else "image_id": number}
    return {**image, key: rows} if id_first else {key: rows, **image}


def relationships(seed: int, images: int = 30, version: str = "1.4") -> list[dict[str, Any]]:
    """Records of relationships.json."""
    stream = random.Random(f"relationships {seed}")
    records = []
    for number in range(1, images + 1):
        rows: Any = [_relationship(stream, version, number) for _ in range(stream.randint(0, 8))]
        if rows and stream.random() < 0.3:
            rows.append(rows[0])  # a duplicate
        if stream.random() < 0.05:
            rows = None
        records.append(_record(stream, version, number, "relationships", rows, seed % 2 == 0))
    return records


def _relationship(stream: random.Random, version: str, image: int) -> Any:
    kind = stream.random()
    if kind < 0.02:
        return None
    row: dict[str, Any] = {"predicate": stream.choice(PREDICATES)}
    row["id" if version == "1.0" else "relationship_id"] = stream.randint(1, 10**9)
    row["subject"] = _thing(stream, version, image * 100 + stream.randint(0, 9))
    row["object"] = _thing(stream, version, image * 100 + stream.randint(0, 9))
    row |= {"synsets": [["along.r.01"], ["be.v.01", "have.v.01"], [], None][stream.randint(0, 3)]}
    if kind < 0.04:
        row["subject"] = None
    elif kind < 0.06:
        del row["object"]
    elif kind < 0.08:
        row["predicate"] = None
    elif kind < 0.10:
        del row["predicate"]
    elif kind < 0.14:
        row["object"] = row["subject"]  # a relation with itself
    return _shuffled(stream, row)


def attributes(seed: int, images: int = 30, version: str = "1.4") -> list[dict[str, Any]]:
    """Records of attributes.json."""
    stream = random.Random(f"attributes {seed}")
    records = []
    for number in range(1, images + 1):
        rows: Any = []
        for place in range(stream.randint(0, 8)):
            row = _thing(stream, version, number * 100 + place)
            values: Any = [stream.choice(ATTRIBUTES) for _ in range(stream.randint(0, 3))]
            if stream.random() < 0.1:
                values.append(None)
            if stream.random() < 0.1:
                values = None
            if stream.random() < 0.6:
                row["attributes"] = values
            rows.append(row if stream.random() < 0.97 else None)
        if stream.random() < 0.05:
            rows = None
        records.append(_record(stream, version, number, "attributes", rows, seed % 2 == 0))
    return records


def objects(seed: int, images: int = 30, version: str = "1.4") -> list[dict[str, Any]]:
    """Records of objects.json, of the same images and object ids as the other two."""
    stream = random.Random(f"objects {seed}")
    records = []
    for number in range(1, images + 1):
        rows: Any = [_thing(stream, version, number * 100 + place) for place in range(stream.randint(0, 9))]
        if rows and stream.random() < 0.3:
            rows.append(
                {**rows[0], **_synsets(stream, version)}
            )  # the same object again, perhaps other synset
        if stream.random() < 0.1:
            rows.append(None)
        if stream.random() < 0.05:
            rows = None
        records.append(_record(stream, version, number, "objects", rows, seed % 2 == 0))
    return records
