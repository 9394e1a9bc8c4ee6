"""What class lift does with a corpus that does not fit, taken as given or as the training images bear it out.

    python bench/class_lift_trust.py --work DIR --worlds W0 W1 W2 --images 100 400

Worlds, detectors, protocol and folders are those of bench/class_lift.py: two plain stages, and behind the
second, class lift of strength 0.5. Every corpus is the counts of 20,000 annotated images, spoilt in one way:

    shuffled                    every class has another one's counts
    half of the counts          the right counts and shuffled ones, added
    half of the classes         every second class has another one's counts
    classes missing             no counts for half of the classes
    noisy labels 30 %, 60 %     so many labels replaced by any class
    other frequencies           every class 0.1 to 10 times as often as it was

The tables give AP on 500 test images as given, and with `trust` (detector/trust.py), whose mean over the
classes stands before it. One seed a cell.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from class_lift import build_stacked, detect, keep_features, predict, prepare, train_stage
from torch import Tensor

from detector.annotations import load_annotations
from detector.coco_metrics import coco_metrics
from detector.execution import denormals_as_zero
from detector.interfaces import ScoreUpdate, UpdateInputs
from detector.knowledge import load_knowledge
from detector.reasoning.class_lift import ClassLiftConfig
from detector.trust import count_pairs


def spoil(counts_CC: Tensor) -> dict[str, Tensor]:
    """The corpus, and corpora that do not fit."""
    num_classes = len(counts_CC)
    generator = torch.Generator().manual_seed(0)
    everywhere = torch.randperm(num_classes, generator=generator)
    shuffled = counts_CC[everywhere][:, everywhere]
    half = torch.randperm(num_classes, generator=generator)[: num_classes // 2]
    in_half = torch.arange(num_classes)
    in_half[half] = half.roll(1)
    known = torch.ones(num_classes, dtype=torch.float64)
    known[half] = 0
    often = 10 ** (2 * torch.rand(num_classes, generator=generator, dtype=torch.float64) - 1)

    def noisy(share: float) -> Tensor:
        kept = (1 - share) * torch.eye(num_classes, dtype=torch.float64) + share / num_classes
        return (kept.T @ counts_CC @ kept).round()

    return {
        "right": counts_CC,
        "shuffled": shuffled,
        "half of the counts": counts_CC + shuffled,
        "half of the classes": counts_CC[in_half][:, in_half],
        "classes missing": counts_CC * torch.outer(known, known),
        "noisy labels 30 %": noisy(0.3),
        "noisy labels 60 %": noisy(0.6),
        "other frequencies": (counts_CC * torch.outer(often, often)).round(),
    }


def save_cell(name: str, count: int, work: Path) -> Path:
    """Run a cell unless its numbers are there: AP and mean trust of every corpus."""
    path = work / f"{name}_{count}_trust.json"
    if path.exists():
        return path
    folder = prepare(name, count, work)
    annotations = load_annotations(folder / "data", "train")
    tested = load_annotations(folder / "data", "test")
    names, synsets = annotations.class_names, annotations.synsets
    counts_CC = load_knowledge(folder / "corpus.npz", names, synsets).counts_CC
    own_CC = count_pairs(annotations.select(np.arange(count)))
    model = build_stacked(folder / f"base_{count}", len(names))
    learnt, _ = keep_features(model, annotations, np.arange(count), training=True)
    test, _ = keep_features(model, tested, np.arange(tested.num_images), training=False)
    train_stage(model, learnt, count)
    output = predict(model, test)

    def ap(update: ScoreUpdate | None) -> float:
        return round(100 * coco_metrics(tested, detect(model, test.regions, output, update))["AP"], 2)

    found: dict[str, list[float]] = {"none": [ap(None)]}
    for label, counts in spoil(counts_CC).items():
        given, trusted = (
            ClassLiftConfig().build(UpdateInputs(len(names), counts, own)).eval() for own in (None, own_CC)
        )
        found[label] = [ap(given), round(float(trusted.diagnostics()["lift_trust"]), 3), ap(trusted)]
        print(f"{name}, {count} images: {label}: {found[label]}", file=sys.stderr, flush=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def table(worlds: list[str], count: int, work: Path) -> str:
    """AP of each corpus, as given and as it is trusted."""
    cells = [json.loads(save_cell(name, count, work).read_text()) for name in worlds]
    heads = " | ".join(f"{name}, as given | trust | {name}, trusted" for name in worlds)
    lines = [f"{count} training images", "", f"| corpus | {heads} |", "|---|" + "---|---|---|" * len(cells)]
    for label in cells[0]:
        columns = [
            cell[label] if len(cell[label]) == 3 else [cell[label][0], 0, cell[label][0]] for cell in cells
        ]
        shown = " | ".join(f"{given:.1f} | {trust:.2f} | {trusted:.1f}" for given, trust, trusted in columns)
        lines.append(f"| {label} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Run the cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", default=["W0", "W1", "W2"])
    parser.add_argument("--images", nargs="+", type=int, default=[100, 400])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with denormals_as_zero():
        print("\n\n".join(table(arguments.worlds, count, arguments.work) for count in arguments.images))


if __name__ == "__main__":
    main()
