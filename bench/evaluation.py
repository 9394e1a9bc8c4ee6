"""COCO metrics of thousands of classes: ours, with hotcoco, against pycocotools as its documentation uses it.

Run: python bench/evaluation.py                          3,000 classes x 1,250 images, both sides
     python bench/evaluation.py --images 5000 --ours     ours alone

Each side is a process of its own that makes the same boxes and detections (30 and 100 an image, scores with
ties, class frequencies as 1/rank), and then is timed from columns to the twelve numbers. Memory is the most
that the process ever held, with torch and the boxes themselves. Precision and recall of both sides must be
equal to the bit.
"""

import argparse
import contextlib
import hashlib
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from detector.annotations import Annotations
from detector.coco_metrics import coco_curves, summarize
from detector.detections import Detections

TRUE_PER_IMAGE, FOUND_PER_IMAGE = 30, 100


def make_split(classes: int, images: int, seed: int = 0) -> tuple[Annotations, Detections]:
    """Random boxes, and detections that are moved copies of them, three in ten of another class."""
    rng = np.random.default_rng(seed)
    share_C = 1 / np.arange(1, classes + 1)
    share_C /= share_C.sum()
    total, found = TRUE_PER_IMAGE * images, FOUND_PER_IMAGE * images
    boxes = np.concatenate([rng.uniform(0, 400, (total, 2)), rng.uniform(8, 200, (total, 2))], axis=1)
    class_N = rng.choice(classes, total, p=share_C)
    annotations = Annotations(
        path=Path("generated.json"),
        image_folder=Path(),
        class_names=tuple(f"class {index}" for index in range(classes)),
        synsets=("",) * classes,
        frequencies=("",) * classes,
        category_ids=np.arange(1, classes + 1),
        image_ids=np.arange(1, images + 1),
        file_names=np.full(images, "image.jpg"),
        sizes_I2=np.full((images, 2), 600, dtype=np.int32),
        offsets=np.arange(0, total + 1, TRUE_PER_IMAGE),
        boxes_xywh=boxes,
        class_N=class_N,
        area_N=boxes[:, 2] * boxes[:, 3],
        crowd_N=rng.random(total) < 0.01,
        usable_N=np.ones(total, dtype=bool),
    )
    image_N = np.repeat(np.arange(images), FOUND_PER_IMAGE)
    source = image_N * TRUE_PER_IMAGE + rng.integers(0, TRUE_PER_IMAGE, found)
    corners = np.concatenate([boxes[source, :2], boxes[source, :2] + boxes[source, 2:]], axis=1)
    corners += rng.normal(0, 8, (found, 4))
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    other = rng.random(found) < 0.3
    found_class_N = np.where(other, rng.choice(classes, found, p=share_C), class_N[source])
    scores = rng.random(found).round(3).astype(np.float32)
    return annotations, Detections(image_N, corners.astype(np.float32), found_class_N, scores)


def ours(annotations: Annotations, detections: Detections) -> tuple[list[float], np.ndarray, np.ndarray]:
    """The twelve numbers, precision and recall."""
    curves = coco_curves(annotations, detections, backend="hotcoco")
    return list(summarize(curves).values()), curves.precision_TRCA, curves.recall_TCAM


def theirs(annotations: Annotations, detections: Detections) -> tuple[list[float], np.ndarray, np.ndarray]:
    """The same with pycocotools: a dictionary of the split, results as an array, three calls."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    image_N = np.repeat(annotations.image_ids, np.diff(annotations.offsets)).tolist()
    columns = zip(
        image_N,
        annotations.category_ids[annotations.class_N].tolist(),
        annotations.boxes_xywh.tolist(),
        annotations.area_N.tolist(),
        annotations.crowd_N.tolist(),
        strict=True,
    )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in annotations.image_ids.tolist()],
        "categories": [{"id": category} for category in annotations.category_ids.tolist()],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, category, box, area, crowd) in enumerate(columns, start=1)
        ],
    }
    rows = np.column_stack(
        [
            annotations.image_ids[detections.image_N],
            detections.boxes_xywh(),
            detections.score_N,
            annotations.category_ids[detections.class_N],
        ]
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = np.ascontiguousarray(evaluation.eval["precision"][..., 2])
    return evaluation.stats.tolist(), precision, evaluation.eval["recall"]


def measure(side: str, classes: int, images: int) -> None:
    """Do the work of one side in this process and print what came of it as JSON."""
    split = make_split(classes, images)
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor = time.perf_counter(), time.process_time()
    numbers, precision, recall = {"ours": ours, "pycocotools": theirs}[side](*split)
    took, processor = time.perf_counter() - start, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest = hashlib.sha256(precision.tobytes() + recall.tobytes()).hexdigest()
    found = {"seconds": took, "processor": processor, "before": peak_before, "peak": peak}
    print(json.dumps({**found, "numbers": numbers, "digest": digest}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=3000)
    parser.add_argument("--images", type=int, default=1250)
    parser.add_argument("--ours", action="store_true", help="leave pycocotools out")
    parser.add_argument("--side", choices=["ours", "pycocotools"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return measure(args.side, args.classes, args.images)
    print(f"{args.classes} classes, {args.images} images")
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "pycocotools": []}
    for side in ["ours"] if args.ours else ["ours", "pycocotools", "ours", "ours"]:
        sizes = ["--classes", str(args.classes), "--images", str(args.images)]
        done = subprocess.run(
            [sys.executable, __file__, "--side", side, *sizes], capture_output=True, text=True, check=True
        )
        run = json.loads(done.stdout)
        found[side].append(run)
        print(
            f"{side:12} {run['seconds']:7.2f} s wall, {run['processor']:7.2f} s processor, "
            f"{run['peak'] / 1024:5.0f} MB at most, {run['before'] / 1024:.0f} MB before, "
            f"AP {run['numbers'][0]:.4f}",
            flush=True,
        )
    if not args.ours:
        (other,) = found["pycocotools"]
        for one in found["ours"]:
            assert (one["digest"], one["numbers"]) == (other["digest"], other["numbers"])
        print("precision, recall and the twelve numbers are equal to the bit")
        for name, key in (("wall", "seconds"), ("processor", "processor")):
            middle = statistics.median(run[key] for run in found["ours"])
            print(f"ratio of {name} times, ours the median of three: {other[key] / middle:.1f}")


if __name__ == "__main__":
    main()
