"""`kgtool split vg` against json.load and plain loops, as whole processes, interleaved in one run.

Run: python bench/split_vg.py --objects FILE --image-data FILE [--classes 3000] [--rounds 3]

`python bench/make_visual_genome.py --out DIR` writes such files. The plain side has the garbage collector off,
does the same work, and writes each file with one json.dumps. Prints, for each round, wall and processor
seconds, peak memory of all processes of a side (anonymous and shared pages, sampled), and how many cores
others used meanwhile; then the ratio of the medians, and whether both sides wrote the same boxes.
"""

import argparse
import gc
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


@dataclass(frozen=True)
class Measured:
    """What one process and its children took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    foreign_cores: float


def busy_s() -> float:
    """Seconds all cores have been busy since the machine started."""
    fields = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Anonymous and shared pages of a process and its descendants, now."""
    total, pids = 0.0, [pid]
    while pids:
        at = Path(f"/proc/{pids.pop()}")
        try:
            lines = (at / "status").read_text().splitlines()
            total += (
                sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1024
            )
            pids += [int(child) for task in at.glob("task/*/children") for child in task.read_text().split()]
        except OSError:  # it has just ended
            continue
    return total


def measure(command: list[str]) -> Measured:
    """Run a command to its end."""
    peak, done = [0.0], threading.Event()
    before, busy, start = resource.getrusage(resource.RUSAGE_CHILDREN), busy_s(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], memory_mb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    wall_s = time.perf_counter() - start
    done.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with status {status}")
    return Measured(wall_s, cpu_s, peak[0], max(0.0, (busy_s() - busy - cpu_s) / wall_s))


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--image-data", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-out", type=Path, help=argparse.SUPPRESS)  # this process is the plain side
    args = parser.parse_args()
    if args.plain_out:
        plain_split(args.objects, args.image_data, args.classes, args.plain_out)
        return
    inputs = [
        "--objects",
        str(args.objects),
        "--image-data",
        str(args.image_data),
        "--classes",
        str(args.classes),
    ]
    sides: dict[str, list[Measured]] = {"plain": [], "kgtool": []}
    with tempfile.TemporaryDirectory() as folder:
        plain_out, our_out = Path(folder, "plain"), Path(folder, "kgtool")
        plain_out.mkdir()
        commands = {
            "plain": [sys.executable, __file__, *inputs, "--plain-out", str(plain_out)],
            "kgtool": [
                sys.executable,
                "-m",
                "kgtool",
                "split",
                "vg",
                *inputs,
                "--out",
                str(our_out),
                "--overwrite",
            ],
        }
        for number in range(1, args.rounds + 1):
            for side, command in commands.items():
                took = measure(command)
                sides[side].append(took)
                print(
                    f"round {number}, {side:6}: {took.wall_s:6.2f} s wall, {took.cpu_s:6.2f} s processor, "
                    f"{took.peak_mb:5.0f} MB, others used {took.foreign_cores:.2f} cores",
                    flush=True,
                )
        same = boxes(plain_out) == boxes(our_out)
    median = {side: statistics.median(took.wall_s for took in runs) for side, runs in sides.items()}
    print(f"ratio of the median wall times: {median['plain'] / median['kgtool']:.1f}")
    print(f"both sides wrote the same boxes into train and test: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
