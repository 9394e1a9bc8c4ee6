"""The files of VOC below a folder, and one image: boxes counted from 0, and what disagrees.

    VOC2007/Annotations/000005.xml  VOC2007/JPEGImages/000005.jpg  VOC2007/ImageSets/Main/trainval.txt

A box of VOC has corner pixels that count from 1 and belong to it. Here left = xmin - 1, top = ymin - 1,
width = xmax - xmin + 1 and height = ymax - ymin + 1, as in Detectron2: a box from 1 to the image's width is
as wide as the image. (MMDetection leaves the + 1 out, so that its boxes are one pixel smaller.)
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kgtool.errors import InputError
from kgtool.pascal_voc.annotation import Annotation, Thing, read_annotation
from kgtool.pascal_voc.findings import (
    BAD_BOX,
    BAD_PART,
    BAD_PHOTO,
    CUT,
    LATIN,
    NO_AREA,
    NO_NAME,
    NO_PHOTO,
    NO_SIZE,
    OTHER_SIZE,
    OUTSIDE,
    UNREADABLE,
    Finding,
)

Box = tuple[float, float, float, float]
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
#: The lists of ImageSets/Main that name images, and not what is on them.
SETS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class ImageFiles:
    """Where the files of one image are.

    Attributes:
        name: path of the image below the data set's folder, without Annotations and ending: VOC2007/000005.
        annotation: the XML file.
        photos: the folder of photographs, or None where there is none.
        photo: name of the photograph in it, by the name of the XML file, or empty.
    """

    name: str
    annotation: Path
    photos: Path | None
    photo: str


@dataclass(eq=False)
class ImageRows:
    """What the files of one image say, one row an object that can be used.

    Attributes:
        files: where they are.
        photo: name of the photograph in its folder, whether it is there or not.
        size: width and height in pixels; None where the image is left out.
        name_N: class names.
        boxes_xywh_N: in pixels, inside the image.
        difficult_N: whether the object is marked as difficult.
        detail_N: what else is said of it, as members of a JSON object; b"" where nothing.
        other_tags: tags of objects that are not kept.
        findings: what is not as it should be.
    """

    files: ImageFiles
    photo: str
    size: tuple[int, int] | None = None
    name_N: list[str] = field(default_factory=list)
    boxes_xywh_N: list[Box] = field(default_factory=list)
    difficult_N: list[bool] = field(default_factory=list)
    detail_N: list[bytes] = field(default_factory=list)
    other_tags: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: str, found: str, expected: str, number: int | str = "", name: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(self.files.name, kind, number, name, found, expected))


def find_folders(root: Path) -> list[Path]:
    """The folders with Annotations: the root itself, or those below it, or those below its VOCdevkit.

    Raises:
        InputError: there is no such folder, or none with Annotations.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected VOCdevkit, or a folder with Annotations")
    for start in (root, root / "VOCdevkit"):
        folders = (
            [start, *sorted(path for path in start.iterdir() if path.is_dir())] if start.is_dir() else []
        )
        found = [folder for folder in folders if (folder / "Annotations").is_dir()]
        if found:
            return found[:1] if found[0] == start else found
    raise InputError(f"{root}: found no Annotations; expected VOCdevkit, or a folder with Annotations/*.xml")


def find_images(root: Path, folders: list[Path]) -> tuple[list[ImageFiles], list[str]]:
    """Find the annotations, in the order of their paths, and photographs that have none.

    Raises:
        InputError: there is no annotation, or a name that is not UTF-8.
    """
    found: list[ImageFiles] = []
    alone: list[str] = []
    for folder in folders:
        photos = folder / "JPEGImages"
        names = _names_in(photos) if photos.is_dir() else []
        photo_by_stem = {
            name.rpartition(".")[0]: name for name in names if name.lower().endswith(PHOTO_SUFFIXES)
        }
        below = folder.relative_to(root)
        for name in _names_in(folder / "Annotations"):
            stem, _, ending = name.rpartition(".")
            if ending.lower() == "xml" and stem and not name.startswith("."):
                _check_utf8(name)
                place = (below / stem).as_posix()
                photo = photo_by_stem.pop(stem, "")
                files = ImageFiles(
                    place, folder / "Annotations" / name, photos if photos.is_dir() else None, photo
                )
                found.append(files)
        alone += [(below / stem).as_posix() for stem in photo_by_stem]
    if not found:
        raise InputError(f"{folders[0] / 'Annotations'}: found no XML; expected an annotation an image")
    return found, alone


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read ({error.strerror})") from None


def _check_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name!r}: found a name that is not UTF-8; rename it") from None


