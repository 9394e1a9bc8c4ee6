"""objects.json to train and test sets: `kgtool split vg` against json.load and plain loops.

Run: python bench/split_vg.py [--data DIR] [--classes 3000] [--rounds 3] [--quick]

DIR has objects.json and image_data.json (`python bench/make_visual_genome.py --out DIR` writes them). The
plain side has the garbage collector off, makes the same choice of boxes and images, and writes each file with
one json.dumps. Both sides are whole processes; at the end it says whether both wrote the same boxes.
"""

import gc
import hashlib
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from graph_from_json import QUICK_IMAGES, parser
from make_visual_genome import make_files
from side_by_side import compare


def plain_split(objects: Path, image_data: Path, num_classes: int, out: Path) -> None:
    """The same class list, boxes and split, the way a script does it."""
    gc.disable()
    with objects.open() as file:
        records = json.load(file)
    with image_data.open() as file:
        image_by_id = {record["image_id"]: record for record in json.load(file)}
    count = Counter(
        thing["synsets"][0] for record in records for thing in record["objects"] if len(thing["synsets"]) == 1
    )
    names = sorted(count, key=lambda synset: (-count[synset], synset))[:num_classes]
    category_by_synset = {synset: number for number, synset in enumerate(names, start=1)}
    rows_by_image: dict[int, list[tuple[int, ...]]] = {}
    images_of_category: dict[int, set[int]] = defaultdict(set)
    for record in records:
        image = image_by_id.get(record["image_id"])
        if image is None:
            continue
        width, height, rows = image["width"], image["height"], []
        for thing in record["objects"]:
            synsets = thing["synsets"]
            if len(synsets) != 1 or synsets[0] not in category_by_synset:
                continue
            left, top = max(thing["x"], 0), max(thing["y"], 0)
            w, h = min(thing["x"] + thing["w"], width) - left, min(thing["y"] + thing["h"], height) - top
            if w >= 1 and h >= 1:
                rows.append((thing["object_id"], category_by_synset[synsets[0]], left, top, w, h))
        if rows:
            rows_by_image[record["image_id"]] = rows
            for row in rows:
                images_of_category[row[1]].add(record["image_id"])
    test: set[int] = set()
    left_over = {category: len(images) for category, images in images_of_category.items()}
    room = min(5000, max(len(rows_by_image) // 20, 1))
    for image_id in sorted(rows_by_image, key=lambda number: hashlib.sha256(f"0:{number}".encode()).digest()):
        categories = {row[1] for row in rows_by_image[image_id]}
        if len(test) < room and all(left_over[c] > 1 or len(images_of_category[c]) < 2 for c in categories):
            test.add(image_id)
            for category in categories:
                left_over[category] -= 1
    for name, image_ids in (("test", test), ("train", rows_by_image.keys() - test)):
        annotations = [
            {
                "id": object_id,
                "image_id": image_id,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
            }
            for image_id in sorted(image_ids)
            for object_id, category, x, y, w, h in rows_by_image[image_id]
        ]
        document = {
            "images": [plain_image(image_by_id[image_id]) for image_id in sorted(image_ids)],
            "categories": [{"id": number, "name": synset} for synset, number in category_by_synset.items()],
            "annotations": annotations,
        }
        (out / f"{name}.json").write_text(json.dumps(document))


def plain_image(record: dict[str, Any]) -> dict[str, Any]:
    """An image record of COCO JSON."""
    name = "/".join(record["url"].split("/")[-2:])
    return {"id": record["image_id"], "file_name": name, "width": record["width"], "height": record["height"]}


def boxes(folder: Path) -> dict[str, set[tuple[int, ...]]]:
    """What a side wrote, for comparison."""
    return {
        name: {
            (row["id"], row["image_id"], row["category_id"], *row["bbox"])
            for row in json.loads((folder / f"{name}.json").read_text())["annotations"]
        }
        for name in ("train", "test")
    }


def main() -> None:
    """Measure and print."""
    options = parser(str(__doc__).splitlines()[0])
    options.set_defaults(classes=3000)
    args = options.parse_args()
    if args.plain:
        data, out = args.plain
        plain_split(data / "objects.json", data / "image_data.json", args.classes, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder)
        if args.data is None:
            images = QUICK_IMAGES if args.quick else args.images
            print(f"making Visual-Genome-shaped files of {images} images", flush=True)
            make_files(data, images)
        plain_out, our_out = Path(folder, "plain"), Path(folder, "kgtool")
        plain_out.mkdir()
        classes = ["--classes", str(args.classes)]
        workers = ["--workers", str(args.workers)] if args.workers else []
        inputs = ["--objects", str(data / "objects.json"), "--image-data", str(data / "image_data.json")]
        ours = ["split", "vg", *inputs, *classes, *workers, "--out", str(our_out), "--overwrite"]
        compare(
            {
                "plain": [sys.executable, __file__, *classes, "--plain", str(data), str(plain_out)],
                "kgtool": [sys.executable, "-m", "kgtool", *ours],
            },
            1 if args.quick else args.rounds,
        )
        same = boxes(plain_out) == boxes(our_out)
    print(f"same boxes in train and test on both sides: {'yes' if same else 'NO'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
