"""Images of a data set with their boxes, chosen by chance, in one picture: a look before a long training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kgtool.box_pictures import CELL_SIZE, DrawnBox, draw_cell, grid_of
from kgtool.classes import near_names
from kgtool.coco import Dataset, load_dataset
from kgtool.coco import Image as ImageRecord
from kgtool.errors import ClassMatchError, InputError
from kgtool.files import atomic_path, check_writable
from kgtool.ids import position_of
from kgtool.validation.image_files import is_turned


@dataclass(frozen=True)
class Preview:
    """What was drawn.

    Attributes:
        file_names: of the images, in the order of the grid: row by row, as in the file.
        boxes: how many have a name or a place for one.
        messages: what a person should know, such as images of another size than the file says.
    """

    file_names: tuple[str, ...]
    boxes: int
    messages: tuple[str, ...]


def save_preview(
    path: Path,
    images: Path,
    out: Path,
    *,
    count: int = 12,
    seed: int = 0,
    class_name: str | None = None,
    overwrite: bool = False,
) -> Preview:
    """Draw some images of a COCO JSON file with boxes and class names, as a PNG grid.

    Boxes are drawn at the pixels that the file gives, whatever size it says the image has: as a detector
    would see them. An image that EXIF turns is turned if the file has the turned size.

    Args:
        path: COCO JSON.
        images: the folder that its file names are below.
        out: PNG to write.
        count: images to draw, if the file has so many with boxes.
        seed: which ones; the same seed draws the same.
        class_name: only images with this class; boxes of other classes are thin and grey.
        overwrite: replace the PNG if it is there.

    Raises:
        InputError: `path` is not COCO JSON, no image has such boxes, or an image is missing or broken.
        ClassMatchError: there is no such class.
        OutputExistsError: the PNG is there and `overwrite` is false.
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: found the ending {out.suffix!r}; expected .png; rename --out")
    check_writable(out, overwrite=overwrite)
    dataset = load_dataset(path)
    class_N = position_of(
        np.array([category.id for category in dataset.categories], dtype=np.int64),
        dataset.annotations.category_id_N,
    )
    shown_N = np.ones(len(class_N), dtype=bool)
    if class_name is not None:
        shown_N = class_N == _class_index(dataset, class_name, path)
    chosen = choose_images(dataset, shown_N, count, seed)
    if len(chosen) == 0:
        what = "box" if class_name is None else f"box of {class_name!r}"
        raise InputError(f"{path}: found no {what}; expected some to draw; see `kgtool stats {path}`")
    cells, messages = [], []
    for row in chosen.tolist():
        record = dataset.images[row]
        boxes = _boxes_of(dataset, record, class_N, shown_N)
        picture, size, message = _open(images / record.file_name, record, path)
        caption = f"{record.file_name}  {size[0]} x {size[1]}, {sum(box.label != '' for box in boxes)} boxes"
        cells.append(draw_cell(picture, size, boxes, caption))
        messages += [message] if message else []
    with atomic_path(out, overwrite=overwrite) as part:
        grid_of(cells).save(part, format="PNG")
    rows_N = np.isin(dataset.annotations.image_id_N, [dataset.images[row].id for row in chosen])
    names = tuple(dataset.images[row].file_name for row in chosen)
    return Preview(names, int((rows_N & shown_N).sum()), tuple(messages))


def choose_images(dataset: Dataset, shown_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose images that have a box, by chance.

    Args:
        dataset: images and boxes.
        shown_N: (N,) which boxes count.
        count: at most so many.
        seed: which ones.

    Returns:
        Positions of the images, ascending.
    """
    ids = np.array([image.id for image in dataset.images], dtype=np.int64)
    candidates = np.unique(position_of(ids, dataset.annotations.image_id_N[shown_N]))
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:count])


def _class_index(dataset: Dataset, name: str, path: Path) -> int:
    names = [category.name for category in dataset.categories]
    if name not in names:
        near = near_names(name, names)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ClassMatchError(f"{path}: found no class {name!r}; expected one of its {len(names)}{hint}")
    return names.index(name)


def _boxes_of(
    dataset: Dataset, record: ImageRecord, class_N: np.ndarray, shown_N: np.ndarray
) -> list[DrawnBox]:
    rows = dataset.annotations
    boxes = []
    for row in np.flatnonzero(rows.image_id_N == record.id).tolist():
        x, y, width, height = rows.boxes_xywh_N4[row].tolist()
        name = dataset.categories[class_N[row]].name + (" (crowd)" if rows.crowd_N[row] else "")
        label = name if shown_N[row] else ""
        boxes.append(DrawnBox((x, y, width, height), label, int(class_N[row])))
    return boxes


def _open(file: Path, record: ImageRecord, path: Path) -> tuple[Image.Image, tuple[int, int], str]:
    """The picture, not much larger than a cell; its own size; and what is odd about it."""
    try:
        with Image.open(file) as image:
            size = image.size
            image.draft("RGB", CELL_SIZE)
            picture = image.convert("RGB")
            expected = record.width, record.height
            if size != expected and size == expected[::-1] and is_turned(image):
                picture, size = ImageOps.exif_transpose(image).convert("RGB"), expected
    except FileNotFoundError:
        raise InputError(
            f"{file}: found no such image; expected those of {path}; give another --images, or list what is "
            f"missing with `kgtool validate {path} --images DIR`"
        ) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: found no image that can be read ({error}); load it again") from None
    message = ""
    if size != expected:
        message = (
            f"{record.file_name}: the image has {size[0]} x {size[1]}, {path.name} says {expected[0]} x "
            f"{expected[1]}; boxes are drawn where the file puts them"
        )
    return picture, size, message
