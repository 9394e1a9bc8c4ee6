"""A COCO JSON file of VG3000's size looked through: `kgtool validate` against json.load and plain loops.

Run: python bench/validate_coco.py [--images 88000] [--boxes 1800000] [--rounds 3]

The file is made here (boxes inside their images, 3,000 classes with a long tail), and one box in a thousand
is spoiled. The plain side has the garbage collector off and looks only at ids and boxes, a part of what
kgtool looks at. Both sides are whole processes; at the end it says whether both counted the same.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from side_by_side import compare

from kgtool.coco import Annotations, Category, Dataset, Image, save_dataset
from kgtool.validation.coco_file import validate_file


def make_file(path: Path, num_images: int, num_boxes: int, num_classes: int = 3000) -> None:
    """Write the file, then spoil boxes in its text: a class that is not there, and widths far too large."""
    random = np.random.default_rng(0)
    width_I, height_I = random.integers(300, 1000, (2, num_images))
    image_N = np.sort(random.integers(0, num_images, num_boxes))
    weight = 1 / np.arange(1, num_classes + 1)
    size_N2 = np.stack([width_I, height_I], axis=1)[image_N]
    box_N2 = (random.random((num_boxes, 2)) * size_N2 * 0.5).astype(np.int64) + 1
    corner_N2 = (random.random((num_boxes, 2)) * (size_N2 - box_N2)).astype(np.int64)
    box_N2[::2000, 0] += 5000
    category_N = random.choice(num_classes, num_boxes, p=weight / weight.sum()) + 1
    rows = Annotations(
        id_N=np.arange(1, num_boxes + 1),
        image_id_N=image_N + 1,
        category_id_N=category_N,
        boxes_xywh_N4=np.concatenate([corner_N2, box_N2], axis=1),
        area_N=box_N2.prod(axis=1),
        crowd_N=np.zeros(num_boxes, dtype=np.int64),
    )
    images = tuple(
        Image(number, f"{number}.jpg", int(width), int(height))
        for number, (width, height) in enumerate(zip(width_I, height_I, strict=True), 1)
    )
    categories = tuple(Category(number, f"class {number}") for number in range(1, num_classes + 1))
    save_dataset(Dataset(images, categories, rows), path)
    lines = path.read_bytes().split(b"\n")
    first = lines.index(b'"annotations":[') + 1
    for at in range(first + 1000, first + num_boxes, 2000):
        lines[at] = lines[at].replace(b'"category_id":', b'"category_id":9')
    path.write_bytes(b"\n".join(lines))


def plain_faults(path: Path) -> dict[str, int]:
    """Errors in ids, names and boxes, the way a script counts them."""
    gc.disable()
    with path.open() as file:
        document = json.load(file)
    found: Counter[str] = Counter()
    for name in ("images", "categories", "annotations"):
        found["duplicate id"] += len(document[name]) - len({record["id"] for record in document[name]})
    image_by_id = {image["id"]: image for image in document["images"]}
    category_ids = {category["id"] for category in document["categories"]}
    for row in document["annotations"]:
        image = image_by_id.get(row["image_id"])
        found["dangling id"] += (image is None) + (row["category_id"] not in category_ids)
        x, y, w, h = row["bbox"]
        if w <= 0 or h <= 0:
            found["empty box"] += 1
        elif image and (x >= image["width"] or y >= image["height"] or x + w <= 0 or y + h <= 0):
            found["box outside the image"] += 1
        elif image and max(-x, -y, x + w - image["width"], y + h - image["height"]) > 1:
            found["box past the edge"] += 1
    return {kind: count for kind, count in found.items() if count}


def kgtool_faults(path: Path) -> dict[str, int]:
    """Errors that the command reports."""
    command = [sys.executable, "-m", "kgtool", "validate", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return {
        finding["kind"]: finding["count"]
        for finding in json.loads(done.stdout)["findings"]
        if finding["severity"] == "error"
    }


def main() -> None:
    """Make the file, run both sides in turns, compare what they counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=88_000)
    parser.add_argument("--boxes", type=int, default=1_800_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        make_file(path, options.images, options.boxes)
        print(f"{options.images} images, {options.boxes} boxes, {path.stat().st_size / 1e6:.0f} MB")
        this = [sys.executable, str(Path(__file__))]
        compare(
            {"plain": [*this, "--plain", str(path)], "kgtool": [*this, "--kgtool", str(path)]}, options.rounds
        )
        plain, ours = plain_faults(path), kgtool_faults(path)
        print("both counted", plain) if plain == ours else print("DIFFERENT:", plain, ours)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        plain_faults(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--kgtool"]:
        gc.disable()  # as the command does
        validate_file(Path(sys.argv[2]))
    else:
        main()
