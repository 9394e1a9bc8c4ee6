"""COCO JSON as flat columns: what the images of a data set show.

A data folder is `DIR/train.json`, `DIR/test.json` and `DIR/images/<file_name>`. The layouts of COCO itself
(`annotations/instances_train2017.json`, `train2017/`) and of Roboflow (`train/_annotations.coco.json`) are
read too, and `instances.json` for a set without splits.

Categories are classes in the order of their ids, numbered from 0. Background is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from detector.coco_file import CocoFile, Texts, read_coco
from detector.errors import ClassMatchError, InputError
from detector.frequencies import stated_frequency
from detector.segmentation import RunLengths, encode_masks, has_mask, to_run_lengths

_BOXES_AT_A_TIME = 1 << 16


@dataclass(frozen=True, eq=False)
class Annotations:
    """One split of a data set: I images, C classes, N boxes, as columns that worker processes can share.

    The boxes of image i are the rows `offsets[i]:offsets[i + 1]`. Every box of the file is here, for
    evaluation; `usable_N` marks those to train on (no crowd, and not empty once clipped to the image;
    where masks are read, with a mask).
    """

    path: Path  #: the JSON file
    image_folder: Path
    class_names: tuple[str, ...]  #: in the order of their category ids
    synsets: tuple[str, ...]  #: "" where the category has none
    frequencies: tuple[str, ...]  #: "r", "c" or "f" as the file says, or its image_count; "" where neither
    category_ids: np.ndarray  #: (C,) int64
    image_ids: np.ndarray  #: (I,) int64
    file_names: np.ndarray  #: (I,) str
    sizes_I2: np.ndarray  #: (I, 2) int32, height and width, px
    offsets: np.ndarray  #: (I + 1,) int64
    boxes_xywh: np.ndarray  #: (N, 4) float64, px, as in the file
    class_N: np.ndarray  #: (N,) int64, 0..C-1
    area_N: np.ndarray  #: (N,) float64, px2; of the mask where the file says so
    crowd_N: np.ndarray  #: (N,) bool
    usable_N: np.ndarray  #: (N,) bool
    segmentation_N: Texts | None = None  #: JSON text of each mask; None: read without

    @property
    def num_images(self) -> int:
        """How many images the split has, those without boxes included."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """How many classes the split has, background not counted."""
        return len(self.class_names)

    def image_path(self, image: int) -> Path:
        """Where the image at a position lies."""
        return self.image_folder / str(self.file_names[image])

    def run_lengths(self, row: int, image: int) -> RunLengths:
        """The mask of a box, of an image at a position; empty where the file has no whole polygon for it."""
        assert self.segmentation_N is not None
        height, width = (int(side) for side in self.sizes_I2[image])
        runs = to_run_lengths(self.segmentation_N[row], height, width)
        return runs or encode_masks(np.zeros((1, height, width), dtype=np.uint8))[0]

    def images_per_class(self) -> np.ndarray:
        """In how many images each class has a box that is no crowd, (C,) int64."""
        image_N = np.repeat(np.arange(self.num_images), np.diff(self.offsets))[~self.crowd_N]
        pairs = np.unique(image_N * self.num_classes + self.class_N[~self.crowd_N])
        return np.bincount(pairs % self.num_classes, minlength=self.num_classes)

    def boxes_per_class(self) -> np.ndarray:
        """How many boxes that are no crowd each class has, (C,) int64."""
        return np.bincount(self.class_N[~self.crowd_N], minlength=self.num_classes)

    def usable_images(self) -> np.ndarray:
        """Positions of the images with at least one box to train on."""
        sums = np.concatenate([[0], np.cumsum(self.usable_N)])
        return np.flatnonzero(sums[self.offsets[1:]] > sums[self.offsets[:-1]])

    def skipped(self) -> dict[str, int]:
        """What training leaves out, by reason."""
        return {
            "crowd boxes": int(self.crowd_N.sum()),
            "empty boxes": int((~self.usable_N & ~self.crowd_N).sum()),
            "images without boxes": self.num_images - len(self.usable_images()),
        }

    def select(self, images: np.ndarray) -> "Annotations":
        """Keep the images at some positions, in that order."""
        counts = np.diff(self.offsets)[images]
        rows = [np.arange(self.offsets[image], self.offsets[image + 1]) for image in images]
        index = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        per_box = ("boxes_xywh", "class_N", "area_N", "crowd_N", "usable_N")
        return replace(
            self,
            **{name: getattr(self, name)[images] for name in ("image_ids", "file_names", "sizes_I2")},
            **{name: getattr(self, name)[index] for name in per_box},
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            segmentation_N=None if self.segmentation_N is None else self.segmentation_N.select(index),
        )

    def with_classes(self, class_names: Sequence[str], owner: str) -> "Annotations":
        """Bring the classes into another order, matched by name.

        Args:
            class_names: the same names in the wanted order.
            owner: who asks, for the message ("the checkpoint runs/a").

        Raises:
            ClassMatchError: a name is missing on one of the two sides.
        """
        check_same_classes(self.class_names, class_names, str(self.path), owner)
        position_by_name = {name: position for position, name in enumerate(class_names)}
        new_position = np.array([position_by_name[name] for name in self.class_names], dtype=np.int64)
        order = np.argsort(new_position)
        return replace(
            self,
            class_names=tuple(class_names),
            synsets=tuple(self.synsets[index] for index in order),
            frequencies=tuple(self.frequencies[index] for index in order),
            category_ids=self.category_ids[order],
            class_N=new_position[self.class_N],
        )


def check_same_classes(found: Sequence[str], expected: Sequence[str], where: str, owner: str) -> None:
    """Check that two class lists name the same classes, in whatever order.

    Raises:
        ClassMatchError: they do not; the message names a class and its near names.
    """
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if not missing and not extra:
        return
    shown, known, side = (
        (missing, extra, "not in the data") if missing else (extra, missing, f"not in {owner}")
    )
    near = get_close_matches(shown[0], known, n=3)
    hint = f" (near: {', '.join(near)})" if near else ""
    raise ClassMatchError(
        f"{where}: {len(missing)} classes of {owner} are missing and {len(extra)} are unknown to it; "
        f"{shown[0]!r} is {side}{hint}; expected the same {len(expected)} class names in any order"
    )


def load_annotations(
    folder: Path, split: str, *, max_images: int | None = None, masks: bool = False
) -> Annotations:
    """Read one split of a data folder.

    Args:
        folder: the data folder; see the top of this file for its layouts.
        split: "train", "test", "val" or another name.
        max_images: keep the first so many images that have a box to train on.
        masks: read the segmentations too.

    Raises:
        InputError: no such split, one without images, a file that is not COCO JSON or contradicts itself, a
            missing image or, with `masks`, a segmentation that is missing or is none.
    """
    path = find_annotation_file(folder, split)
    annotations = _to_columns(path, read_coco(path, masks=masks), _find_image_folder(folder, path))
    if max_images is not None:
        annotations = annotations.select(annotations.usable_images()[:max_images])
    if annotations.num_images == 0:
        kind = "image" if max_images is None else "image with a box"
        raise InputError(f"{path}: found no {kind}; expected one or more")
    _check_images_exist(annotations)
    return annotations


def read_annotations(path: Path) -> Annotations:
    """Read one COCO JSON for its classes and boxes; its images need not be there.

    Raises:
        InputError: the file is missing, is not COCO JSON or contradicts itself.
    """
    return _to_columns(path, read_coco(path), path.parent)


def find_annotation_file(folder: Path, split: str) -> Path:
    """Find the COCO JSON of a split in a data folder.

    Raises:
        InputError: none of the known layouts is there, or two files could be meant.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such folder"
        raise InputError(f"{folder}: {what}; expected a data folder with {split}.json and images/")
    candidates = [
        [folder / f"{split}.json"],
        sorted(folder.glob(f"annotations/instances_{split}*.json")),
        [folder / split / "_annotations.coco.json"],
        [folder / "instances.json"],
    ]
    for paths in candidates:
        found = [path for path in paths if path.is_file()]
        if len(found) > 1:
            raise InputError(
                f"{found[0]}: {found[1].name} could be meant too; expected one file for split {split!r}"
            )
        if found:
            return found[0]
    raise InputError(
        f"{folder}: no split {split!r}; expected {split}.json, annotations/instances_{split}*.json, "
        f"{split}/_annotations.coco.json or instances.json"
    )


