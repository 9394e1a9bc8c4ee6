"""Pascal VOC as a detection data set: XML annotations become COCO JSON, its lists the train and test sets.

    VOCdevkit/VOC2007/Annotations/000005.xml   JPEGImages/000005.jpg   ImageSets/Main/trainval.txt
    VOCdevkit/VOC2012/Annotations/2007_000027.xml   ...

Any folder of the same form will do. `kgtool.pascal_voc` reads the files and says how boxes are counted.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kgtool.class_names import ClassName, read_class_names
from kgtool.coco import Annotations, Category, Dataset, Image
from kgtool.dataset_folders import Account, findings_csv, write_dataset, write_split
from kgtool.errors import InputError
from kgtool.pascal_voc.findings import OTHER_NAME, Finding
from kgtool.pascal_voc.images import (
    ImageFiles,
    ImageRows,
    find_folders,
    find_images,
    find_sets,
    read_image,
)
from kgtool.processes import map_in_order
from kgtool.published_splits import Published, choose_split
from kgtool.splits import ImageChoice, Split

#: Which lists each protocol trains and tests on.
PROTOCOLS = {
    "07+12": (("VOC2007/trainval", "VOC2012/trainval"), ("VOC2007/test",)),
    "07": (("VOC2007/trainval",), ("VOC2007/test",)),
    "12": (("VOC2012/train",), ("VOC2012/val",)),
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VocOptions:
    """How annotations are read.

    Attributes:
        classes: the classes to keep, as `read_class_names` takes them; None: VOC's 20 and any others found.
        strict: make the first finding an error.
        num_workers: processes that read.
        on_progress: told how many images of how many are read.
    """

    classes: str | None = None
    strict: bool = False
    num_workers: int = 1
    on_progress: Progress | None = None


DEFAULTS = VocOptions()


@dataclass(frozen=True, eq=False)
class _Read:
    """All images of a folder as one data set."""

    dataset: Dataset
    images: list[ImageRows]
    sets: dict[str, Path]
    report: dict[str, Any]

    def findings(self) -> str:
        return findings_csv(Finding, chain.from_iterable(rows.findings for rows in self.images))


def convert_voc(
    root: Path, out: Path, *, options: VocOptions = DEFAULTS, overwrite: bool = False
) -> dict[str, Any]:
    """Write all annotations as COCO JSON.

    Args:
        root: VOCdevkit, one of its folders, or any folder with Annotations.
        out: a .json file; or a folder, which gets instances.json, report.csv (findings) and report.json.
        options: what is read, and how.
        overwrite: replace the output if it is there.

    Returns:
        The report, as in report.json. `images.left_out` counts annotations that could not be used.

    Raises:
        OutputExistsError: `out` is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        InputError: no annotation is there, or none can be used, or a class list cannot; or there is a finding
            where `options` are strict.
    """

    def make() -> tuple[Dataset, Account]:
        read = _read(root, options)
        return read.dataset, (read.report, read.findings())

    return write_dataset(out, make, overwrite=overwrite)


def split_voc(
    root: Path,
    out: Path,
    *,
    protocol: str = "07+12",
    choice: ImageChoice | None = None,
    options: VocOptions = DEFAULTS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write train and test set: a folder with train.json, test.json, classes.csv, report.csv and report.json.

    Args:
        root: as of `convert_voc`.
        out: a folder that does not exist, or is empty.
        protocol: one of `PROTOCOLS`; "07+12" trains on both years' trainval and tests on 2007's test.
        choice: lists or a seed, which replace the protocol.
        options: what is read, and how.
        overwrite: replace the folder if it is there.

    Returns:
        The report, as in report.json.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        InputError: as of `convert_voc`; a list of the protocol is not there, or names an image that has no
            annotation.
    """

    def make() -> tuple[Split, Account]:
        read = _read(root, options)
        published = None
        if choice is None:
            published = _published(root, read, protocol)
            read.report["choice"] = {"protocol": protocol}
        split = choose_split(read.dataset, published, choice)
        return split, (read.report, read.findings())

    return write_split(out, make, overwrite=overwrite)


