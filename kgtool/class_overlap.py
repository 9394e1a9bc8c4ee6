"""The classes of a data set that a graph or class list has as well, as categories it can be joined by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from kgtool.class_names import ClassName
from kgtool.classes import is_background
from kgtool.coco import Category, Dataset
from kgtool.errors import ClassMatchError
from kgtool.ids import position_of
from kgtool.mapping import MappedClass, map_classes
from kgtool.targets import Target
from kgtool.wordnet import Nouns

#: A class found by its last word alone is another class: an ice wall is no wall.
_TOO_FAR = "compound head"


@dataclass(frozen=True, eq=False)
class Overlap:
    """What a data set and a class list have in common.

    Attributes:
        dataset: the categories in common, with their ids and names and the synsets of the target; boxes of
            classes that are one in the target are of one category.
        merged: classes by the name of the one that they became part of.
        left_out: boxes left out, by reason.
    """

    dataset: Dataset
    merged: dict[str, list[str]]
    left_out: dict[str, int]


def overlap_with(
    dataset: Dataset, target: Target, nouns: Nouns, *, known: Sequence[ClassName] = ()
) -> Overlap:
    """Keep the classes that are in a target.

    A class is in the target if `mapping.map_classes` finds its synset or another sense of its name there; but
    not by its last word alone, and not by a hypernym. Several classes found under one synset become the one
    that is surest of it (then: that has most boxes). Background is no class.

    Args:
        dataset: with categories named as in their data set, their synsets where known.
        target: the graph or class list.
        nouns: WordNet.
        known: synsets of some of the names.

    Raises:
        ClassMatchError: no class is in the target.
    """
    rows = _rows(dataset.categories, target, nouns, known)
    boxes = _box_counts(dataset)
    groups: dict[str, list[tuple[MappedClass, Category]]] = {}
    for category in dataset.categories:
        row = rows.get(category.id)
        if row is not None and row.vg_synset and row.method != _TOO_FAR:
            synset = row.synset if row.synset in row.vg_synset else row.vg_synset[0]
            groups.setdefault(synset, []).append((row, category))
    if not groups:
        raise ClassMatchError(
            f"found none of the {len(dataset.categories)} classes among the {len(target.synsets)} synsets; "
            "expected a graph or class list that has some of them"
        )
    category_by_old: dict[int, Category] = {}
    merged: dict[str, list[str]] = {}
    for synset, group in groups.items():
        group.sort(key=lambda pair: (-pair[0].confidence, -boxes[pair[1].id], pair[1].id))
        owner = msgspec.structs.replace(group[0][1], synset=synset)
        category_by_old |= {category.id: owner for _, category in group}
        if len(group) > 1:
            merged[owner.name] = [category.name for _, category in group[1:]]
    kept, left_out = _relabelled(dataset, category_by_old)
    return Overlap(kept, merged, left_out)


def without_background(dataset: Dataset) -> Overlap:
    """Leave out categories that mean background: ADE20K's full list has one, and no graph has."""
    kept, left_out = _relabelled(
        dataset,
        {category.id: category for category in dataset.categories if not is_background(category.name)},
    )
    return Overlap(kept, {}, left_out)


def _rows(
    categories: Sequence[Category], target: Target, nouns: Nouns, known: Sequence[ClassName]
) -> dict[int, MappedClass]:
    """The row of each category but background."""
    known_by_name = {name.name: name for name in known}
    classes = [category for category in categories if not is_background(category.name)]
    names = []
    for category in classes:
        given = ClassName(category.name, synset=category.synset, known_by="given" if category.synset else "")
        names.append(given if category.synset else known_by_name.get(category.name, given))
    rows = map_classes(names, nouns, target, steps=0)
    return {category.id: row for category, row in zip(classes, rows, strict=True)}


def _box_counts(dataset: Dataset) -> dict[int, int]:
    ids = np.array([category.id for category in dataset.categories], dtype=np.int64)
    positions = position_of(ids, dataset.annotations.category_id_N)
    return dict(zip(ids.tolist(), np.bincount(positions, minlength=len(ids)).tolist(), strict=True))


def _relabelled(dataset: Dataset, category_by_old: dict[int, Category]) -> tuple[Dataset, dict[str, int]]:
    boxes = _box_counts(dataset)
    background = sum(boxes[category.id] for category in dataset.categories if is_background(category.name))
    old = np.array(list(category_by_old), dtype=np.int64)
    new = np.array([category.id for category in category_by_old.values()], dtype=np.int64)
    at_N = position_of(old, dataset.annotations.category_id_N)
    annotations = replace(dataset.annotations.take(at_N >= 0), category_id_N=new[at_N[at_N >= 0]])
    rest = int((at_N < 0).sum()) - background
    left_out = {"class not in the overlap": rest, "background, which is no object": background}
    categories = sorted(set(category_by_old.values()), key=lambda category: category.id)
    kept = Dataset(dataset.images, tuple(categories), annotations)
    return kept, {reason: count for reason, count in left_out.items() if count}
