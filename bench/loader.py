"""What the annotations of a large data set cost the detector: seconds, memory, and memory of every worker.

Run: python bench/loader.py [--images 88000] [--boxes 1800000] [--shuffled] [--masks]
     [--workers 0,2,4] [--json FILE]

Makes a COCO file of that size, with relations as `kgtool split vg` writes them and 3,000 classes. Each number
of workers is a process of its own: it loads the file, then reads a part of an epoch, so that the workers
touch what they share. USS is what a process has for itself alone: after a few batches, and at the end.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
NUM_FILES = 64
NUM_CLASSES = 3000


def write_data(folder: Path, images: int, boxes: int, *, shuffled: bool, masks: bool) -> None:
    """Write train.json of random boxes, and a few image files that all its images share."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(NUM_FILES):
        noise = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.jpg")
    owners = rng.integers(1, images + 1, boxes)
    owners = (owners if shuffled else np.sort(owners)).tolist()
    classes = (NUM_CLASSES * rng.random(boxes) ** 3).astype(int).tolist()
    corners = rng.integers(0, SIDE // 2, (boxes, 2)).tolist()
    sizes = rng.integers(1, SIDE // 2, (boxes, 2)).tolist()
    with (folder / "train.json").open("w") as file:
        rows = ",".join(
            f'{{"id":{i},"file_name":"{i % NUM_FILES}.jpg","width":{SIDE},"height":{SIDE}}}'
            for i in range(1, images + 1)
        )
        file.write(f'{{"images":[{rows}],"annotations":[')
        for i, (owner, kind, (x, y), (w, h)) in enumerate(zip(owners, classes, corners, sizes, strict=True)):
            polygon = f'"segmentation":[[{x},{y},{x + w},{y},{x + w},{y + h}.5]],' if masks else ""
            file.write(
                f'{"," * (i > 0)}{{"id":{i + 1},"image_id":{owner},"category_id":{kind + 1},'
                f'{polygon}"bbox":[{x},{y},{w},{h}],"area":{w * h},"iscrowd":0}}'
            )
        categories = [{"id": i + 1, "name": f"class {i}"} for i in range(NUM_CLASSES)]
        relations = ",".join(
            f'{{"id":{i},"image_id":{owners[i]},"subject_id":{i},"predicate_id":1,"object_id":{i + 1}}}'
            for i in range(0, boxes, 2)
        )
        file.write(f'],"categories":{json.dumps(categories)},"rel_annotations":[{relations}]}}')


def uss_mb(process: int) -> float:
    """Memory that a process shares with no other, MB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1e3


def resident_mb(name: str) -> float:
    """VmRSS or RssAnon of this process, MB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name)) / 1e3


def load_and_read(folder: Path, workers: int, read: int, masks: bool) -> None:
    """Load, read a part of an epoch, and print what it took as JSON."""
    from detector.annotations import load_annotations
    from detector.data import ImageDataset, load_batches
    from detector.sampling import batches_of

    before, anonymous = resident_mb("VmRSS"), resident_mb("RssAnon")
    start, start_cpu = time.perf_counter(), time.process_time()
    annotations = load_annotations(folder, "train", masks=masks)
    found = {
        "workers": workers,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - start_cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "imports_mb": before,
        "kept_mb": resident_mb("RssAnon") - anonymous,
    }
    order = np.random.default_rng(0).permutation(annotations.usable_images())[:read]
    loader = iter(
        load_batches(ImageDataset(annotations, order), batches_of(np.arange(len(order)), 16), workers)
    )
    uss = []
    start = time.perf_counter()
    for number, _ in enumerate(loader):
        if workers and (number == 2 * workers or number == len(order) // 16 - 4 * workers):
            uss.append([uss_mb(worker.pid) for worker in loader._workers])
    found["images_per_second"] = len(order) / (time.perf_counter() - start)
    found["uss_mb_after_a_few"], found["uss_mb_at_the_end"] = uss or ([], [])
    print(json.dumps(found))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--images", type=int, default=88_000)
    parser.add_argument("--boxes", type=int, default=1_800_000)
    parser.add_argument("--read", type=int, default=20_000, help="images of the epoch that are read")
    parser.add_argument("--workers", default="0,2,4")
    parser.add_argument("--shuffled", action="store_true", help="boxes in any order, as COCO's own are")
    parser.add_argument("--masks", action="store_true", help="a polygon a box, read too")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        load_and_read(Path(args.child), int(args.workers), args.read, args.masks)
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), args.images, args.boxes, shuffled=args.shuffled, masks=args.masks)
        megabytes = (Path(folder) / "train.json").stat().st_size / 1e6
        print(f"{args.images} images, {args.boxes} boxes, {megabytes:.0f} MB of JSON", flush=True)
        for workers in args.workers.split(","):
            command = [sys.executable, __file__, "--child", folder, "--workers", workers]
            command += ["--read", str(args.read), *(["--masks"] if args.masks else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            found = json.loads(done.stdout)
            results.append(found)
            private = ", ".join(f"{uss:.0f}" for uss in found["uss_mb_at_the_end"]) or "-"
            early = ", ".join(f"{uss:.0f}" for uss in found["uss_mb_after_a_few"]) or "-"
            print(
                f"{workers} workers: loaded in {found['seconds']:.1f} s "
                f"({found['processor_seconds']:.1f} s of processor), peak {found['peak_mb']:.0f} MB "
                f"(imports {found['imports_mb']:.0f}), kept {found['kept_mb']:.0f} MB; "
                f"{found['images_per_second']:.0f} images/s; USS of a worker: at first {early}, "
                f"at the end {private} MB",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