def find_sets(folders: list[Path]) -> dict[str, Path]:
    """The lists of images of ImageSets/Main, by the folder's name and their own: "VOC2007/trainval"."""
    lists = {
        f"{folder.resolve().name}/{name}": folder / "ImageSets" / "Main" / f"{name}.txt"
        for folder in folders
        for name in SETS
    }
    return {name: path for name, path in lists.items() if path.is_file()}


def read_image(files: ImageFiles) -> ImageRows:
    """Read the files of one image; whatever is wrong with them becomes a finding."""
    rows = ImageRows(files, files.photo or f"{files.annotation.stem}.jpg")
    try:
        annotation = read_annotation(files.annotation.read_bytes())
    except (InputError, OSError) as error:
        text = f"{error.strerror}" if isinstance(error, OSError) else str(error).removeprefix("found ")
        found, _, expected = text.partition("; expected ")
        rows.note(UNREADABLE, found, expected or "a VOC annotation")
        return rows
    if annotation.is_latin:
        rows.note(LATIN, "bytes that are not UTF-8", "UTF-8; read as Latin-1")
    rows.size = _size(rows, annotation)
    if rows.size is not None:
        for number, thing in enumerate(annotation.things, start=1):
            _add(rows, number, thing, rows.size)
    return rows


def _size(rows: ImageRows, annotation: Annotation) -> tuple[int, int] | None:
    """The photograph's size where it is there, else the annotation's."""
    actual = _photo_size(rows, annotation.file_name)
    written = annotation.size
    if written is None and actual is None:
        rows.note(NO_SIZE, "no width and height, and no photograph", "a size, or the photograph")
    elif written is None:
        rows.note(NO_SIZE, "no width and height", "a size; the photograph's is used")
    elif actual is not None and actual != written:
        found, expected = (f"{width} x {height}" for width, height in (written, actual))
        rows.note(OTHER_SIZE, found, f"{expected}, as the photograph, which is used")
    return actual or written


def _photo_size(rows: ImageRows, named: str) -> tuple[int, int] | None:
    from PIL import Image

    photos = rows.files.photos
    if photos is None:
        return None
    named = named.replace("\\", "/").rpartition("/")[2]
    if not rows.files.photo and named.lower().endswith(PHOTO_SUFFIXES) and (photos / named).is_file():
        rows.photo = named
    elif not rows.files.photo:
        rows.note(NO_PHOTO, "no file", f"JPEGImages/{rows.photo}")
        return None
    try:
        with Image.open(photos / rows.photo) as photo:
            return photo.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        rows.note(BAD_PHOTO, "no image that can be read", "a photograph; the annotation's size is used")
        return None


def _add(rows: ImageRows, number: int, thing: Thing, size: tuple[int, int]) -> None:
    if not thing.name:
        rows.note(NO_NAME, f"no name, {thing.box_text}", "a class name", number)
        return
    if thing.corners is None:
        rows.note(BAD_BOX, thing.box_text, "four numbers", number, thing.name)
        return
    if thing.corners[2] < thing.corners[0] or thing.corners[3] < thing.corners[1]:
        rows.note(NO_AREA, thing.box_text, "xmax and ymax not below xmin and ymin", number, thing.name)
        return
    whole = box_of(thing)
    box = _clip(whole, size)
    if box[2] < 1 or box[3] < 1:
        rows.note(OUTSIDE, thing.box_text, f"a box in {size[0]} x {size[1]}", number, thing.name)
        return
    if box != whole:
        rows.note(CUT, thing.box_text, f"a box in {size[0]} x {size[1]}; cut", number, thing.name)
    rows.name_N.append(thing.name)
    rows.boxes_xywh_N.append(box)
    rows.difficult_N.append(thing.difficult)
    rows.detail_N.append(_detail(rows, number, thing))
    rows.other_tags += thing.other_tags


def box_of(thing: Thing) -> Box:
    """Left, top, width and height, counted from 0; see the module's text."""
    assert thing.corners is not None
    left, top, right, bottom = thing.corners
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def _clip(box: Box, size: tuple[int, int]) -> Box:
    left, top, width, height = box
    if left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]:
        return box  # as written: a difference of sums would change the last digits of floats
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0), max(top, 0)
    return left, top, right - left, bottom - top


def _detail(rows: ImageRows, number: int, thing: Thing) -> bytes:
    members: dict[str, Any] = {"ignore": 1, "difficult": 1} if thing.difficult else {}
    members |= thing.flags
    parts = []
    for part in thing.parts:
        if part.name and part.corners:
            parts.append(
                {
                    "name": part.name,
                    "bbox": [int(value) if value == int(value) else value for value in box_of(part)],
                }
            )
        else:
            rows.note(
                BAD_PART,
                f"{part.name or 'no name'}, {part.box_text}",
                "a name and four numbers",
                number,
                thing.name,
            )
    if parts:
        members["parts"] = parts
    return msgspec.json.encode(members)[1:-1]
