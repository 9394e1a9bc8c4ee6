"""Train and test sets: which images go where, and the folder that is written.

The order of the images is that of sha256("SEED:ID"), so that a split depends on the seed and the data alone:
not on the order of the records, the machine, or a library's random numbers. Adding an image to the data moves
no other image in that order.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kgtool.coco import Dataset, Image, save_dataset
from kgtool.errors import InputError
from kgtool.ids import position_of

MAX_TEST_IMAGES = 5000
#: What `save_split` writes, and beside it what was found in the data.
SPLIT_FILES = ("train.json", "test.json", "classes.csv", "report.json", "report.csv")
#: LVIS: a class is rare with at most 10 training images, common with at most 100, else frequent.
RARE_IMAGES, COMMON_IMAGES = 10, 100


@dataclass(frozen=True, eq=False)
class Split:
    """Two data sets over the same classes, and how they came about.

    Attributes:
        train: its categories carry LVIS's `frequency`, `image_count` and `instance_count`, all of train.
        test: the same categories.
        images_dropped: images in neither set, by reason.
        messages: what a reader of the split should know, a line each.
    """

    train: Dataset
    test: Dataset
    images_dropped: dict[str, int]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class ImageChoice:
    """How to choose the images of the two sets.

    Attributes:
        num_test: images to test on; None means 5,000, or 5 % where that is less.
        seed: decides which images they are.
        train_list: images to train on; a list replaces the choice by seed.
        test_list: images to test on.
    """

    num_test: int | None = None
    seed: int = 0
    train_list: Path | None = None
    test_list: Path | None = None


def default_num_test(num_images: int) -> int:
    """Return 5,000, or 5 % of the images where that is less (at least one of two)."""
    return min(MAX_TEST_IMAGES, max(num_images // 20, int(num_images > 1)))


def split_by_seed(dataset: Dataset, *, num_test: int | None = None, seed: int = 0) -> Split:
    """Split by the hash of the image ids; every class that has two images keeps one in train.

    Images without a box are left out. The others are walked in the order of their hashes; an image goes to
    test, unless a class of it that has two or more images would have none left in train, until test is full.

    Args:
        dataset: all images and boxes.
        num_test: how many images to test on; by default `default_num_test`.
        seed: any whole number.

    Raises:
        InputError: no image has a box, or `num_test` leaves no image to train on.
    """
    pairs = _image_class_pairs(dataset)
    ids_M = pairs[0]
    if not len(ids_M):
        raise InputError(
            f"found no box of the {len(dataset.categories)} classes in any of {len(dataset.images)} images; "
            "check that classes, boxes and images belong together"
        )
    asked = default_num_test(len(ids_M)) if num_test is None else num_test
    if not 0 <= asked < len(ids_M):
        raise InputError(
            f"--test-images: found {asked}; expected 0 to {len(ids_M) - 1}: {len(ids_M)} images have a box "
            "of the classes, and at least one is needed for training"
        )
    test_M = _choose_test(*pairs, asked, seed)
    messages = []
    if test_M.sum() < asked:
        messages.append(
            f"test has {int(test_M.sum())} images, not {asked}: more would leave a class of two or more "
            "images without a training image"
        )
    dropped = {"no box of the classes": len(dataset.images) - len(ids_M)}
    return _divide(dataset, pairs, ids_M[~test_M], ids_M[test_M], dropped, messages)


def split_by_lists(dataset: Dataset, *, train_list: Path | None, test_list: Path | None) -> Split:
    """Split by lists of images, as a data set's authors publish them.

    With one list, the other set is all the rest; with both, images in neither are left out. Listed images
    without a box are left out too.

    Args:
        dataset: all images and boxes.
        train_list: a text file; see `read_image_list`.
        test_list: likewise.

    Raises:
        InputError: a list that cannot be read, a line that names no image, an image in both lists, or
            a set without images.
    """
    train, test = read_image_lists(dataset.images, train_list, test_list)
    pairs = _image_class_pairs(dataset)
    with_box = pairs[0]
    dropped = {
        "in neither list": len(dataset.images) - len(train) - len(test),
        "no box of the classes": int((~np.isin(np.concatenate([train, test]), with_box)).sum()),
    }
    train, test = np.intersect1d(train, with_box), np.intersect1d(test, with_box)
    for ids, given, others, use in (
        (train, train_list, test_list, "training"),
        (test, test_list, train_list, "test"),
    ):
        if not len(ids):
            raise InputError(f"{given or others}: found no {use} image with a box; expected at least one")
    return _divide(dataset, pairs, train, test, dropped, [])


def split_by_ids(dataset: Dataset, train: np.ndarray, test: np.ndarray) -> Split:
    """Split as published: these images and no others, those without a box as well.

    A detector does not train on an image without a box, but is tested on it.

    Args:
        dataset: all images and boxes.
        train: unique image ids.
        test: likewise; none is in `train`.
    """
    rest = len(dataset.images) - len(train) - len(test)
    return _divide(dataset, _image_class_pairs(dataset), train, test, {"in neither set": rest}, [])


def read_image_lists(
    images: Sequence[Image], train_list: Path | None, test_list: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Read the images to train on and to test on; with one list, the other set is all the rest.

    Args:
        images: all there are.
        train_list: a text file; see `read_image_list`. None: what `test_list` leaves.
        test_list: likewise.

    Returns:
        ids to train on and ids to test on, both ascending.

    Raises:
        InputError: a list that cannot be read, a line that names no image, or an image in both lists.
    """
    every = np.sort(np.array([image.id for image in images], dtype=np.int64))
    train, test = (read_image_list(path, images) if path else None for path in (train_list, test_list))
    if train is None:
        train = np.setdiff1d(every, every[:0] if test is None else test)
    if test is None:
        test = np.setdiff1d(every, train)
    both = np.intersect1d(train, test)
    if len(both):
        raise InputError(
            f"{test_list}: found image {both[0]} ({len(both)} such images), which is also in {train_list}; "
            "expected lists that share no image"
        )
    return train, test