def _find_image_folder(folder: Path, path: Path) -> Path:
    """DIR/images, COCO's DIR/train2017 beside annotations/, the annotation's own folder, or DIR."""
    if (folder / "images").is_dir():
        return folder / "images"
    coco_folder = folder / path.stem.removeprefix("instances_")
    if path.parent.name == "annotations":
        return coco_folder if coco_folder.is_dir() else folder
    return path.parent


def _to_columns(path: Path, file: CocoFile, image_folder: Path) -> Annotations:
    categories = sorted(file.categories, key=lambda category: category.id)
    images, boxes = file.images, file.boxes
    _check_unique(path, "category id", [category.id for category in categories])
    _check_unique(path, "category name", [category.name for category in categories])
    _check_unique(path, "image id", [image.id for image in images])
    image_ids = np.array([image.id for image in images], dtype=np.int64)
    category_ids = np.array([category.id for category in categories], dtype=np.int64)
    image_N = _positions(path, "image_id", boxes["image_id"], image_ids)
    class_N = _positions(path, "category_id", boxes["category_id"], category_ids)
    sizes_I2 = np.array([(image.height, image.width) for image in images], dtype=np.int32).reshape(-1, 2)
    usable_N = ~boxes["crowd"] & _have_area(boxes["bbox"], image_N, sizes_I2)
    masks = file.segmentation_N
    if masks is not None:
        usable_N &= _have_masks(path, masks, sizes_I2[image_N])
    in_order = bool((np.diff(image_N) >= 0).all())  # then nothing is copied
    order = slice(None) if in_order else np.argsort(image_N, kind="stable")
    return Annotations(
        path=path,
        image_folder=image_folder,
        class_names=tuple(category.name for category in categories),
        synsets=tuple(category.synset or "" for category in categories),
        frequencies=tuple(stated_frequency(one.frequency, one.image_count) for one in categories),
        category_ids=category_ids,
        image_ids=image_ids,
        file_names=np.array([image.file_name for image in images], dtype=np.str_),
        sizes_I2=sizes_I2,
        offsets=np.searchsorted(image_N[order], np.arange(len(images) + 1)).astype(np.int64),
        boxes_xywh=boxes["bbox"][order],
        class_N=class_N[order],
        area_N=boxes["area"][order],
        crowd_N=boxes["crowd"][order],
        usable_N=usable_N[order],
        segmentation_N=masks if masks is None or in_order else masks.select(np.asarray(order)),
    )


