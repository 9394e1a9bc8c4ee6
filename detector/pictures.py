"""Detections drawn on their image, large enough to read."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: A picture's short side is at least this, px; smaller images are enlarged by a whole factor.
SHORT_SIDE = 480

Box = tuple[float, float, float, float]


def draw_detections(
    pixels_HW3: np.ndarray, boxes_xyxy: np.ndarray, names: list[str], scores: np.ndarray, colours: np.ndarray
) -> Image.Image:
    """Draw boxes with class names and scores.

    Args:
        pixels_HW3: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) px; drawn in reverse, so that the first, the best, is on top.
        names: N class names.
        scores: (N,) 0..1.
        colours: (N,) numbers that say which boxes share a colour, such as their class.
    """
    height, width = pixels_HW3.shape[:2]
    factor = max(1, -(-SHORT_SIDE // min(height, width)))
    image = Image.fromarray(pixels_HW3).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    line = max(2, min(image.size) // 240)
    taken: list[Box] = []
    order = range(len(names))
    for row in reversed(order):
        draw.rectangle(
            _scaled(boxes_xyxy[row], factor, image.size), outline=_colour(int(colours[row])), width=line
        )
    for row in order:
        text = f"{names[row]} {scores[row]:.2f}"
        box = _scaled(boxes_xyxy[row], factor, image.size)
        _draw_label(draw, text, box, image.size, _colour(int(colours[row])), taken)
    return image


def tint(pixels_HW3: np.ndarray, masks: Sequence[np.ndarray], colours: np.ndarray) -> np.ndarray:
    """Return the picture with masks over it, half transparent; the first, the best, is on top.

    Args:
        pixels_HW3: (H, W, 3) uint8 RGB.
        masks: (H, W) of 0 and 1 each.
        colours: (N,) numbers that say which masks share a colour, such as their class.
    """
    painted = pixels_HW3.copy()
    for row in reversed(range(len(masks))):
        inside = masks[row].astype(bool)
        painted[inside] = (pixels_HW3[inside] // 2) + np.array(_colour(int(colours[row])), np.uint8) // 2
    return painted


def _scaled(box: np.ndarray, factor: int, size: tuple[int, int]) -> Box:
    """Corners in the enlarged picture, inside it and in order."""
    left, top, right, bottom = (float(side) * factor for side in box)
    left, top = min(max(left, 0), size[0] - 2), min(max(top, 0), size[1] - 2)
    return left, top, min(max(right, left + 1), size[0] - 1), min(max(bottom, top + 1), size[1] - 1)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Box,
    size: tuple[int, int],
    colour: tuple[int, int, int],
    taken: list[Box],
) -> None:
    """Write the label above, inside or below its box, where it covers no label written before."""
    font = _font(max(12, min(size) // 36))
    # Around the base line: measured from its upper left corner, the tops of some letters would be cut off.
    _, top, _, bottom = draw.textbbox((0, 0), "|g", font=font, anchor="ls")
    width, height = ceil(font.getlength(text)) + 6, ceil(bottom - top) + 6
    places = [
        (box[0], box[1] - height),
        (box[0], box[3]),
        (box[2] - width, box[1] - height),
        (box[0], box[1]),
    ]
    places += [(box[0], box[1] + step * height) for step in range(1, 4)]
    spots = [_inside(x, y, width, height, size) for x, y in places]
    spot = next((spot for spot in spots if not any(_overlap(spot, other) for other in taken)), spots[0])
    taken.append(spot)
    draw.rectangle(spot, fill=colour)
    ink = "black" if sum(colour) > 380 else "white"
    draw.text((spot[0] + 3, spot[1] + 3 - round(top)), text, font=font, fill=ink, anchor="ls")


def _inside(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Box:
    x, y = round(min(max(x, 0), max(size[0] - width, 0))), round(min(max(y, 0), max(size[1] - height, 0)))
    return x, y, x + width, y + height


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(number: int) -> tuple[int, int, int]:
    """A bright colour for a class; neighbouring numbers get far hues (golden angle)."""
    from colorsys import hsv_to_rgb

    red, green, blue = hsv_to_rgb(number * 0.61803398875 % 1, 0.75 if number % 2 else 0.95, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
