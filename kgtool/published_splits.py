"""Data sets that come with their own train and test sets: the published sets, lists of images, or a seed.

Unlike those of Visual Genome, published sets keep the images without a box: results are compared over all
images of the test set. Only a choice by seed leaves them out.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from kgtool.class_names import ClassName
from kgtool.classes import near_names
from kgtool.coco import Dataset
from kgtool.errors import ClassMatchError, InputError
from kgtool.ids import position_of
from kgtool.splits import ImageChoice, Split, read_image_lists, split_by_ids, split_by_seed

#: Image ids of the published train set and test set.
Published = tuple[np.ndarray, np.ndarray]


def choose_split(dataset: Dataset, published: Published | None, choice: ImageChoice | None) -> Split:
    """Split by the lists or the seed that were asked for, else as published, else by seed 0.

    Args:
        dataset: all images and boxes.
        published: the data set's own sets, or None where it has none.
        choice: what was asked for; None: nothing.

    Raises:
        InputError: lists that cannot be followed, or a set without images.
    """
    if choice is not None and (choice.train_list or choice.test_list):
        published = _listed(dataset, choice.train_list, choice.test_list)
    elif choice is not None or published is None:
        choice = choice or ImageChoice()
        return split_by_seed(dataset, num_test=choice.num_test, seed=choice.seed)
    return split_by_ids(dataset, *published)


def _listed(dataset: Dataset, train_list: Path | None, test_list: Path | None) -> Published:
    """Ids of the listed images; with one list, the other set is all the rest."""
    train, test = read_image_lists(dataset.images, train_list, test_list)
    for ids, given, other in ((train, train_list, test_list), (test, test_list, train_list)):
        if not len(ids):
            raise InputError(f"{given or other}: found a list that leaves one set empty; expected two sets")
    return train, test


def keep_classes(dataset: Dataset, wanted: Sequence[ClassName]) -> Dataset:
    """The categories of a class list, with their ids, and their boxes; a synset that the list gives is taken.

    Raises:
        ClassMatchError: the data set has no category of that name; the message has the near names.
    """
    category_by_name = {category.name: category for category in dataset.categories}
    for name in wanted:
        if name.name not in category_by_name:
            near = near_names(name.name, list(category_by_name))
            hint = f"did you mean {' or '.join(near)}?" if near else "give a name of the data set"
            raise ClassMatchError(
                f"class {name.name!r}: not one of the {len(category_by_name)} categories of the data; {hint}"
            )
    synset_by_name = {name.name: name.synset for name in wanted}
    categories = tuple(
        msgspec.structs.replace(category, synset=synset_by_name[category.name] or category.synset)
        for category in dataset.categories
        if category.name in synset_by_name
    )
    ids = np.array([category.id for category in categories], dtype=np.int64)
    rows = position_of(ids, dataset.annotations.category_id_N) >= 0
    return Dataset(dataset.images, categories, dataset.annotations.take(rows))
