"""One VOC annotation: XML as objects with a name, corners and flags, and what of it cannot be used.

    <annotation><size><width>353</width><height>500</height></size>
      <object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
        <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
        <part><name>head</name><bndbox>...</bndbox></part></object></annotation>

Corners may be floats, any tag may be empty, and any but the name and the box may be missing. An XML file that
declares a document type is refused: VOC has none, and a declared entity can grow beyond any memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from kgtool.errors import InputError

#: VOC's annotations are five deep.
MAX_DEPTH = 64
Corners = tuple[float, float, float, float]
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_KNOWN_TAGS = {"name", "pose", "truncated", "difficult", "occluded", "bndbox", "part"}


@dataclass(frozen=True)
class Thing:
    """An object, or a part of one.

    Attributes:
        name: without blanks at its ends; empty where the file has none.
        corners: left, top, right, bottom as written: VOC counts pixels from 1, and right and bottom belong to
            the box. None where the file has no four numbers.
        box_text: the corners as text, for messages.
        difficult: marked as hard to recognise; VOC's evaluation leaves these out.
        flags: pose, truncated and occluded, where the file says them.
        parts: head, hands, feet.
        other_tags: tags that are none of these.
    """

    name: str
    corners: Corners | None
    box_text: str
    difficult: bool
    flags: dict[str, Any]
    parts: "tuple[Thing, ...]"
    other_tags: tuple[str, ...]


@dataclass(frozen=True)
class Annotation:
    """One file.

    Attributes:
        size: width and height in pixels, or None.
        file_name: the name of the photograph that the file gives, or empty.
        things: its objects, in their order.
        is_latin: whether the text is no UTF-8 and was read as Latin-1.
    """

    size: tuple[int, int] | None
    file_name: str
    things: tuple[Thing, ...]
    is_latin: bool


def read_annotation(data: bytes) -> Annotation:
    """Read the text of an annotation.

    Raises:
        InputError: it is not XML, declares a document type, is nested too deep, or is no VOC annotation.
    """
    root, is_latin = _parse(data)
    if root.tag != "annotation":
        raise InputError(f"found the tag {root.tag[:40]!r}; expected annotation")
    width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    size = (int(width), int(height)) if width and height and width >= 1 and height >= 1 else None
    things = tuple(_thing(element) for element in root.iterfind("object"))
    return Annotation(size, _text(root, "filename"), things, is_latin)


def _parse(data: bytes) -> tuple[Element, bool]:
    """The tree, and whether it was read as Latin-1."""
    other = "UTF-8" if _is_utf8(data) else "ISO-8859-1"
    problem = ""
    for encoding in (None, other):
        try:
            return _tree(data, encoding), encoding == "ISO-8859-1"
        except (expat.ExpatError, LookupError, ValueError) as error:  # also a declared encoding expat lacks
            problem = str(error)
    raise InputError(f"found no XML ({problem}); expected a VOC annotation")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _tree(data: bytes, encoding: str | None) -> Element:
    """Parse without document types: ElementTree's own parser would expand the entities they declare."""
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(f"found tags nested deeper than {MAX_DEPTH}; expected a VOC annotation")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise InputError("found a document type (DOCTYPE); expected XML without one; remove it")

    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return builder.close()


def _thing(element: Element) -> Thing:
    texts = [_text(element, f"bndbox/{side}") for side in _CORNERS]
    left, top, right, bottom = map(_number, texts)
    corners = None
    if left is not None and top is not None and right is not None and bottom is not None:
        corners = (left, top, right, bottom)
    return Thing(
        name=_text(element, "name"),
        corners=corners,
        box_text=", ".join(f"{side} {text or 'nothing'}" for side, text in zip(_CORNERS, texts, strict=True)),
        difficult=_flag(_text(element, "difficult")) is True,
        flags=dict(_flags(element)),
        parts=tuple(map(_thing, element.iterfind("part"))),
        other_tags=tuple(child.tag for child in element if child.tag not in _KNOWN_TAGS),
    )


def _text(element: Element, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())


def _flags(element: Element) -> Iterator[tuple[str, Any]]:
    pose = _text(element, "pose")
    if pose and pose.casefold() != "unspecified":
        yield "pose", pose
    for name in ("truncated", "occluded"):
        flag = _flag(_text(element, name))
        if flag is not None:
            yield name, int(flag)


def _flag(text: str) -> bool | None:
    """A flag that is there; files of other tools than VOC's have words and floats."""
    number = _number(text)
    if number is not None:
        return number != 0
    return {"true": True, "yes": True, "false": False, "no": False}.get(text.casefold())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 2**31 else None
