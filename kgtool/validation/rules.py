"""The rules that join the lists of a COCO file: ids, names, boxes in images, relations between boxes."""

import numpy as np

from kgtool.classes import is_background
from kgtool.coco import file_name_of_url
from kgtool.ids import position_of
from kgtool.validation.findings import Findings
from kgtool.validation.table import Table

#: A box may pass the edge by so much, px: boxes were rounded, and some data sets count to the last pixel.
EDGE_TOLERANCE = 1.0
#: Areas may differ by so much, as a part of the area and in px2.
_AREA_TOLERANCE = 0.01, 1.0


def check_unique(table: Table, field: str, kind: str, findings: Findings) -> None:
    """Tell of every record whose value another record before it has."""
    rows = table.known_rows(field)
    values = table.value[field][rows]
    if values.dtype == object:
        rows, values = rows[values != ""], values[values != ""].astype(str)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.zeros(len(rows), dtype=bool)
    again[1:] = ordered[1:] == ordered[:-1]
    group_start = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))
    repeats = np.sort(rows[order[again]])
    first = dict(zip(rows[order[again]].tolist(), rows[order[group_start[again]]].tolist(), strict=True))

    def describe(row: int) -> str:
        value = table.value[field].item(row)
        return f"{table.name}[{row}]: {field} {value!r} again, after {table.name}[{first[row]}]"

    findings.add_rows(kind, repeats, describe)


def check_known(table: Table, field: str, target: Table, findings: Findings) -> np.ndarray:
    """Tell of every id that no record of the target list has.

    Returns:
        (N,) row of the target, the first with that id; -1 where there is none.
    """
    target_rows = target.known_rows("id")
    ids, first = np.unique(target.value["id"][target_rows], return_index=True)
    position_N = np.full(table.num_rows, -1, dtype=np.int64)
    rows = table.known_rows(field)
    at = position_of(ids, table.value[field][rows])
    position_N[rows[at >= 0]] = target_rows[first[at[at >= 0]]]
    findings.add_rows(
        "dangling id",
        rows[at < 0],
        lambda row: f"{table.place(row)}: {field} {table.value[field][row]} is no id of {target.name}",
    )
    return position_N


def check_images(images: Table, findings: Findings) -> None:
    """Ids and file names are unique and inside the folder, sizes above 0.

    An image without a file name gets the one that `load_dataset` makes of its `coco_url`.
    """
    by_url = np.flatnonzero(~images.present["file_name"] & images.known["coco_url"])
    images.value["file_name"][by_url] = [file_name_of_url(url) for url in images.value["coco_url"][by_url]]
    images.known["file_name"][by_url] = True
    check_unique(images, "id", "duplicate id", findings)
    check_unique(images, "file_name", "duplicate file name", findings)
    width_N, height_N = images.value["width"], images.value["height"]
    rows = images.known_rows("width", "height")
    findings.add_rows(
        "image without size",
        rows[(width_N[rows] < 1) | (height_N[rows] < 1)],
        lambda row: f"{images.place(row)}: width {width_N[row]}, height {height_N[row]}",
    )
    names = images.value["file_name"]
    rows = images.known_rows("file_name")
    empty = rows[names[rows] == ""]
    findings.add_rows("missing field", empty, lambda row: f"{images.place(row)}: an empty file_name")
    leaving = [row for row in rows.tolist() if leaves_folder(names[row])]
    findings.add_rows(
        "file name leaves the folder",
        np.array(leaving, dtype=np.int64),
        lambda row: f"{images.place(row)}: {names[row]!r}",
    )


def leaves_folder(name: str) -> bool:
    """Say whether a file name is not a path below a folder: absolute, with `..`, or with backslashes."""
    return name.startswith("/") or "\\" in name or (".." in name and ".." in name.split("/"))


def check_categories(categories: Table, findings: Findings) -> None:
    """Ids, names and synsets are unique, and none is the background."""
    check_unique(categories, "id", "duplicate id", findings)
    check_unique(categories, "name", "duplicate category name", findings)
    check_unique(categories, "synset", "duplicate synset", findings)
    for row in categories.known_rows("name").tolist():
        name = categories.value["name"][row]
        if not name.strip():
            findings.add("missing field", f"{categories.place(row)}: an empty name")
        elif is_background(name):
            findings.add("background as category", f"{categories.place(row)}: {name!r}")


