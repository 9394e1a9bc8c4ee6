"""Boxes of ADE20K masks: kgtool against Pillow and a loop of np.where, interleaved in one run on one core.

Run: OMP_NUM_THREADS=1 python bench/ade_boxes.py [FOLDER]

FOLDER holds real masks (NAME_seg.png or other RGB PNGs of the full data set, at any depth); without it, masks
of the usual size (683 x 512, 21 instances) are made. Both sides read the file and give the box, area and
class of each instance, and have to agree. The second table is for boxes with run-length codes, which the loop
takes from pycocotools. Times are of the processor, in ms, medians over the rounds. Each side has a process of
its own, so that neither pays for the other's memory. "decode" is Pillow alone: nothing that reads the files
with it can take less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from kgtool.ade20k.pairing import Instances
from kgtool.masks import find_colour_masks, read_colours

Row = tuple[int, int, int, int, int, int, str]  # left, top, width, height, area, class, run-length code


def decode(path: Path) -> list[Row]:
    """Decode alone."""
    with Image.open(path) as image:
        image.load()
    return []


def by_where(path: Path, *, with_codes: bool) -> list[Row]:
    """The usual way: one comparison of the whole image an instance."""
    with Image.open(path) as image:
        pixels = np.array(image)
    red, green, blue = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    class_HW = red.astype(np.int32) // 10 * 256 + green
    rows = []
    for value in np.unique(blue):
        if value == 0:
            continue
        ys, xs = np.where(blue == value)
        left, top = int(xs.min()), int(ys.min())
        size = int(xs.max()) - left + 1, int(ys.max()) - top + 1
        code = ""
        if with_codes:
            code = coco_mask.encode(np.asfortranarray(blue == value))["counts"].decode()
        rows.append((left, top, *size, len(ys), int(class_HW[ys[0], xs[0]]), code))
    return rows


def by_runs(path: Path, *, with_codes: bool) -> list[Row]:
    """As kgtool does."""
    image = read_colours(path)
    masks = find_colour_masks(image)
    classes = Instances(image, masks).class_index_N.tolist()
    codes = masks.rle() if with_codes else [""] * len(masks)
    columns = masks.boxes_xywh_N4.tolist(), masks.area_N.tolist(), classes, codes
    return [(*box, area, place, code) for box, area, place, code in zip(*columns, strict=True)]


def make_masks(folder: Path, count: int, seed: int) -> None:
    """Write masks of 683 x 512 pixels with 21 instances: ellipses with ragged edges, one before the other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:512, :683]
    for number in range(count):
        pixels = np.zeros((512, 683, 3), dtype=np.uint8)
        for blue in np.round(np.linspace(12, 255, 21)).astype(int):
            centre, radius = rng.random(2) * [512, 683], rng.uniform(30, 200, 2)
            ragged = 1 + 0.08 * np.sin(rng.uniform(5, 30) * np.arctan2(y - centre[0], x - centre[1]))
            inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < ragged
            place = int(rng.integers(1, 3149))
            pixels[inside] = place // 256 * 10, place % 256, blue
        Image.fromarray(pixels).save(folder / f"{number}_seg.png")


def milliseconds(function: Callable[..., list[Row]], path: Path, **options: Any) -> tuple[float, list[Row]]:
    """Processor time of one call, and its result."""
    start = time.process_time()
    rows = function(path, **options)
    return (time.process_time() - start) * 1e3, rows


def compare(paths: list[Path], rounds: int, sides: Sequence[Executor], *, with_codes: bool) -> None:
    """Print one table; `sides` are the processes of decode, np.where and kgtool."""
    print("boxes, areas, classes and run-length codes" if with_codes else "boxes, areas and classes")
    print(f"{'mask':32} {'instances':>9} {'decode':>8} {'np.where':>9} {'kgtool':>8} {'ratio':>6}")
    total = np.zeros(3)
    for path in paths:
        times = []
        for _ in range(rounds):
            calls: list[tuple[Executor, Callable[..., list[Row]], dict[str, bool]]] = [
                (sides[0], decode, {}),
                (sides[1], by_where, {"with_codes": with_codes}),
                (sides[2], by_runs, {"with_codes": with_codes}),
            ]
            done = [side.submit(milliseconds, call, path, **more).result() for side, call, more in calls]
            (floor, _), (theirs, expected), (ours, rows) = done
            assert rows == expected, f"{path}: the two sides disagree"
            times.append((floor, theirs, ours))
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        total += medians
        _print_row(path.name, str(len(rows)), medians)
    _print_row("all", "", total.tolist())


def _print_row(name: str, instances: str, times: list[float]) -> None:
    floor, theirs, ours = times
    print(f"{name[-32:]:32} {instances:>9} {floor:8.1f} {theirs:9.1f} {ours:8.1f} {theirs / ours:6.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--masks", type=int, default=8, help="how many masks to make or to take")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if args.folder is None:
            make_masks(Path(made), args.masks, seed=0)
        folder = args.folder or Path(made)
        paths = [path for path in sorted(folder.rglob("*.png")) if not path.name.startswith("instance_")]
        paths = [path for path in paths if Image.open(path).mode == "RGB"][: args.masks]
        if not paths:
            parser.error(f"{folder}: no RGB PNG there")
        with ExitStack() as stack:
            spawn = get_context("spawn")
            sides = [stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in range(3)]
            for with_codes in (False, True):
                compare(paths, args.rounds, sides, with_codes=with_codes)


if __name__ == "__main__":
    main()
