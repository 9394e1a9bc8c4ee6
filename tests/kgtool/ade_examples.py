"""Small images in ADE20K's layouts, written file by file as the data set is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from kgtool.datasets.ade import BoxOptions, boxes_of_ade

NAMES = ("-", "sky", "car, auto, automobile, machine, motorcar", "wheel", "person, individual", "rim", "dog")
SIZE = (24, 32)  # height, width
PARTS = BoxOptions(with_parts=True)


@dataclass(frozen=True)
class Thing:
    """A rectangle of a class: left, top, width, height in pixels; later things stand before earlier ones."""

    name: str
    box: tuple[int, int, int, int]
    level: int = 0
    raw_name: str = ""
    attributes: str = ""
    occluded: bool = False
    part_of: int | None = None

    @property
    def place(self) -> int:
        """Place of the class in the list of names, from 1."""
        return NAMES.index(self.name) + 1

    def corners(self) -> list[tuple[int, int]]:
        """The corner pixels, clockwise."""
        left, top, width, height = self.box
        right, bottom = left + width - 1, top + height - 1
        return [(left, top), (right, top), (right, bottom), (left, bottom)]


SKY, CAR, WHEEL, PERSON, RIM, DOG = NAMES[1:]
STREET = (
    Thing(SKY, (0, 0, 32, 10)),
    Thing(CAR, (2, 8, 14, 12), raw_name="taxi", attributes="parked, yellow", occluded=True),
    Thing(PERSON, (10, 12, 5, 10), raw_name="man", attributes="walking"),
    Thing(CAR, (20, 9, 10, 8)),
    Thing(WHEEL, (3, 15, 4, 4), level=1, part_of=1),
    Thing(WHEEL, (22, 13, 3, 3), level=1, part_of=3),
    Thing(RIM, (4, 16, 2, 2), level=2, part_of=4),
)


def colour(place: int, blue: int) -> tuple[int, int, int]:
    """The colour of an instance."""
    return place // 256 * 10, place % 256, blue


def paint(things: Sequence[Thing], size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """The mask of things of one level; blue values are spread over 1..255 in the order of the things."""
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    for number, thing in enumerate(things, start=1):
        left, top, width, height = thing.box
        pixels[top : top + height, left : left + width] = colour(
            thing.place, round(255 * number / len(things))
        )
    return pixels


def save(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a PNG, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_masks(root: Path, name: str, things: Sequence[Thing]) -> None:
    """NAME_seg.png and NAME_parts_N.png."""
    save(paint([thing for thing in things if thing.level == 0]), root / f"{name}_seg.png")
    for level in sorted({thing.level for thing in things if thing.level}):
        save(paint([thing for thing in things if thing.level == level]), root / f"{name}_parts_{level}.png")


def text_lines(things: Sequence[Thing]) -> list[str]:
    """The lines of NAME_atr.txt: numbers count in each level."""
    count = dict.fromkeys(range(10), 0)
    lines = []
    for thing in sorted(things, key=lambda thing: thing.level):
        count[thing.level] += 1
        lines.append(
            f"{count[thing.level]:03d} # {thing.level} # {int(thing.occluded)} # {thing.name} # "
            f'{thing.raw_name or thing.name.split(",")[0]} # "{thing.attributes}"'
        )
    return lines


def save_2016(root: Path, name: str, things: Sequence[Thing] = STREET) -> None:
    """An image of the 2016/17 layout; the text has no final newline."""
    save_masks(root, name, things)
    (root / f"{name}_atr.txt").write_text("\n".join(text_lines(things)), encoding="utf-8")


def json_objects(name: str, things: Sequence[Thing]) -> list[dict[str, Any]]:
    """Entries as in NAME.json, with its dirt: a thing's id is 10 times its position."""
    objects = []
    for position, thing in enumerate(things):
        children = [10 * other for other, child in enumerate(things) if child.part_of == position]
        x, y = zip(*thing.corners(), strict=True)
        objects.append(
            {
                "id": 10 * position,
                "name": thing.name,
                "name_ndx": thing.place,
                "raw_name": thing.raw_name or thing.name.split(",")[0],
                "attributes": thing.attributes or [],
                "occluded": "yes" if thing.occluded else [],
                "crop": "0",
                "parts": {
                    "hasparts": children[0] if len(children) == 1 else children,
                    "ispartof": [] if thing.part_of is None else 10 * thing.part_of,
                    "part_level": thing.level,
                },
                "instance_mask": f"{name}/instance_{10 * position:03d}_{name}.png",
                "polygon": {"x": x, "y": y},
            }
        )
    return objects