def read_image_list(path: Path, images: Sequence[Image]) -> np.ndarray:
    """Read a list of images, one a line, and return their ids in ascending order.

    Only what stands before the first blank of a line counts: an image id, a path ("VG_100K/2.jpg") or a file
    name ("2.jpg"). A path is looked up whole, then by its last part, then without its suffix.

    Raises:
        InputError: the file cannot be read, is empty, or has lines that name no known image, or several.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: found bytes that are not UTF-8; expected one image id or path a line"
        ) from None
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: found an empty list; expected one image id or path a line")
    id_by_name = _image_names(images)
    wanted = [line.split()[0] for line in lines if line.strip()]
    found = [next((id_by_name[name] for name in _names(entry) if name in id_by_name), -1) for entry in wanted]
    unknown = [entry for entry, at in zip(wanted, found, strict=True) if at == -1]
    if unknown:
        raise InputError(
            f"{path}: found {unknown[0]!r} ({len(unknown)} such lines), which names no image or several; "
            "expected the id, path or file name of a known image on each line"
        )
    return np.unique(np.array(found, dtype=np.int64))


def _names(entry: str) -> tuple[str, str, str]:
    last = entry.replace("\\", "/").rsplit("/", 1)[-1]
    return entry, last, last.rsplit(".", 1)[0]


def _image_names(images: Sequence[Image]) -> dict[str, int]:
    """Everything an image may be called by; a name of two images means neither (-1)."""
    id_by_name: dict[str, int] = {}
    for image in images:
        for name in {*_names(image.file_name), str(image.id)}:
            id_by_name[name] = -1 if id_by_name.get(name, image.id) != image.id else image.id
    return id_by_name


def _image_class_pairs(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of the images with a box (M,), and the pairs of image and class that occur, sorted.

    Returns:
        ids_M in ascending order; image_P, index into it; class_P, index into the categories.
    """
    every = np.sort(np.array([image.id for image in dataset.images], dtype=np.int64))
    position_N = position_of(every, dataset.annotations.image_id_N)
    pair_P = position_N * np.int64(len(dataset.categories)) + _class_index(dataset)
    pair_P.sort()
    pair_P = pair_P[np.diff(pair_P, prepend=-1) > 0]
    position_P, class_P = np.divmod(pair_P, max(len(dataset.categories), 1))
    first_P = np.diff(position_P, prepend=-1) > 0
    return every[position_P[first_P]], np.cumsum(first_P) - 1, class_P


