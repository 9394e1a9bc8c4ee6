"""What is in a data set, in numbers: how many, how long the tail of classes is, how large the boxes are."""

from dataclasses import dataclass

import numpy as np

from kgtool.coco import Dataset
from kgtool.ids import position_of
from kgtool.splits import COMMON_IMAGES, RARE_IMAGES, box_counts, image_counts

#: COCO's limits: a box is small below 32 x 32 px2 of area, large from 96 x 96 on.
AREA_LIMITS = 32**2, 96**2
_LEVELS = {"min": 0, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}


@dataclass(frozen=True)
class ClassCount:
    """A class with how many boxes it has, and in how many images."""

    name: str
    boxes: int
    images: int


@dataclass(frozen=True)
class Group:
    """Classes that are rare, common or frequent: how many, and what they have."""

    name: str
    classes: int
    boxes: int


@dataclass(frozen=True)
class Stats:
    """A data set in numbers.

    Attributes:
        images: how many.
        images_without_boxes: of them.
        boxes: how many, crowds included.
        crowd_boxes: of them.
        relations: how many; None where the file has none.
        classes: C, each with its counts, most boxes first, ties by name.
        groups: classes without images, rare, common and frequent ones, by the images of this file.
        gini: of boxes over classes: 0 where all have the same number, near 1 where one has all.
        head_share: the part of the boxes that the tenth of the classes with most boxes has.
        boxes_by_size: small, medium and large, by `area` as COCO has them.
        quantiles: minimum, 5, 25, 50, 75, 95 % and maximum, and the mean, by what they are of.
    """

    images: int
    images_without_boxes: int
    boxes: int
    crowd_boxes: int
    relations: int | None
    classes: tuple[ClassCount, ...]
    groups: tuple[Group, ...]
    gini: float
    head_share: float
    boxes_by_size: dict[str, int]
    quantiles: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Measures:
    """What the numbers and the picture are made of: I images, C classes, N boxes.

    Attributes:
        boxes_per_image_I: how many boxes each image has.
        boxes_per_class_C: how many boxes each class has.
        images_per_class_C: in how many images each class is.
        side_N: root of each box's width times height, px.
        part_N: that over the root of its image's area, 0 to 1; NaN for an image without size.
    """

    boxes_per_image_I: np.ndarray
    boxes_per_class_C: np.ndarray
    images_per_class_C: np.ndarray
    side_N: np.ndarray
    part_N: np.ndarray


def measure(dataset: Dataset) -> Measures:
    """Count boxes by image and class, and measure their sides."""
    rows = dataset.annotations
    image_ids = np.array([image.id for image in dataset.images], dtype=np.int64)
    image_N = position_of(image_ids, rows.image_id_N)
    size_I = np.array([float(image.width * image.height) for image in dataset.images])
    with np.errstate(over="ignore"):  # numbers near the largest that there is
        area_N = rows.boxes_xywh_N4[:, 2].astype(np.float64) * rows.boxes_xywh_N4[:, 3]
    image_area_N = size_I[image_N]
    part_N = np.sqrt(np.divide(area_N, image_area_N, out=np.full(len(rows), np.nan), where=image_area_N > 0))
    return Measures(
        boxes_per_image_I=np.bincount(image_N, minlength=len(image_ids)),
        boxes_per_class_C=box_counts(dataset),
        images_per_class_C=image_counts(dataset),
        side_N=np.sqrt(area_N),
        part_N=part_N,
    )


def describe(dataset: Dataset, measures: Measures) -> Stats:
    """The numbers of a data set.

    Args:
        dataset: as loaded.
        measures: of the same data set.
    """
    boxes_C, images_C = measures.boxes_per_class_C, measures.images_per_class_C
    classes = [
        ClassCount(category.name, int(boxes), int(images))
        for category, boxes, images in zip(dataset.categories, boxes_C, images_C, strict=True)
    ]
    classes.sort(key=lambda one: (-one.boxes, one.name))
    rows = dataset.annotations
    sizes = np.bincount(np.searchsorted(AREA_LIMITS, rows.area_N, side="right"), minlength=3).tolist()
    columns = {
        "boxes per image": measures.boxes_per_image_I,
        "boxes per class": boxes_C,
        "images per class": images_C,
        "box width, px": rows.boxes_xywh_N4[:, 2],
        "box height, px": rows.boxes_xywh_N4[:, 3],
        "box side, % of image": 100 * measures.part_N,
        "image width, px": np.array([image.width for image in dataset.images]),
        "image height, px": np.array([image.height for image in dataset.images]),
    }
    return Stats(
        images=len(dataset.images),
        images_without_boxes=int((measures.boxes_per_image_I == 0).sum()),
        boxes=len(rows),
        crowd_boxes=int((rows.crowd_N != 0).sum()),
        relations=None if dataset.relations is None else len(dataset.relations),
        classes=tuple(classes),
        groups=_groups(boxes_C, images_C),
        gini=gini(boxes_C),
        head_share=_head_share(boxes_C),
        boxes_by_size=dict(zip(("small", "medium", "large"), sizes, strict=True)),
        quantiles={name: quantiles(column) for name, column in columns.items()},
    )


def group_of(images_C: np.ndarray) -> np.ndarray:
    """0 for classes without images, 1 rare, 2 common, 3 frequent: LVIS's groups, and those it leaves out."""
    return np.searchsorted((0, RARE_IMAGES, COMMON_IMAGES), images_C, side="left")


def _groups(boxes_C: np.ndarray, images_C: np.ndarray) -> tuple[Group, ...]:
    group_C = group_of(images_C)
    classes = np.bincount(group_C, minlength=4).tolist()
    boxes = np.bincount(group_C, weights=boxes_C, minlength=4).astype(np.int64).tolist()
    names = ("no images", "rare", "common", "frequent")
    return tuple(Group(*group) for group in zip(names, classes, boxes, strict=True))


def gini(count_C: np.ndarray) -> float:
    """Gini coefficient: half the mean difference of two classes, over the mean; 0 where all is 0."""
    total, num_classes = float(count_C.sum()), len(count_C)
    if total == 0:
        return 0.0
    rank_C = 2 * np.arange(1, num_classes + 1) - num_classes - 1
    return float((rank_C * np.sort(count_C)).sum() / (num_classes * total))


def _head_share(boxes_C: np.ndarray) -> float:
    head = -(-len(boxes_C) // 10)
    total = int(boxes_C.sum())
    return float(np.sort(boxes_C)[len(boxes_C) - head :].sum() / total) if total else 0.0


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Quantiles and mean of the values that are finite, to four digits; empty where there is none."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return {}
    found = dict(zip(_LEVELS, np.percentile(values, list(_LEVELS.values())).tolist(), strict=True))
    return {
        name: round(value, 4)
        for name, value in {**found, "mean": float((values / len(values)).sum())}.items()
    }
