"""What class lift gains from knowing where the other object stands, where that matters and where it does not.

    python bench/class_lift_positions.py --work DIR --worlds S0 W0 W1 --images 100 400

Worlds, detectors, protocol and folders are those of bench/class_lift.py: two plain stages, and behind the
second, class lift of strength 0.5, without places and with them (`score_update.positions`). In worlds S only
the place of their company tells half of the classes apart, and relations are named by geometry; in worlds W
places mean nothing, and relations are named at random. Counts are of

    corpus              relations of 20,000 images that are annotated only
    corpus shuffled     the same with the classes in another order
    training boxes      `kgtool build-cooccurrence --geometry` of the N training images

None is weighed by `trust`. AP on 500 test images, one seed a cell.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from class_lift import build_stacked, detect, keep_features, kgtool, predict, prepare, train_stage

from detector.annotations import load_annotations
from detector.coco_metrics import coco_metrics
from detector.execution import denormals_as_zero
from detector.interfaces import ScoreUpdate, UpdateInputs
from detector.knowledge import Knowledge, load_knowledge
from detector.reasoning.class_lift import ClassLiftConfig


def shuffle(knowledge: Knowledge) -> Knowledge:
    """The same counts of other classes."""
    assert knowledge.counts_CC is not None
    assert knowledge.positions is not None
    order = torch.randperm(len(knowledge.counts_CC), generator=torch.Generator().manual_seed(0))
    position_N, one_N, two_N = knowledge.positions.index_3N
    place = order.argsort()
    index_3N = torch.stack([position_N, place[one_N], place[two_N]])
    return replace(
        knowledge,
        counts_CC=knowledge.counts_CC[order][:, order],
        positions=replace(knowledge.positions, index_3N=index_3N),
    )


def count_training_boxes(data: Path, count: int, out: Path) -> Path:
    """Build the co-occurrence graph of the first images, by geometry."""
    if not out.exists():
        document = json.loads((data / "train.json").read_bytes())
        images = document["images"][:count]
        seen = {image["id"] for image in images}
        boxes = [box for box in document["annotations"] if box["image_id"] in seen]
        part = {"images": images, "annotations": boxes, "categories": document["categories"]}
        out.with_suffix(".json").write_text(json.dumps(part))
        kgtool("build-cooccurrence", out.with_suffix(".json"), "--geometry", "--out", out)
    return out


def save_cell(name: str, count: int, work: Path) -> Path:
    """Run a cell unless its numbers are there: AP of every arm."""
    path = work / f"{name}_{count}_positions.json"
    if path.exists():
        return path
    folder = prepare(name, count, work)
    annotations = load_annotations(folder / "data", "train")
    tested = load_annotations(folder / "data", "test")
    names, synsets = annotations.class_names, annotations.synsets
    own = count_training_boxes(folder / "data", count, folder / f"boxes_{count}.npz")
    corpus = load_knowledge(folder / "corpus.npz", names, synsets)
    sources = {
        "corpus": corpus,
        "corpus shuffled": shuffle(corpus),
        "training boxes": load_knowledge(own, names, synsets),
    }
    model = build_stacked(folder / f"base_{count}", len(names))
    learnt, _ = keep_features(model, annotations, np.arange(count), training=True)
    test, _ = keep_features(model, tested, np.arange(tested.num_images), training=False)
    train_stage(model, learnt, count)
    output = predict(model, test)

    def ap(update: ScoreUpdate | None) -> float:
        return round(100 * coco_metrics(tested, detect(model, test.regions, output, update))["AP"], 2)

    found = {"none": ap(None)}
    for source, known in sources.items():
        for label, positions in ((source, False), (f"{source}, by position", True)):
            inputs = UpdateInputs(len(names), known.counts_CC, positions=known.positions)
            found[label] = ap(ClassLiftConfig(positions=positions).build(inputs).eval())
            print(f"{name}, {count} images: {label}: {found[label]}", file=sys.stderr, flush=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def main() -> None:
    """Run the cells and print a table of AP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", default=["S0", "W0", "W1"])
    parser.add_argument("--images", nargs="+", type=int, default=[100, 400])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells = [(name, count) for count in arguments.images for name in arguments.worlds]
    with denormals_as_zero():
        rows = [json.loads(save_cell(name, count, arguments.work).read_text()) for name, count in cells]
    print("| counts | " + " | ".join(f"{name}, {count}" for name, count in cells) + " |")
    print("|---" * (len(cells) + 1) + "|")
    for label in rows[0]:
        print(f"| {label} | " + " | ".join(f"{row[label]:.1f}" for row in rows) + " |")


if __name__ == "__main__":
    main()