def _have_area(boxes_xywh: np.ndarray, image_N: np.ndarray, sizes_I2: np.ndarray) -> np.ndarray:
    """Which boxes are not empty once clipped to their image, (N,) bool; some at a time, to save memory."""
    found = np.zeros(len(image_N), dtype=bool)
    for start in range(0, len(image_N), _BOXES_AT_A_TIME):
        rows = slice(start, start + _BOXES_AT_A_TIME)
        boxes_xyxy = to_clipped_xyxy(boxes_xywh[rows], sizes_I2[image_N[rows]])
        found[rows] = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    return found


def _have_masks(path: Path, segmentation_N: Texts, sizes_N2: np.ndarray) -> np.ndarray:
    """Which boxes have a mask, (N,) bool; of the others no polygon has three corners."""
    found = np.zeros(len(segmentation_N), dtype=bool)
    for record in range(len(segmentation_N)):
        text = segmentation_N[record]
        height, width = (int(side) for side in sizes_N2[record])
        try:
            found[record] = has_mask(text, height, width)
        except ValueError as error:
            what = "no segmentation" if text == b"null" else f"segmentation: {error}"
            raise InputError(
                f"{path}, annotation {record}: {what}; expected polygons, or run lengths of the image's "
                "size, for a recipe with masks"
            ) from error
    return found


def _check_unique(path: Path, what: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{path}: {what} {value!r} is there twice; expected each once")
        seen.add(value)


def _positions(path: Path, what: str, wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each of `wanted` stands in `known`."""
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], wanted).clip(max=max(len(known) - 1, 0))
    right = known[order][place] == wanted if len(known) else np.zeros(len(wanted), dtype=bool)
    if not right.all():
        record = int(np.flatnonzero(~right)[0])
        raise InputError(f"{path}, annotation {record}: {what} {wanted[record]} is not declared in the file")
    return order[place] if len(known) else np.zeros(0, dtype=np.int64)


def _check_images_exist(annotations: Annotations) -> None:
    missing = [
        image for image in range(annotations.num_images) if not annotations.image_path(image).is_file()
    ]
    if missing:
        raise InputError(
            f"{annotations.image_path(missing[0])}: no such image; {annotations.path.name} names "
            f"{annotations.num_images} and {len(missing)} are missing; expected them under --data"
        )


def to_clipped_xyxy(boxes_xywh: np.ndarray, sizes_N2: np.ndarray) -> np.ndarray:
    """Convert COCO boxes to corners, clipped to their images.

    Args:
        boxes_xywh: (N, 4) left, top, width, height, px.
        sizes_N2: (N, 2) height and width of the image of each box, px.

    Returns:
        (N, 4) float32 left, top, right, bottom, px; empty boxes have right <= left or bottom <= top.
    """
    corners = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    limits = np.concatenate([sizes_N2[:, ::-1], sizes_N2[:, ::-1]], axis=1)
    return corners.clip(0, limits).astype(np.float32)