def save_json(
    root: Path, name: str, objects: Sequence[Any], size: tuple[int, int] = SIZE, encoding: str = "utf-8"
) -> None:
    """NAME.json."""
    document = {"annotation": {"filename": f"{name}.jpg", "imsize": [*size, 3], "object": objects}}
    (root / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False), encoding=encoding)


def save_2021(root: Path, name: str, things: Sequence[Thing] = STREET) -> None:
    """An image of the 2021 layout; entries stand in the reverse order of the blue values."""
    save_masks(root, name, things)
    save_json(root, name, json_objects(name, things)[::-1])


def save_own_mask(root: Path, name: str, things: Sequence[Thing], position: int) -> None:
    """NAME/instance_NNN_NAME.png: 255 where the thing is seen, 128 where others stand before it."""
    level = [thing for thing in things if thing.level == things[position].level]
    pixels = paint(level)
    blue = round(255 * (level.index(things[position]) + 1) / len(level))
    left, top, width, height = things[position].box
    mask = np.zeros(pixels.shape[:2], dtype=np.uint8)
    mask[top : top + height, left : left + width] = 128
    mask[pixels[:, :, 2] == blue] = 255
    save(mask, root / name / f"instance_{10 * position:03d}_{name}.png")


def save_names(path: Path) -> Path:
    """The list of names."""
    path.write_text(json.dumps(NAMES))
    return path


def load(out: Path) -> tuple[dict[str, Any], list[list[str]], dict[str, Any]]:
    """instances.json, the rows of report.csv without its header, and report.json."""
    import csv

    with (out / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "kind", "level", "instance", "entry", "found", "expected"]
    return (
        json.loads((out / "instances.json").read_text(encoding="utf-8")),
        rows[1:],
        json.loads((out / "report.json").read_text(encoding="utf-8")),
    )


def boxes(root: Path, out: Path, options: BoxOptions = PARTS, **more: Any) -> tuple[Any, Any, Any]:
    """Make boxes; what `load` finds then."""
    boxes_of_ade(root, out, options=options, **more)
    return load(out)


def kinds(findings: list[list[str]]) -> list[str]:
    """The kinds of rows of report.csv."""
    return [row[1] for row in findings]


def slow_boxes(root: Path, name: str, level: int) -> list[tuple[int, list[int], int]]:
    """Class, box and area of each instance by comparing the whole mask with each blue value."""
    path = root / (f"{name}_parts_{level}.png" if level else f"{name}_seg.png")
    with Image.open(path) as image:
        pixels = np.array(image).astype(int)
    rows = []
    for blue in np.unique(pixels[:, :, 2])[1:]:
        ys, xs = np.where(pixels[:, :, 2] == blue)
        red, green, _ = pixels[ys[0], xs[0]]
        left, top = xs.min(), ys.min()
        box = [left, top, xs.max() - left + 1, ys.max() - top + 1]
        rows.append((int(red // 10 * 256 + green), [int(number) for number in box], len(ys)))
    return rows


def check_boxes(root: Path, document: dict[str, Any]) -> None:
    """Every annotation equals the slow reference, and its code decodes to its own pixels."""
    for image in document["images"]:
        name = image["file_name"].removesuffix(".jpg")
        rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
        for level in sorted({row.get("part_level", 0) for row in rows}):
            of_level = [row for row in rows if row.get("part_level", 0) == level]
            expected = slow_boxes(root, name, level)
            assert [(row["category_id"], row["bbox"], row["area"]) for row in of_level] == expected
            assert [row["instance"] for row in of_level] == list(range(1, len(expected) + 1))
            for row in of_level:
                code = row["segmentation"]
                assert code["size"] == [image["height"], image["width"]]
                assert coco_mask.area(code) == row["area"]
                assert coco_mask.toBbox(code).tolist() == row["bbox"]


def with_good_image(root: Path) -> Path:
    """A folder with one image that is as it should be, so that its boxes can be looked for."""
    save_2016(root, "good")
    return root


def check_rest(document: dict[str, Any]) -> None:
    """The good image is there, with all its boxes."""
    images = {image["file_name"]: image["id"] for image in document["images"]}
    assert sum(row["image_id"] == images["good.jpg"] for row in document["annotations"]) == 7