def _published(root: Path, read: _Read, protocol: str) -> Published:
    return _ids_of_sets(root, read, protocol, 0), _ids_of_sets(root, read, protocol, 1)


def _ids_of_sets(root: Path, read: _Read, protocol: str, side: int) -> np.ndarray:
    """Image ids of the lists that a protocol trains on (side 0) or tests on (side 1)."""
    used = (rows for rows in read.images if rows.size)
    id_by_path = {
        rows.files.annotation: image.id for rows, image in zip(used, read.dataset.images, strict=True)
    }
    ids: set[int] = set()
    for name in PROTOCOLS[protocol][side]:
        if name not in read.sets:
            raise InputError(
                f"{root}: found no {name.replace('/', '/ImageSets/Main/')}.txt, which {protocol} needs; get "
                "that part of VOC, or give another --protocol, lists of images, or --test-images"
            )
        folder = read.sets[name].parents[2] / "Annotations"
        listed = [folder / f"{image}.xml" for image in _listed(read.sets[name])]
        missing = [path for path in listed if path not in id_by_path]
        if missing:
            raise InputError(
                f"{read.sets[name]}: found {missing[0].stem!r} ({len(missing)} such lines), which has no "
                "annotation that can be used; expected one for each image of the list"
            )
        ids.update(id_by_path[path] for path in listed)
    return np.array(sorted(ids), dtype=np.int64)


