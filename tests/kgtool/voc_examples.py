"""Small folders in Pascal VOC's form, written file by file as the data set is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (60, 40)  # width, height

Thing = Mapping[str, Any]


def thing(name: str, *corners: float | str, **flags: Any) -> Thing:
    """An object: xmin, ymin, xmax, ymax as VOC counts them, from 1 and inclusive."""
    return {"name": name, "corners": corners, **flags}


def thing_xml(thing: Thing, tag: str = "object") -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), thing["corners"], strict=False)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in corners)
    flags = {key: value for key, value in thing.items() if key not in ("name", "corners", "parts")}
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in flags.items())
    parts = "".join(thing_xml(part, "part") for part in thing.get("parts", ()))
    return f"<{tag}><name>{thing['name']}</name>{inner}<bndbox>{box}</bndbox>{parts}</{tag}>"


def image_xml(things: Sequence[Thing], size: tuple[int, int] | None = SIZE) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>x</filename>{sides}{''.join(map(thing_xml, things))}</annotation>"


def write_image(
    folder: Path,
    name: str,
    things: Sequence[Thing] = (),
    *,
    xml: str | bytes | None = None,
    photo: tuple[int, int] | None = SIZE,
) -> None:
    """One image of a folder such as VOC2007; `xml` replaces the annotation, photo None leaves none."""
    for below in ("Annotations", "JPEGImages"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    text = image_xml(things) if xml is None else xml
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "Annotations" / f"{name}.xml").write_bytes(data)
    if photo:
        Image.new("RGB", photo).save(folder / "JPEGImages" / f"{name}.jpg")


def write_list(folder: Path, name: str, images: Sequence[str]) -> None:
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{name}.txt").write_text("".join(f"{image}\n" for image in images))


def write_devkit(root: Path) -> Path:
    """VOCdevkit with five images of 2007 and three of 2012, as the official lists name them."""
    dog, person, cat = thing("dog", 3, 5, 22, 30), thing("person", 10, 1, 60, 40), thing("cat", 1, 1, 9, 9)
    hard = thing("person", 30, 2, 41.5, 20, difficult=1, truncated=1, pose="Left")
    years = {
        "VOC2007": {
            "000001": [dog],
            "000002": [person, hard],
            "000005": [cat],
            "000007": [],
            "000009": [dog, cat],
        },
        "VOC2012": {"2007_000027": [person], "2008_000002": [dog, dog], "2011_000003": [cat]},
    }
    for year, images in years.items():
        for name, things in images.items():
            write_image(root / year, name, things)
    write_list(root / "VOC2007", "trainval", ["000002", "000005"])
    write_list(root / "VOC2007", "test", ["000001", "000007", "000009"])
    write_list(root / "VOC2012", "train", ["2007_000027"])
    write_list(root / "VOC2012", "val", ["2011_000003"])
    write_list(root / "VOC2012", "trainval", ["2007_000027", "2011_000003"])
    return root
