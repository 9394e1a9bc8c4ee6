"""ADE20K's training and validation set, as the paths of its images name them."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from kgtool.coco import Image
from kgtool.errors import InputError

#: Images of the validation set that the papers test on.
NUM_TEST = 1000
_SET = re.compile(r"/(training/|validation/|ADE_train_|ADE_val_)")


def published_sets(
    images: Sequence[Image], num_test: int | None, seed: int, *, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all training images, and of some validation images: the first by sha256 of "SEED:NAME".

    Args:
        images: with paths as in ADE20K, or names such as ADE_train_00000001.jpg.
        num_test: how many validation images; None: 1,000, or all where they are fewer.
        seed: which of them.
        place: the file, for messages.

    Raises:
        InputError: one of the sets has no image, or has fewer than asked for.
    """
    train: list[int] = []
    validation: list[tuple[str, int]] = []
    for image in images:
        match = _SET.search(f"/{image.file_name}")
        if match and "train" in match[1]:
            train.append(image.id)
        elif match:
            name = image.file_name.rpartition("/")[2].rpartition(".")[0]
            validation.append((hashlib.sha256(f"{seed}:{name}".encode()).hexdigest(), image.id))
    for what, found in (("training", len(train)), ("validation", len(validation))):
        if not found:
            raise InputError(
                f"{place}: found no {what} image among {len(images)}; expected paths with training or "
                "validation, or names such as ADE_train_00000001; give --train-list or --test-list"
            )
    if num_test is not None and not 0 < num_test <= len(validation):
        raise InputError(
            f"--test-images: found {num_test}; expected 1 to {len(validation)}, all validation images"
        )
    test = [image_id for _, image_id in sorted(validation)[: num_test or NUM_TEST]]
    return np.array(sorted(train), dtype=np.int64), np.array(sorted(test), dtype=np.int64)
