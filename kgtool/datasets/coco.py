"""COCO 2017 as a detection data set: instances files in, train and test set out, ids and masks as they are.

    annotations/instances_train2017.json   118,287 images, 860,001 boxes
    annotations/instances_val2017.json     5,000 images, 36,781 boxes

Nothing is cut, renumbered or left out: results on COCO are compared on exactly these boxes. The categories
get their supercategory and, where they are COCO's 80, the synsets of this project's table.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kgtool.class_names import ClassName, read_class_names
from kgtool.coco import Annotations, Category, Dataset, load_dataset
from kgtool.dataset_folders import Account, write_split
from kgtool.errors import ClassMatchError, InputError
from kgtool.ids import position_of
from kgtool.published_splits import choose_split, keep_classes
from kgtool.splits import ImageChoice, Split


def split_coco(
    instances: Sequence[Path],
    out: Path,
    *,
    classes: str | None = None,
    choice: ImageChoice | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write train and test set: a folder with train.json, test.json, classes.csv and report.json.

    Args:
        instances: COCO JSON files. Of two the first is the train set and the second the test set, as
            published; one is divided. What else annotations say, masks above all, is kept.
        out: a folder that does not exist, or is empty.
        classes: the classes to keep, as `read_class_names` takes them; None keeps all.
        choice: lists or a seed, by which the images of all files together are divided.
        strict: make the first box past the edge of its image, or without area, an error.
        overwrite: replace the folder if it is there.

    Returns:
        The report, as in report.json.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        ClassMatchError: the files differ in their categories, or a class of the list is none of them.
        InputError: a file is not COCO JSON, or an image id is in two files; or lists that cannot be followed.
    """
    if not 1 <= len(instances) <= 2 and choice is None:
        raise InputError(
            f"found {len(instances)} files; expected one to divide, or a train and a test file; with more, "
            "give lists of images, or --test-images"
        )

    def make() -> tuple[Split, Account]:
        wanted = read_class_names(classes) if classes else None
        parts = [load_dataset(path, with_extra=True) for path in instances]
        dataset, messages = _joined(parts, instances)
        doubts = _doubts(dataset)
        if strict and doubts:
            what, number = next(iter(doubts.items()))
            raise InputError(
                f"{' and '.join(map(str, instances))}: found {number} boxes {what}; correct them, or give no "
                "--strict; kgtool validate lists them"
            )
        if wanted is not None:
            dataset = keep_classes(dataset, wanted)
        dataset = replace(dataset, categories=_with_synsets(dataset.categories))
        published = _ids(parts[0]), _ids(parts[-1])
        split = choose_split(dataset, published if len(parts) == 2 else None, choice)
        report = {
            "dataset": "coco",
            "num_classes": len(dataset.categories),
            "sources": [
                {"name": path.name, "images": len(part.images), "boxes": len(part.annotations)}
                for path, part in zip(instances, parts, strict=True)
            ],
            "images": {"read": len(dataset.images)},
            "boxes": {"read": sum(len(part.annotations) for part in parts), "kept": len(dataset.annotations)},
            "doubts": doubts,
            "messages": messages,
        }
        if any(part.relations is not None for part in parts) and dataset.relations is None:
            messages.append("relations of several files, or of some classes, are left out")
        return split, (report, "")

    return write_split(out, make, overwrite=overwrite)


def _ids(dataset: Dataset) -> np.ndarray:
    return np.array(sorted(image.id for image in dataset.images), dtype=np.int64)


def _joined(parts: Sequence[Dataset], paths: Sequence[Path]) -> tuple[Dataset, list[str]]:
    """All files as one, and what there is to say; categories must be the same, image ids must not.

    Annotation ids that start again in each file, as many tools write them, are numbered anew.
    """
    for part, path in zip(parts[1:], paths[1:], strict=True):
        _check_same(parts[0].categories, part.categories, paths[0], path)
    twice = _twice([_ids(part) for part in parts])
    if len(twice):
        raise InputError(
            f"{' and '.join(map(str, paths))}: found image id {twice[0]} in more than one ({len(twice)} such "
            "ids); expected each in one file; an image must not be trained and tested on"
        )
    if len(parts) == 1:
        return parts[0], []
    columns = [part.annotations for part in parts]
    extras = [rows.extra_N for rows in columns if rows.extra_N is not None]
    id_N = np.concatenate([rows.id_N for rows in columns])
    clashes = len(_twice([rows.id_N for rows in columns]))
    if clashes:
        id_N = np.arange(1, len(id_N) + 1)
    joined = Dataset(
        categories=parts[0].categories,
        images=tuple(image for part in parts for image in part.images),
        annotations=Annotations(
            id_N=id_N,
            image_id_N=np.concatenate([rows.image_id_N for rows in columns]),
            category_id_N=np.concatenate([rows.category_id_N for rows in columns]),
            boxes_xywh_N4=np.concatenate([rows.boxes_xywh_N4 for rows in columns]),
            area_N=np.concatenate([rows.area_N for rows in columns]),
            crowd_N=np.concatenate([rows.crowd_N for rows in columns]),
            extra_N=np.concatenate(extras),
        ),
    )
    return joined, [
        f"{clashes} annotation ids are in more than one file: all are numbered anew"
    ] if clashes else []


def _twice(ids: Sequence[np.ndarray]) -> np.ndarray:
    """The ids that come more than once."""
    ordered = np.sort(np.concatenate(ids))
    again: np.ndarray = ordered[1:][ordered[1:] == ordered[:-1]]
    return again


def _check_same(
    first: Sequence[Category], second: Sequence[Category], first_path: Path, second_path: Path
) -> None:
    names = [{category.id: category.name for category in categories} for categories in (first, second)]
    for category_id in sorted(names[0].keys() | names[1].keys()):
        found = [name.get(category_id, "no category") for name in names]
        if found[0] != found[1]:
            raise ClassMatchError(
                f"{second_path}: found {found[1]!r} as category {category_id}; expected {found[0]!r}, as in "
                f"{first_path}; train and test set need the same categories"
            )


def _with_synsets(categories: tuple[Category, ...]) -> tuple[Category, ...]:
    """Synsets of this project's table, where all names are COCO's."""
    known: dict[str, ClassName] = {name.name: name for name in read_class_names("coco")}
    if not all(category.name in known for category in categories):
        return categories
    return tuple(
        msgspec.structs.replace(category, synset=category.synset or known[category.name].synset)
        for category in categories
    )


def _doubts(dataset: Dataset) -> dict[str, int]:
    """How many boxes a reader might look at; a hundredth of a pixel past the edge is rounding."""
    sizes = np.array([(image.width, image.height) for image in dataset.images], dtype=np.float64)
    ids = np.array([image.id for image in dataset.images], dtype=np.int64)
    boxes_N4 = dataset.annotations.boxes_xywh_N4
    limits_N2 = sizes[position_of(ids, dataset.annotations.image_id_N)].reshape(-1, 2)
    past = (boxes_N4[:, :2] < 0).any(axis=1) | (boxes_N4[:, :2] + boxes_N4[:, 2:] > limits_N2 + 0.01).any(
        axis=1
    )
    empty = (boxes_N4[:, 2:] <= 0).any(axis=1)
    counts = {"past the edge of their image": int(past.sum()), "without width or height": int(empty.sum())}
    return {what: count for what, count in counts.items() if count}