def _listed(path: Path) -> list[str]:
    """The names of a list: the first word of each line."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _read(root: Path, options: VocOptions) -> _Read:
    wanted = read_class_names(options.classes) if options.classes else None
    folders = find_folders(root)
    files, photos_alone = find_images(root, folders)
    images: list[ImageRows] = []
    for number, rows in enumerate(map_in_order(read_image, files, options.num_workers), start=1):
        images.append(rows)
        _check_clean(rows, options)
        if options.on_progress:
            options.on_progress(number, len(files))
    if not any(rows.size for rows in images):
        raise InputError(
            f"{root}: none of {len(files)} annotations can be used; {images[0].findings[-1].line()}"
        )
    ids = image_ids(files)
    categories = choose_categories(images, wanted)
    for rows in images:
        _check_clean(rows, options)
    dataset, other_classes = _make_dataset(root, images, ids, categories)
    sets = find_sets(folders)
    report = _account(images, dataset, other_classes)
    report["sets"] = {name: len(_listed(path)) for name, path in sets.items()}
    report["messages"] = _messages(images, categories, wanted, photos_alone)
    return _Read(dataset, images, sets, report)


def _check_clean(rows: ImageRows, options: VocOptions) -> None:
    if options.strict and rows.findings:
        raise InputError(f"{rows.findings[0].line()}; correct it, or leave out --strict")


def image_ids(files: list[ImageFiles]) -> list[int]:
    """The ids of images: the digits of their names, as everywhere for VOC; else their places, from 1.

    000005 is 5 and 2007_000027 is 2007000027. Names with letters, or that would give one id twice, are
    numbered in the order of their paths.
    """
    digits = [name.rpartition("/")[2].replace("_", "") for name in (image.name for image in files)]
    if all(text.isascii() and text.isdigit() and len(text) <= 18 for text in digits):
        ids = [int(text) for text in digits]
        if len(set(ids)) == len(ids) and min(ids) > 0:
            return ids
    return list(range(1, len(files) + 1))


def choose_categories(images: list[ImageRows], wanted: list[ClassName] | None) -> tuple[Category, ...]:
    """The classes of the list; without one VOC's 20, then other names; where no name is VOC's, those found.

    A name that is not VOC's, among names that are, is a finding.
    """
    if wanted is None:
        found = {name for rows in images for name in rows.name_N}
        wanted = read_class_names("voc")
        known = {name.name for name in wanted}
        if found and not found & known:
            wanted = [ClassName(name) for name in sorted(found)]
        else:
            wanted += [ClassName(name) for name in sorted(found - known)]
            for rows in images:
                for name in sorted(set(rows.name_N) - known):
                    rows.note(OTHER_NAME, name, "one of VOC's 20 classes; it is a class of its own")
    return tuple(Category(number, name.name, name.synset) for number, name in enumerate(wanted, start=1))


def _make_dataset(
    root: Path, images: list[ImageRows], ids: list[int], categories: tuple[Category, ...]
) -> tuple[Dataset, Counter[str]]:
    """The data set, in the order of the files, and objects of classes that were not asked for."""
    id_by_name = {category.name: category.id for category in categories}
    other_classes: Counter[str] = Counter()
    used, columns, boxes, details = [], [], [], []
    for image_id, rows in zip(ids, images, strict=True):
        if rows.size is None:
            continue
        used.append(Image(image_id, _file_name(rows), *rows.size))
        for name, box, difficult, detail in zip(
            rows.name_N, rows.boxes_xywh_N, rows.difficult_N, rows.detail_N, strict=True
        ):
            if name in id_by_name:
                columns.append((image_id, id_by_name[name], int(difficult)))
                boxes.append(box)
                details.append(detail)
            else:
                other_classes[name] += 1
    columns_3N = np.array(columns, dtype=np.int64).reshape(-1, 3).T
    boxes_N4 = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    extra_N = np.empty(len(details), dtype=object)
    extra_N[:] = details
    annotations = Annotations(
        id_N=np.arange(1, len(boxes) + 1),
        image_id_N=columns_3N[0],
        category_id_N=columns_3N[1],
        boxes_xywh_N4=boxes_N4,
        area_N=boxes_N4[:, 2] * boxes_N4[:, 3],
        crowd_N=columns_3N[2],
        extra_N=extra_N,
    )
    return Dataset(tuple(used), categories, annotations), other_classes


def _file_name(rows: ImageRows) -> str:
    folder = rows.files.name.rpartition("/")[0]
    return "/".join(filter(None, (folder, "JPEGImages", rows.photo)))


def _account(images: list[ImageRows], dataset: Dataset, other_classes: Counter[str]) -> dict[str, Any]:
    """What was found, and what became of it, as counts."""
    used = [rows for rows in images if rows.size]
    findings = Counter(finding.kind for rows in images for finding in rows.findings)
    return {
        "dataset": "voc",
        "num_classes": len(dataset.categories),
        "images": {"found": len(images), "written": len(used), "left_out": len(images) - len(used)},
        "objects": {
            "written": len(dataset.annotations),
            "difficult": int(dataset.annotations.crowd_N.sum()),
            "skipped": {f"class {name!r} not asked for": n for name, n in sorted(other_classes.items())},
        },
        "findings": dict(sorted(findings.items())),
        "tags_left_out": dict(sorted(Counter(tag for rows in images for tag in rows.other_tags).items())),
    }


def _messages(
    images: list[ImageRows],
    categories: tuple[Category, ...],
    wanted: list[ClassName] | None,
    photos_alone: list[str],
) -> list[str]:
    messages = []
    if photos_alone:
        messages.append(
            f"{len(photos_alone)} photographs have no annotation and are left out, such as {photos_alone[0]}"
        )
    if not any(rows.files.photos for rows in images):
        messages.append("there is no folder JPEGImages: sizes are those that the annotations say")
    if wanted is None and not any(category.synset for category in categories):
        messages.append(
            f"no class is one of VOC's 20: the {len(categories)} names found are the classes, in the order "
            "of the alphabet"
        )
    seen = {name for rows in images for name in rows.name_N}
    for category in categories:
        if category.name not in seen and wanted is not None:
            messages.append(f"class {category.name!r} stays without boxes: no object has this name")
    return messages