def _choose_test(
    ids_M: np.ndarray, image_P: np.ndarray, class_P: np.ndarray, num_test: int, seed: int
) -> np.ndarray:
    """Return a mask (M,) of the images to test on."""
    hashes = [hashlib.sha256(f"{seed}:{image_id}".encode()).digest() for image_id in ids_M.tolist()]
    starts = np.searchsorted(image_P, np.arange(len(ids_M) + 1))
    left_C = np.bincount(class_P)
    free_C = left_C < 2  # a class of one image may be in either set
    test_M = np.zeros(len(ids_M), dtype=bool)
    room = num_test
    for at in sorted(range(len(ids_M)), key=hashes.__getitem__):
        if room == 0:
            break
        classes = class_P[starts[at] : starts[at + 1]]
        if bool((free_C[classes] | (left_C[classes] > 1)).all()):
            left_C[classes] -= 1
            test_M[at] = True
            room -= 1
    return test_M


def _divide(
    dataset: Dataset,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    dropped: dict[str, int],
    messages: list[str],
) -> Split:
    parts = [_subset(dataset, ids) for ids in (train, test)]
    ids_M, image_P, class_P = pairs
    images_C = np.bincount(class_P[np.isin(ids_M, train)[image_P]], minlength=len(dataset.categories))
    counts = zip(dataset.categories, images_C.tolist(), box_counts(parts[0]).tolist(), strict=True)
    categories = tuple(
        msgspec.structs.replace(
            category, frequency=frequency(images), image_count=images, instance_count=boxes
        )
        for category, images, boxes in counts
    )
    empty = sum(category.image_count == 0 for category in categories)
    if empty:
        messages = [*messages, f"{empty} of {len(categories)} classes have no training image"]
    train_set, test_set = (replace(part, categories=categories) for part in parts)
    return Split(train_set, test_set, {k: n for k, n in dropped.items() if n}, tuple(messages))


def _subset(dataset: Dataset, image_ids: np.ndarray) -> Dataset:
    keep = set(image_ids.tolist())
    relations = dataset.relations
    return Dataset(
        images=tuple(image for image in dataset.images if image.id in keep),
        categories=dataset.categories,
        annotations=dataset.annotations.take(np.isin(dataset.annotations.image_id_N, image_ids)),
        rel_categories=dataset.rel_categories,
        relations=relations and relations.take(np.isin(relations.image_id_N, image_ids)),
    )


def image_counts(dataset: Dataset) -> np.ndarray:
    """Count the images that have a box of each class: int64 (C,) in the order of the categories."""
    return np.bincount(_image_class_pairs(dataset)[2], minlength=len(dataset.categories))


def box_counts(dataset: Dataset) -> np.ndarray:
    """Count the boxes of each class: int64 (C,) in the order of the categories."""
    return np.bincount(_class_index(dataset), minlength=len(dataset.categories))


def _class_index(dataset: Dataset) -> np.ndarray:
    """For each box (N,) the position of its class among the categories."""
    category_ids = np.array([category.id for category in dataset.categories], dtype=np.int64)
    return position_of(category_ids, dataset.annotations.category_id_N)


def frequency(image_count: int) -> str:
    """Return LVIS's letter: r(are), c(ommon) or f(requent), by the number of training images."""
    return "r" if image_count <= RARE_IMAGES else "c" if image_count <= COMMON_IMAGES else "f"


def save_split(split: Split, folder: Path, report: dict[str, Any]) -> None:
    """Write train.json, test.json, classes.csv and report.json into an existing, empty folder."""
    save_dataset(split.train, folder / "train.json")
    save_dataset(split.test, folder / "test.json")
    _save_classes(split, folder / "classes.csv")
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (folder / "report.json").write_bytes(text + b"\n")


def _save_classes(split: Split, path: Path) -> None:
    header = ["train_image_count", "train_instance_count", "test_image_count", "test_instance_count"]
    images, boxes = image_counts(split.test).tolist(), box_counts(split.test).tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "synset", *header])
        for at, row in enumerate(split.train.categories):
            counts = [row.image_count, row.instance_count, images[at], boxes[at]]
            writer.writerow([row.name, row.synset, *counts])
