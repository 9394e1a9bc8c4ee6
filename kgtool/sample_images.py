"""Painting the sample world: small shapes in a colour and a texture, on a background that says nothing.

An appearance is a shape (10) x a colour (12) x a texture (5). The words of the three lists are also those of
the world's attribute annotations. A shape fills its box: at every size that the world draws, it touches all
four sides, so the annotated box is the tight box of what is painted, before anything hides it.

Pixels come from NumPy's normal generator in single precision: another build may differ in the last bits.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 128
#: The smallest side, in pixels, at which every shape is sure to touch the four sides of its box.
SMALLEST_SIDE = 8
BACKGROUND_BLOCKS = 5
BLOCK_SD = 0.08
NOISE_SD = 0.06
JITTER_SD = 0.06

SHAPES = (
    "round",
    "square",
    "triangular",
    "diamond-shaped",
    "cross-shaped",
    "x-shaped",
    "ring-shaped",
    "hourglass-shaped",
    "t-shaped",
    "l-shaped",
)
COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.95, 0.90, 0.15),
    "green": (0.15, 0.65, 0.20),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.15, 0.25, 0.85),
    "purple": (0.50, 0.15, 0.65),
    "pink": (0.98, 0.55, 0.75),
    "brown": (0.45, 0.27, 0.12),
    "white": (0.95, 0.95, 0.95),
    "grey": (0.50, 0.50, 0.50),
    "black": (0.08, 0.08, 0.08),
}
TEXTURES = ("plain", "banded", "striped", "chequered", "dotted")


@dataclass(frozen=True)
class Appearance:
    """How every object of a class looks: positions in `SHAPES`, `COLOURS` and `TEXTURES`."""

    shape: int
    colour: int
    texture: int

    @property
    def words(self) -> tuple[str, str, str]:
        """The shape, the colour and the texture in words."""
        return SHAPES[self.shape], tuple(COLOURS)[self.colour], TEXTURES[self.texture]


@cache
def shape_mask(shape: int, width: int, height: int) -> NDArray[np.bool_]:
    """Pixels of a shape that fills a box of `width` x `height` pixels, as a (height, width) mask.

    Coordinates run from -1 at the first pixel to +1 at the last. Tips are a little blunt, because a box of
    an even width has no middle pixel to put a sharp one on.
    """
    x, y = np.meshgrid(np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height))
    across, down = np.abs(x), np.abs(y)
    radius = x**2 + y**2
    mask: NDArray[np.bool_] = {
        "round": radius <= 1.03,
        "square": np.ones_like(x, dtype=bool),
        "triangular": across <= np.maximum((y + 1) / 2, 0.15),
        "diamond-shaped": across + down <= 1.15,
        "cross-shaped": np.minimum(across, down) <= 0.33,
        "x-shaped": np.abs(across - down) <= 0.4,
        "ring-shaped": (radius <= 1.03) & (radius >= 0.55**2),
        "hourglass-shaped": across <= np.maximum(down, 0.2),
        "t-shaped": (y <= -0.33) | (across <= 0.33),
        "l-shaped": (x <= -0.33) | (y >= 0.33),
    }[SHAPES[shape]]
    mask.setflags(write=False)
    return mask


@cache
def texture_mask(texture: int, width: int, height: int) -> NDArray[np.bool_]:
    """Pixels of a box, as a (height, width) mask, that take a texture's second tone."""
    y, x = np.mgrid[:height, :width]
    mask: NDArray[np.bool_] = {
        "plain": np.zeros((height, width), dtype=bool),
        "banded": y // 2 % 2 == 1,
        "striped": x // 2 % 2 == 1,
        "chequered": (x // 3 + y // 3) % 2 == 1,
        "dotted": (x % 4 < 2) & (y % 4 < 2),
    }[TEXTURES[texture]]
    mask.setflags(write=False)
    return mask


@cache
def tones(colour: int) -> NDArray[np.float32]:
    """The two tones of a colour, (2, 3): itself, and one darker if it is light, lighter if it is dark."""
    first = np.array(tuple(COLOURS.values())[colour], dtype=np.float32)
    is_light = first @ np.array([0.299, 0.587, 0.114], dtype=np.float32) > 0.35
    pair = np.stack([first, first * np.float32(0.45) if is_light else first + np.float32(0.45)])
    pair.setflags(write=False)
    return pair


def draw_object(
    canvas: NDArray[np.float32], box: NDArray[np.int64], appearance: Appearance, jitter: NDArray[np.float32]
) -> None:
    """Paint one object over what is there.

    Args:
        canvas: (H, W, 3), colours in 0..1; changed in place.
        box: xyxy in whole pixels, inside the canvas.
        appearance: shape, colour and texture.
        jitter: (3,) added to the colour of this one object.
    """
    left, top, right, bottom = (int(side) for side in box)
    width, height = right - left, bottom - top
    mask = shape_mask(appearance.shape, width, height)
    tone = texture_mask(appearance.texture, width, height)[mask].astype(np.int64)
    canvas[top:bottom, left:right][mask] = (tones(appearance.colour) + jitter)[tone]


def paint(
    boxes: NDArray[np.int64], appearances: list[Appearance], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint a picture: the background, the objects one over the other, then pixel noise.

    Args:
        boxes: (N, 4) xyxy in whole pixels. A later object hides an earlier one.
        appearances: one for each box.
        rng: the picture's own generator.

    Returns:
        (IMAGE_SIZE, IMAGE_SIZE, 3) RGB, uint8.
    """
    blocks = rng.random(3, dtype=np.float32) + np.float32(BLOCK_SD) * rng.standard_normal(
        (BACKGROUND_BLOCKS, BACKGROUND_BLOCKS, 3), dtype=np.float32
    )
    block_of_pixel = np.arange(IMAGE_SIZE) * BACKGROUND_BLOCKS // IMAGE_SIZE
    canvas = blocks[block_of_pixel[:, None], block_of_pixel[None, :]]
    jitters = np.float32(JITTER_SD) * rng.standard_normal((len(boxes), 3), dtype=np.float32)
    for box, appearance, jitter in zip(boxes, appearances, jitters, strict=True):
        draw_object(canvas, box, appearance, jitter)
    canvas += np.float32(NOISE_SD) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return (np.clip(canvas, 0.0, 1.0) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
