"""ADE20K as a detection data set: masks become boxes, compared image by image with what describes them.

    2016/17     NAME.jpg  NAME_seg.png  NAME_parts_1.png ...  NAME_atr.txt
    2021        NAME.jpg  NAME_seg.png  NAME_parts_1.png ...  NAME.json  NAME/instance_000_NAME.png ...
    challenge   images/training/NAME.jpg  annotations/training/NAME.png, values 0 to 150

In the first two red and green are the class (red // 10 * 256 + green, a place in the list of names, from 1)
and blue is the instance. The challenge has no instances: there a box is one connected component of a class,
which is an approximation, and marked as one.

The class comes from the colours. Names, attributes, occlusion and cropping come from text or JSON. Where
the two disagree, report.csv says so. See docs/datasets.md.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kgtool.ade20k.findings import OTHER_CLASS, Finding
from kgtool.ade20k.images import ALONE, INDEX, JSON, TEXT, ImageFiles, ImageRows, read_image
from kgtool.ade20k.names import (
    Choice,
    choose_categories,
    compare_classes,
    load_names,
    names_in_use,
    names_of_rows,
)
from kgtool.ade20k.published_sets import published_sets
from kgtool.class_names import read_class_names
from kgtool.class_overlap import overlap_with, without_background
from kgtool.coco import Annotations, Dataset, Image, load_dataset, save_dataset
from kgtool.dataset_folders import Account, findings_csv, write_split
from kgtool.errors import InputError
from kgtool.files import atomic_folder
from kgtool.processes import map_in_order
from kgtool.published_splits import choose_split
from kgtool.splits import ImageChoice, Split
from kgtool.targets import load_target
from kgtool.wordnet import load_nouns

_PARTS = re.compile(r"(.+)_parts_([1-9][0-9]*)\.png")
BY_SEED = ImageChoice()


@dataclass(frozen=True)
class BoxOptions:
    """What becomes a box.

    Attributes:
        with_parts: parts of objects as well, not whole objects alone.
        min_area: smaller masks are left out; in pixels.
        classes: the classes to keep, as `read_class_names` takes them; None keeps all.
        names: the list that the colours count in; None takes it from the texts and JSONs.
    """

    with_parts: bool = False
    min_area: int = 0
    classes: str | None = None
    names: Path | None = None


def boxes_of_ade(
    root: Path,
    out: Path,
    *,
    options: BoxOptions = BoxOptions(),
    strict: bool = False,
    overwrite: bool = False,
    num_workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the folder `out` with instances.json (COCO JSON), report.csv (findings) and report.json.

    Args:
        root: folder with the images of one layout, at any depth.
        out: a folder that does not exist, or is empty.
        options: what becomes a box.
        strict: make the first finding an error.
        overwrite: replace the folder if it is there.
        num_workers: processes that read.
        on_progress: told how many images of how many are read.

    Returns:
        The report, as in report.json. `images.left_out` counts those whose mask could not be used.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        InputError: no mask is there, none can be read, a list of names or classes cannot be used, or
            there is a finding where `strict` is asked for.
    """
    files = find_images(root)
    given = load_names(options.names) if options.names else {}
    wanted = read_class_names(options.classes) if options.classes else None
    contents = ("instances.json", "report.json", "report.csv")
    with atomic_folder(out, contents, overwrite=overwrite) as part:
        images = []
        read = partial(read_image, with_parts=options.with_parts)
        for number, rows in enumerate(map_in_order(read, files, num_workers), start=1):
            if strict:
                _check_clean([rows])
            images.append(rows)
            if on_progress:
                on_progress(number, len(files))
        if not any(rows.size for rows in images):
            why = images[0].findings[-1].line()
            raise InputError(f"{root}: none of {len(files)} masks can be used; {why}")
        if files[0].layout == INDEX and not given:
            challenge = read_class_names("ade150")
            given = {place: name.name for place, name in enumerate(challenge, start=1)}
            wanted = challenge if wanted is None else wanted
        names = names_in_use(images) | given
        for rows in images:
            compare_classes(rows, names)
        if strict:
            _check_clean(images)
        choice = choose_categories(
            {name for rows in images for name in names_of_rows(rows, names) if name}, names, wanted
        )
        dataset, left_out = make_dataset(images, names, choice, options.min_area)
        report = _account(images, dataset, left_out) | {"messages": [*choice.messages, *_doubts(images)]}
        save_dataset(dataset, part / "instances.json")
        findings = findings_csv(Finding, chain.from_iterable(rows.findings for rows in images))
        (part / "report.csv").write_text(findings, encoding="utf-8")
        (part / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return report


def find_images(root: Path) -> list[ImageFiles]:
    """Find the masks below a folder and what belongs to each, in the order of their paths.

    Where there are no masks of the full data set (NAME_seg.png), the PNGs are the challenge's: those below
    the folder's `annotations`, if it has one. Photographs need not be there.

    Raises:
        InputError: there is no such folder, or no mask in it, or a folder or name in it cannot be read.
    """
    found = [files for folder, names in _walk(root) for files in _full_images(root, folder, names)]
    if not found:
        annotations = root / "annotations"
        start = annotations if annotations.is_dir() else root
        found = [files for folder, names in _walk(start) for files in _index_images(root, folder, names)]
    if not found:
        raise InputError(f"{root}: found no NAME_seg.png and no other PNG; expected a folder of ADE20K masks")
    return sorted(found, key=lambda files: files.name)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a folder of ADE20K masks")
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in (folder, *names):
            if not _is_utf8(name):
                raise InputError(f"{name!r}: found a name that is not UTF-8; rename it")
        yield Path(folder), names


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: folder cannot be read ({error.strerror})")


def _full_images(root: Path, folder: Path, names: list[str]) -> Iterator[ImageFiles]:
    there = set(names)
    parts: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for name in names:
        if match := _PARTS.fullmatch(name):
            parts[match[1]].append((int(match[2]), folder / name))
    for name in names:
        stem = name.removesuffix("_seg.png")
        if stem == name or not stem:
            continue
        texts = [(JSON, f"{stem}.json"), (TEXT, f"{stem}_atr.txt")]
        layout, text = next(((layout, text) for layout, text in texts if text in there), (ALONE, None))
        yield ImageFiles(
            name=(folder / stem).relative_to(root).as_posix(),
            file_name=(folder / f"{stem}.jpg").relative_to(root).as_posix(),
            layout=layout,
            mask=folder / name,
            photo=folder / f"{stem}.jpg",
            description=folder / text if text else None,
            parts=tuple(sorted(parts[stem])),
        )


def _index_images(root: Path, folder: Path, names: list[str]) -> Iterator[ImageFiles]:
    for name in names:
        if not name.endswith(".png"):
            continue
        place = (folder / name).relative_to(root)
        photo = place.with_suffix(".jpg")
        if photo.parts[0] == "annotations":
            photo = Path("images", *photo.parts[1:])
        yield ImageFiles(
            place.with_suffix("").as_posix(), photo.as_posix(), INDEX, folder / name, root / photo
        )


def _check_clean(images: list[ImageRows]) -> None:
    for rows in images:
        if rows.findings:
            raise InputError(f"{rows.findings[0].line()}; correct it, or leave out --strict")


def make_dataset(
    images: list[ImageRows], names: Mapping[int, str], choice: Choice, min_area: int
) -> tuple[Dataset, dict[str, int]]:
    """Make the data set of the classes chosen; also counts the instances left out, by reason.

    An image's id is its position among all images found, so that it does not depend on which can be read.
    """
    left_out = {"class not asked for": 0, f"area below {min_area}": 0, "class without a name": 0}
    records: list[tuple[int, int, int]] = []  # image id, category id, area
    boxes, extras = [], []
    for image_id, rows in enumerate(images, start=1):
        kept: dict[int, int] = {}
        for row, name in enumerate(names_of_rows(rows, names)):
            category_id = choice.id_by_name.get(name)
            if not name or category_id is None:
                left_out["class not asked for" if name else "class without a name"] += 1
            elif rows.area_N[row] < min_area:
                left_out[f"area below {min_area}"] += 1
            else:
                kept[row] = len(records) + 1
                records.append((image_id, category_id, rows.area_N[row]))
        boxes += [rows.boxes_xywh_N4[row] for row in kept]
        extras += [_extra(rows, row, kept) for row in kept]
        rows.mask_N.clear()
    columns = np.array(records, dtype=np.int64).reshape(-1, 3).T
    extra_N = np.empty(len(extras), dtype=object)
    extra_N[:] = extras
    annotations = Annotations(
        id_N=np.arange(1, len(records) + 1),
        image_id_N=columns[0],
        category_id_N=columns[1],
        boxes_xywh_N4=np.array(boxes, dtype=np.int32).reshape(-1, 4),
        area_N=columns[2],
        crowd_N=np.zeros(len(records), dtype=np.int64),
        extra_N=extra_N,
    )
    kept_images = tuple(
        Image(number, rows.files.file_name, rows.size[1], rows.size[0])
        for number, rows in enumerate(images, start=1)
        if rows.size
    )
    return Dataset(kept_images, choice.categories, annotations), left_out


def _extra(rows: ImageRows, row: int, kept: Mapping[int, int]) -> bytes:
    """Mask, description and place in the image of one box, as members of a JSON object."""
    members = [b'"segmentation":%b' % rows.mask_N[row], b'"instance":%d' % rows.instance_N[row]]
    if rows.files.layout == INDEX:
        members.append(b'"approximate":true')
    if rows.level_N[row]:
        members.append(b'"part_level":%d' % rows.level_N[row])
    whole = rows.whole_N[row]
    if whole is not None and whole in kept:
        members.append(b'"part_of":%d' % kept[whole])
    return b",".join([*members, rows.detail_N[row]] if rows.detail_N[row] else members)


def _account(images: list[ImageRows], dataset: Dataset, left_out: dict[str, int]) -> dict[str, Any]:
    """What was found, what became of it, and what disagrees, as counts."""
    used = [rows for rows in images if rows.size]
    num_read = sum(len(rows.level_N) for rows in images)
    parts = sum(level > 0 for rows in images for level in rows.level_N)
    findings = Counter(finding.kind for rows in images for finding in rows.findings)
    paired = sum((rows.paired for rows in images), Counter[str]())
    return {
        "dataset": "ade20k",
        "approximate": images[0].files.layout == INDEX,
        "layouts": dict(sorted(Counter(rows.files.layout for rows in images).items())),
        "images": {
            "found": len(images),
            "written": len(used),
            "left_out": len(images) - len(used),
            "without_photo": sum(not rows.files.photo.is_file() for rows in used),
        },
        "classes": len(dataset.categories),
        "instances": {
            "read": num_read,
            "of_these_parts": parts,
            "written": len(dataset.annotations),
            "left_out": {reason: count for reason, count in left_out.items() if count},
        },
        "paired_by": dict(sorted(paired.items())),
        "findings": dict(sorted(findings.items())),
    }


def _doubts(images: list[ImageRows]) -> list[str]:
    """What so many findings may come from."""
    kinds = Counter(finding.kind for rows in images for finding in rows.findings)
    paired = sum(sum(rows.paired.values()) for rows in images)
    if 2 * kinds[OTHER_CLASS] > paired:
        return [
            f"{kinds[OTHER_CLASS]} of {paired} entries name another class than the colours do: "
            "is --names of another edition, or are text and masks?"
        ]
    return []


def split_ade(
    instances: Path,
    out: Path,
    *,
    overlap: Path | None = None,
    wordnet: str = "",
    choice: ImageChoice = BY_SEED,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write train and test set of boxes made by `boxes_of_ade`, with the sets that ADE20K's paths name.

    Trained on are all images of ADE20K's training set (20,210 in 2016/17), tested on are 1,000 of its 2,000
    validation images, as many as in Jiang et al. 2018 and Xu et al. 2019. Which 1,000 those were is not
    published; these are the first by sha256 of "SEED:NAME". `choice` takes lists, such as iter-reason's.

    Args:
        instances: instances.json.
        out: a folder that does not exist, or is empty.
        overlap: a graph or class list: the classes that it has as well are kept (`kgtool.class_overlap`).
        wordnet: which WordNet finds them, as `load_nouns` takes it.
        choice: how many validation images, and which; or lists of images, which replace both sets.
        overwrite: replace the folder if it is there.

    Returns:
        The report, as in report.json.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
        ClassMatchError: no class is in the overlap.
        InputError: a file cannot be used, or one set has no image.
    """

    def make() -> tuple[Split, Account]:
        dataset = load_dataset(instances, with_extra=True)
        report: dict[str, Any] = {"dataset": "ade20k", "images": {"read": len(dataset.images)}}
        if overlap:
            target, known = load_target(overlap), read_class_names("ade")
            common = overlap_with(dataset, target, load_nouns(wordnet), known=known)
            report["merged"] = common.merged
        else:
            common = without_background(dataset)
        dataset = common.dataset
        report["boxes"] = {"skipped": common.left_out}
        report["num_classes"] = len(dataset.categories)
        by_lists = choice.train_list is not None or choice.test_list is not None
        published = None
        if not by_lists:
            published = published_sets(dataset.images, choice.num_test, choice.seed, place=str(instances))
        return choose_split(dataset, published, choice if by_lists else None), (report, "")

    return write_split(out, make, overwrite=overwrite)