def check_boxes(
    annotations: Table, images: Table, image_N: np.ndarray, has_mask_rows: np.ndarray, findings: Findings
) -> None:
    """Boxes are finite, have an area, and lie in their image; `area` is about right.

    Args:
        annotations: N of them.
        images: the images.
        image_N: row of each annotation's image, or -1.
        has_mask_rows: annotations with a mask, whose area may be less than the box's.
        findings: told of the others.
    """
    box_N4, known_N = annotations.value["bbox"], annotations.known["bbox"]

    def tell(kind: str, bad_N: np.ndarray) -> None:
        findings.add_rows(
            kind,
            np.flatnonzero(bad_N),
            lambda row: f"{annotations.place(row)}: bbox {_numbers(box_N4[row])}{size_of_image(row)}",
        )

    def size_of_image(row: int) -> str:
        if not sized_N[row]:
            return ""
        return f" in an image of {width_N[row]} x {height_N[row]}"

    finite_N = known_N & np.isfinite(box_N4).all(axis=1)
    whole_N = finite_N & (box_N4[:, 2] > 0) & (box_N4[:, 3] > 0)
    width_N, height_N = sizes_of(images, image_N)
    sized_N = (width_N > 0) & (height_N > 0) & finite_N
    left_N, top_N, box_width_N, box_height_N = np.where(finite_N[:, None], box_N4, 0).T
    with np.errstate(over="ignore"):  # numbers near the largest that there is
        right_N, bottom_N = left_N + box_width_N, top_N + box_height_N
        box_area_N = box_width_N * box_height_N
    outside_N = (left_N >= width_N) | (top_N >= height_N) | (right_N <= 0) | (bottom_N <= 0)
    outside_N &= sized_N & whole_N
    beyond_N = np.maximum(np.maximum(-left_N, -top_N), np.maximum(right_N - width_N, bottom_N - height_N))
    tell("box not finite", known_N & ~finite_N)
    tell("empty box", finite_N & ~whole_N)
    tell("box outside the image", outside_N)
    tell("box past the edge", sized_N & whole_N & ~outside_N & (beyond_N > EDGE_TOLERANCE))
    tell("box below 1 px", whole_N & ((box_width_N < 1) | (box_height_N < 1)))
    _check_areas(annotations, box_area_N, whole_N, has_mask_rows, findings)


def _check_areas(
    annotations: Table,
    box_area_N: np.ndarray,
    whole_N: np.ndarray,
    has_mask_rows: np.ndarray,
    findings: Findings,
) -> None:
    area_N, known_N = annotations.value["area"], annotations.known["area"]
    findings.add_rows(
        "missing area",
        np.flatnonzero(annotations.known["bbox"] & ~annotations.present["area"]),
        lambda row: f"{annotations.place(row)}: no area",
    )
    part, least = _AREA_TOLERANCE
    slack_N = np.maximum(part * box_area_N, least)
    masked_N = np.zeros(annotations.num_rows, dtype=bool)
    masked_N[has_mask_rows] = True
    with np.errstate(invalid="ignore", over="ignore"):  # areas that are not finite
        right_N = (area_N <= box_area_N + slack_N) & (area_N >= np.where(masked_N, 0, box_area_N - slack_N))
    findings.add_rows(
        "area differs",
        np.flatnonzero(whole_N & known_N & ~right_N),
        lambda row: f"{annotations.place(row)}: area {area_N[row]:g}, box {box_area_N[row]:g}",
    )


def sizes_of(images: Table, image_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height of the image at each row; 0 where the row is -1 or the image has no size."""
    if images.num_rows == 0:
        nothing = np.zeros(len(image_N), dtype=np.int64)
        return nothing, nothing
    good_I = images.known["width"] & images.known["height"]
    good_N = (image_N >= 0) & good_I[image_N]
    width_N = np.where(good_N, images.value["width"][image_N], 0)
    height_N = np.where(good_N, images.value["height"][image_N], 0)
    return width_N, height_N


def check_used(table: Table, used_N: np.ndarray, kind: str, name: str, findings: Findings) -> None:
    """Tell of the images or categories that no annotation belongs to.

    Args:
        table: images or categories.
        used_N: row of the table for each annotation, or -1.
        kind: what to tell.
        name: the field that says which it is.
        findings: told.
    """
    unused = np.ones(table.num_rows, dtype=bool)
    unused[used_N[used_N >= 0]] = False
    findings.add_rows(
        kind,
        np.flatnonzero(unused & table.known["id"]),
        lambda row: f"{table.place(row)}, {table.value[name][row]!r}",
    )


def check_relations(tables: dict[str, Table], findings: Findings) -> None:
    """Relations have ids of their own, and lead to boxes of their image and to a predicate."""
    relations, predicates = tables["rel_annotations"], tables["rel_categories"]
    check_unique(predicates, "id", "duplicate id", findings)
    check_unique(relations, "id", "duplicate id", findings)
    check_known(relations, "image_id", tables["images"], findings)
    check_known(relations, "predicate_id", predicates, findings)
    for field in ("subject_id", "object_id"):
        _check_end(relations, field, tables["annotations"], findings)


def _check_end(relations: Table, field: str, annotations: Table, findings: Findings) -> None:
    box_N = check_known(relations, field, annotations, findings)
    image_ids = annotations.value["image_id"]
    rows = np.flatnonzero((box_N >= 0) & relations.known["image_id"])
    rows = rows[annotations.known["image_id"][box_N[rows]]]
    findings.add_rows(
        "relation across images",
        rows[image_ids[box_N[rows]] != relations.value["image_id"][rows]],
        lambda row: (
            f"{relations.place(row)}, of image {relations.value['image_id'][row]}: {field} "
            f"{relations.value[field][row]} is in image {image_ids[box_N[row]]}"
        ),
    )


def _numbers(box: np.ndarray) -> list[float]:
    """Numbers as a person writes them: whole ones without a point."""
    return [int(number) if number.is_integer() else number for number in box.tolist()]
