"""Boxes with class names on pictures, and pictures in a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: A cell of the grid, px: the picture fits into it, and a line of text is below.
CELL_SIZE = 480, 360
_CAPTION_HEIGHT, _GAP = 22, 6
_FONT_SIZE, _LONGEST_NAME = 13, 28
_PAPER, _INK, _OTHER = (250, 250, 250), (40, 40, 40), (150, 150, 150)

Rectangle = tuple[float, float, float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    Attributes:
        xywh: left, top, width, height in pixels of the picture.
        label: what is written on it; empty draws a thin grey box, for context.
        colour: a number; boxes with the same number have the same colour.
    """

    xywh: Rectangle
    label: str
    colour: int


def draw_cell(
    picture: Image.Image, size: tuple[int, int], boxes: Sequence[DrawnBox], caption: str
) -> Image.Image:
    """Fit a picture into a cell and draw boxes on it, small ones on top.

    Names are written where they cover no other name; where there is no such place a box has none.

    Args:
        picture: RGB.
        size: width and height that the boxes are measured in, px; the picture itself may be smaller.
        boxes: to draw; one that passes the picture's edge is drawn up to the edge.
        caption: the line below.
    """
    cell = Image.new("RGB", (CELL_SIZE[0], CELL_SIZE[1] + _CAPTION_HEIGHT), _PAPER)
    scale = min(CELL_SIZE[0] / size[0], CELL_SIZE[1] / size[1])
    fitted = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    shown = picture.resize(fitted, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(shown)
    boxes = sorted(boxes, key=lambda box: (box.label != "", -box.xywh[2] * box.xywh[3]))
    corners = [_corners(box.xywh, scale, fitted) for box in boxes]
    for box, rectangle in zip(boxes, corners, strict=True):
        draw.rectangle(rectangle, outline=colour_of(box), width=2 if box.label else 1)
    taken: list[Rectangle] = []
    for box, rectangle in zip(boxes, corners, strict=True):
        if box.label:
            _write_label(draw, _shortened(box.label), rectangle, fitted, colour_of(box), taken)
    left = (CELL_SIZE[0] - fitted[0]) // 2
    cell.paste(shown, (left, (CELL_SIZE[1] - fitted[1]) // 2))
    text = _cut_to_width(caption, CELL_SIZE[0] - 8)
    ImageDraw.Draw(cell).text((4, CELL_SIZE[1] + 3), text, font=_font(), fill=_INK)
    return cell


def grid_of(cells: Sequence[Image.Image]) -> Image.Image:
    """Lay cells of one size out in rows, somewhat wider than high."""
    columns = max(1, round((1.2 * len(cells)) ** 0.5))
    rows = -(-len(cells) // columns)
    width, height = cells[0].width + _GAP, cells[0].height + _GAP
    grid = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        grid.paste(cell, (column * width + _GAP, row * height + _GAP))
    return grid


def colour_of(box: DrawnBox) -> Colour:
    """A bright colour for a number; neighbours get far hues (golden angle). Grey without a label."""
    from colorsys import hsv_to_rgb

    if not box.label:
        return _OTHER
    red, green, blue = hsv_to_rgb(box.colour * 0.61803398875 % 1, 0.75 if box.colour % 2 else 0.95, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def _corners(xywh: Rectangle, scale: float, size: tuple[int, int]) -> Rectangle:
    """Left, top, right, bottom in the fitted picture, inside it and in order."""
    corners = np.array([xywh[0], xywh[1], xywh[0] + xywh[2], xywh[1] + xywh[3]])
    limits = np.array([size[0] - 1, size[1] - 1] * 2)
    # Cut before they are scaled too: the largest numbers there are would become infinite.
    left, top, right, bottom = np.minimum(np.clip(corners, 0, limits / scale + 1) * scale, limits).tolist()
    return left, top, max(left, right), max(top, bottom)


def _write_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Rectangle,
    size: tuple[int, int],
    colour: Colour,
    taken: list[Rectangle],
) -> None:
    _, top, _, bottom = draw.textbbox((0, 0), "Ag", font=_font(), anchor="ls")  # around the base line
    spot = free_spot(box, (_font().getlength(text) + 4, bottom - top + 4), size, taken)
    if spot is not None:
        taken.append(spot)
        draw.rectangle(spot, fill=colour)
        ink = "black" if sum(colour) > 380 else "white"
        draw.text((spot[0] + 2, spot[1] + 2 - top), text, font=_font(), fill=ink, anchor="ls")


def free_spot(
    box: Rectangle, label: tuple[float, float], size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle | None:
    """Find a place for a label above, inside or below its box, or in the middle of it.

    Args:
        box: left, top, right, bottom.
        label: width and height.
        size: of the picture, which no label leaves unless it is larger.
        taken: where labels are.

    Returns:
        Left, top, right, bottom; None where every place is taken.
    """
    width, height = label
    middle = (box[0] + box[2] - width) / 2, (box[1] + box[3] - height) / 2
    places = [(box[0], box[1] - height), (box[0], box[1]), (box[0], box[3]), (box[2] - width, box[3]), middle]
    for x, y in places:
        x, y = min(max(x, 0), max(size[0] - width, 0)), min(max(y, 0), max(size[1] - height, 0))
        spot = x, y, x + width, y + height
        if not any(_overlap(spot, other) for other in taken):
            return spot
    return None


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _cut_to_width(text: str, width: int) -> str:
    """The end of a text, as that of a path says more than its beginning."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


@lru_cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)
