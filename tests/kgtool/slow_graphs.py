"""Class graphs the slow and obvious way: json.load and loops, written from the definitions alone.

No line is shared with kgtool, so that agreement means something.
"""

import math
from collections import Counter
from typing import Any

import numpy as np

SKIPPED = ("term", "no synset", "several synsets", "class not in list")


def fold(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


def term_of(row: dict[str, Any], term_key: str) -> str:
    if term_key == "synset":
        return (row.get("synsets") or [""])[0]
    return fold(row.get("predicate"))


def known_objects(records: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """Synset by image and object id, where there is exactly one; merged ids lead to their object."""
    own: dict[tuple[int, int], set[str]] = {}
    merged: dict[tuple[int, int], set[str]] = {}
    for record in records:
        image = record.get("image_id", record.get("id"))
        for thing in record["objects"] or []:
            synsets = (thing or {}).get("synsets") or []
            if len(synsets) == 1:
                own.setdefault((image, thing.get("object_id", thing.get("id"))), set()).add(synsets[0])
                for other in thing.get("merged_object_ids") or []:
                    merged.setdefault((image, other), set()).add(synsets[0])
    known = {key: next(iter(found)) for key, found in merged.items() if len(found) == 1}
    for key, found in own.items():
        if len(found) == 1:
            known[key] = next(iter(found))
    return known


def object_counts(records: list[dict[str, Any]]) -> Counter[str]:
    return Counter(
        thing["synsets"][0]
        for record in records
        for thing in record["objects"] or []
        if thing and len(thing.get("synsets") or []) == 1
    )


def synsets_of(
    thing: dict[str, Any] | None, image: int, known: dict[tuple[int, int], str] | None
) -> list[str]:
    thing = thing or {}
    synsets = thing.get("synsets") or []
    if not synsets and known is not None:
        found = known.get((image, thing.get("object_id", thing.get("id"))))
        return [found] if found else []
    return synsets


def rows_of(records: list[dict[str, Any]], kind: str, term_key: str, known: Any) -> list[tuple[Any, ...]]:
    """(synsets, term) or (synsets, term, synsets) of every annotation."""
    rows: list[tuple[Any, ...]] = []
    for record in records:
        image = record.get("image_id", record.get("id"))
        for row in record["relationships" if kind == "relation" else "attributes"] or []:
            row = row or {}
            if kind == "relation":
                subject = synsets_of(row.get("subject"), image, known)
                rows.append((subject, term_of(row, term_key), synsets_of(row.get("object"), image, known)))
            else:
                for attribute in row.get("attributes") or []:
                    rows.append((synsets_of(row, image, known), fold(attribute)))
    return rows


def count(
    records: list[dict[str, Any]],
    kind: str,
    *,
    classes: int | list[str],
    num_terms: int = 200,
    term_key: str = "text",
    objects: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Classes, counts, totals of terms, evidence, and what was skipped for which reason."""
    rows = rows_of(records, kind, term_key, None if objects is None else known_objects(objects))
    totals = Counter(row[1] for row in rows if row[1])
    terms = sorted(totals, key=lambda term: (-totals[term], term))
    ends = Counter(end[0] for row in rows for end in (row[0], *row[2:]) if len(end) == 1)
    if objects is not None:
        ends = object_counts(objects)
    if isinstance(classes, int):
        classes = sorted(ends, key=lambda synset: (-ends[synset], synset))[:classes]
    selected = terms[: num_terms or None]
    shape = (len(classes), len(classes) if kind == "relation" else len(selected))
    counts = np.zeros(shape, dtype=np.int64)
    evidence: Counter[tuple[int, ...]] = Counter()
    skipped = Counter(dict.fromkeys(SKIPPED, 0))
    for row in rows:
        synsets, term = (row[0], *row[2:]), row[1]
        if not term:
            skipped["term"] += 1
        elif any(len(end) == 0 for end in synsets):
            skipped["no synset"] += 1
        elif any(len(end) > 1 for end in synsets):
            skipped["several synsets"] += 1
        elif any(end[0] not in classes for end in synsets):
            skipped["class not in list"] += 1
        else:
            place = [classes.index(end[0]) for end in synsets]
            evidence[(place[0], terms.index(term), *place[1:])] += 1
            if term in selected:
                counts[place[0], place[1] if kind == "relation" else selected.index(term)] += 1
    return {
        "classes": classes,
        "terms": terms,
        "totals": [totals[term] for term in terms],
        "counts": counts,
        "evidence": evidence,
        "skipped": [skipped[reason] for reason in SKIPPED],
        "annotations": len(rows),
    }


def weight(kind: str, recipe: str, counts: np.ndarray) -> np.ndarray:
    return {
        ("relation", "paper"): relation_paper,
        ("relation", "release"): relation_release,
        ("attribute", "divergence"): lambda c: pairs(c, lambda p, q: divergence(p, q), 0.0),
        ("attribute", "similarity"): attribute_similarity,
        ("attribute", "release"): attribute_release,
    }[kind, recipe](counts)


def relation_paper(counts: np.ndarray) -> np.ndarray:
    total = counts + counts.T
    degree = total.sum(axis=1)
    result = np.zeros(counts.shape)
    for i in range(len(counts)):
        for j in range(len(counts)):
            if degree[i] and degree[j]:
                result[i, j] = total[i, j] / math.sqrt(float(degree[i]) * float(degree[j]))
    return result


def relation_release(counts: np.ndarray) -> np.ndarray:
    total = counts + counts.T
    degree = total.sum(axis=1)
    for i in range(len(counts)):
        total[i, i] = degree[i] + 1
    result = np.zeros(counts.shape)
    for i in range(len(counts)):
        for j in range(len(counts)):
            result[i, j] = total[i, j] / math.sqrt(float(total[i, i]) * float(total[j, j]))
    return result


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def divergence(p: list[float], q: list[float]) -> float:
    if not sum(p) or not sum(q):
        return math.log(2)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


def pairs(counts: np.ndarray, between: Any, same: float) -> np.ndarray:
    rows = [[value / max(sum(row), 1) for value in row] for row in counts.tolist()]
    result = np.zeros((len(rows), len(rows)))
    for i, p in enumerate(rows):
        for j, q in enumerate(rows):
            result[i, j] = same if i == j else between(p, q)
    return result


def attribute_similarity(counts: np.ndarray) -> np.ndarray:
    """1 - JS / ln 2; a class without attributes is like no other class and like itself."""

    def between(p: list[float], q: list[float]) -> float:
        return 1 - divergence(p, q) / math.log(2) if sum(p) and sum(q) else 0.0

    return pairs(counts, between, 1.0)


def attribute_release(counts: np.ndarray) -> np.ndarray:
    """The authors' code: rows / (sum + 0.1), KL is 1 where a row is empty, terms 0 log 0 are dropped."""
    rows = [[value / (sum(row) + 0.1) for value in row] for row in counts.tolist()]

    def one_way(p: list[float], q: list[float]) -> float:
        return kl(p, q) if sum(p) and sum(q) else 1.0

    result = np.zeros((len(rows), len(rows)))
    for i, p in enumerate(rows):
        for j, q in enumerate(rows):
            middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
            result[i, j] = 1.0 if i == j else 1 - (one_way(p, middle) + one_way(q, middle)) / 2
    return result
