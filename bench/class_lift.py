"""What class lift adds to a detector on sample worlds, beside what should add nothing (frozen trunk, CPU).

    python bench/class_lift.py --work DIR --worlds W0 W1 W2 L0 --images 100 400

A world is a family of `kgtool sample` and a seed. The detector (faster_rcnn_sample) and everything behind it
see the first N training images and no others. Then backbone, proposals and first stage are frozen, the
pooled features of the regions are kept, and a second plain stage is trained on them from the first one's
weights: the equally stacked plain arm. All other arms are this stage, to the bit, with another class graph in
its score update; so boxes, regions, weights and budget are the same, and an arm costs seconds.

    plain                 the first stage
    stacked               the second, without a graph
    corpus                relations of 20,000 images that are annotated only, from other pictures
    corpus shuffled       the same graph with its classes in another order: the control of what a graph says
    train                 relations of the N training images: the same kind of counts, k = 1
    train all pairs       all pairs of boxes of the N images, k = 0.3: the best training graph that we know
    ... learned           the strength learned on 100 images that nothing else has seen, else 0.5
    ... learned on train  the strength learned on the N images that the detector was trained on
    half shuffled, half of the classes missing: a corpus that fits only in part
    attribute             similarity of attributes, as if it were counts: a graph that was not made for this

AP is COCO AP in percent on 500 test images. Intervals are 95 %, of a bootstrap over images (and worlds,
where several are averaged), with the area under the precision envelope in place of COCO's 101 points. What
exists in DIR is used again. Base detectors are trained for 60 (N = 100) or 25 (N = 400) epochs: one to three
minutes each; the arms of a cell take one.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from detector.annotations import Annotations, load_annotations, to_clipped_xyxy
from detector.checkpoint import WEIGHTS_FILE
from detector.coco_metrics import coco_metrics
from detector.config import StageConfig
from detector.data import ImageDataset
from detector.detections import Detections, to_arrays, to_detections
from detector.execution import denormals_as_zero
from detector.frozen_trunk import KeptPool
from detector.interfaces import FeatureMaps, Regions, ScoreUpdate, TwoLinearConfig, UpdateInputs
from detector.knowledge import load_knowledge
from detector.overrides import override
from detector.rcnn import RCNN, build_model
from detector.recipes import load_recipe
from detector.stage import StageOutput
from detector.train import train
from detector.worlds import run_kgtool as kgtool

TEST_IMAGES, HELD_OUT, CORPUS = 500, 100, 20_000
BASE_EPOCHS = {50: 60, 100: 60, 200: 40, 400: 25, 1600: 5}
STAGE_EPOCHS = {50: 60, 100: 40, 200: 30, 400: 20, 1600: 10}
BATCH, LR = 16, 2e-3
RESAMPLES = 200
IOU_T = np.arange(0.5, 0.96, 0.05)


@dataclass
class Cache:
    """Regions of some images as the second stage sees them, with their pooled maps."""

    pooled_RCPP: Tensor
    regions: Regions

    def images(self, chosen: Tensor) -> "Cache":
        """The rows of some images, which are numbered anew."""
        rows = torch.cat([torch.nonzero(self.regions.image_R == image).flatten() for image in chosen])
        number = torch.empty(int(self.regions.image_R.max()) + 1, dtype=torch.int64)
        number[chosen] = torch.arange(len(chosen))
        part = self.regions[rows]
        sizes = self.regions.sizes_B2[chosen]
        return Cache(self.pooled_RCPP[rows], replace(part, image_R=number[part.image_R], sizes_B2=sizes))


def prepare(name: str, count: int, work: Path) -> Path:
    """Write a world and its graphs, train its base detector; return the world's folder."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    data, base = folder / "data", folder / f"base_{count}"
    if not data.exists():
        sizes = ["--images", str(max(400, count) + HELD_OUT), "--test-images", str(TEST_IMAGES)]
        kgtool(
            "sample", "--family", name[0], "--seed", name[1:], *sizes, "--corpus", str(CORPUS), "--out", data
        )
    classes = ("--classes", data / "train.json")
    if not (folder / "corpus.npz").exists():
        kgtool("build-relation", data / "vg/relationships.json", *classes, "--out", folder / "corpus.npz")
    if not (folder / "attribute.npz").exists():
        kgtool("build-attribute", data / "vg/attributes.json", *classes, "--out", folder / "attribute.npz")
    if not (base / "metrics.json").exists():
        config = override(load_recipe("faster_rcnn_sample"), {"train.epochs": BASE_EPOCHS[count]})
        train(config, data, base, max_images=count, overwrite=base.exists())
    return folder


def build_stacked(base: Path, num_classes: int) -> RCNN:
    """Make the base detector with a second stage of its own that starts as the first one."""
    from safetensors.torch import load_file

    model_config = load_recipe("faster_rcnn_sample").model
    stages = (StageConfig(TwoLinearConfig(128)), StageConfig(TwoLinearConfig(128)))
    model = build_model(replace(model_config, stages=stages), num_classes, None)
    weights = load_file(base / WEIGHTS_FILE)
    second = {name.replace("stages.0.", "stages.1."): tensor for name, tensor in weights.items()}
    model.load_state_dict(weights | second)
    return model.eval()


@torch.no_grad()
def keep_features(
    model: RCNN, annotations: Annotations, images: np.ndarray, *, training: bool
) -> tuple[Cache, list[dict[str, Tensor]]]:
    """Run backbone, proposals and first stage once; return what the second sees, and the plain detections."""
    torch.manual_seed(0)
    dataset = ImageDataset(annotations, images)
    model.proposals.train(training)
    caches, plain = [], []
    for number in range(len(dataset)):
        pixels, target = dataset[number]
        targets = [target] if training else None
        batch, targets = model.transform([pixels.float() / 255], targets)
        maps = model.backbone(batch.tensors)
        regions, _ = model.proposals(batch, maps, targets)
        first, second = model.stages
        if training:
            regions = model.sample(first.assign(regions, targets))
        output = first(regions)
        regions = first.refine(regions, output)
        if training:
            regions = second.assign(regions, targets)
        else:
            plain += model._remove_duplicates(regions, output, None)[0]
        kept = replace(
            regions,
            image_R=torch.full_like(regions.image_R, number),
            context=FeatureMaps((), ()),
            weight_KD1=None,
        )
        caches.append(Cache(second.pool(regions), kept))
    columns = ("boxes_R4", "image_R", "sizes_B2", "logits_RK", "labels_R", "truth_R4")
    joined = {
        name: torch.cat([getattr(cache.regions, name) for cache in caches])
        for name in columns
        if getattr(caches[0].regions, name) is not None
    }
    regions = Regions(**joined, context=FeatureMaps((), ()))
    return Cache(torch.cat([cache.pooled_RCPP for cache in caches]), regions), plain


def train_stage(model: RCNN, cache: Cache, count: int) -> None:
    """Train the second stage alone on what was kept."""
    torch.manual_seed(0)
    stage = model.stages[1]
    stage.pool = KeptPool()
    weights = list(stage.parameters())
    optimizer = torch.optim.AdamW(weights, lr=LR, weight_decay=1e-2)
    steps = -(-count // BATCH) * STAGE_EPOCHS[count]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    stage.train()
    for _ in range(STAGE_EPOCHS[count]):
        for chosen in torch.randperm(count).split(BATCH):
            part = cache.images(chosen)
            stage.pool.pooled_RCPP = part.pooled_RCPP
            losses = stage.losses(part.regions, stage(part.regions))
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
            schedule.step()
    stage.eval()


@torch.no_grad()
def predict(model: RCNN, cache: Cache) -> StageOutput:
    """What the second stage predicts without a graph, for all regions at once."""
    model.stages[1].pool.pooled_RCPP = cache.pooled_RCPP
    return model.stages[1](cache.regions)


@torch.no_grad()
def detect(model: RCNN, regions: Regions, output: StageOutput, update: ScoreUpdate | None) -> Detections:
    """Detections of the second stage, with a score update or without, image by image."""
    if update is not None:
        output = replace(output, logits_RK=update(output.logits_RK, regions))
    moved = model.stages[1].refine(regions, output)
    outputs = []
    for image in range(regions.num_images):
        rows = torch.nonzero(moved.image_R == image).flatten()
        alone = replace(moved[rows], image_R=torch.zeros_like(rows), sizes_B2=moved.sizes_B2[[image]])
        outputs += model._remove_duplicates(alone, output, None)[0]
    return to_detections(range(len(outputs)), [to_arrays(found) for found in outputs])


def learn_strength(model: RCNN, cache: Cache, counts_CC: Tensor, smoothing: float) -> float:
    """Learn the strength alone by the stage's own class loss, the rest frozen."""
    update = make_update(counts_CC, 0.5, smoothing, learned=True).train()
    logits_RK = predict(model, cache).logits_RK
    optimizer = torch.optim.LBFGS([update.strength], max_iter=30, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(update(logits_RK, cache.regions), cache.regions.labels_R)
        value.backward()
        return value

    optimizer.step(loss)
    return float(update.strength.detach())


def make_update(
    counts_CC: Tensor, strength: float, smoothing: float = 1.0, *, learned: bool = False
) -> ScoreUpdate:
    """Class lift as the recipe has it, with another strength and smoothing."""
    config = load_recipe("class_lift_sample").model.stages[0].score_update
    options = replace(config, strength=strength, smoothing=smoothing, learned=learned)
    return options.build(UpdateInputs(len(counts_CC), counts_CC)).eval()


def training_counts(annotations: Annotations, count: int) -> tuple[Tensor, Tensor]:
    """Count relations, and all pairs of boxes, of the first images; in both directions, diagonal kept."""
    num_classes = annotations.num_classes
    relations, pairs = (torch.zeros(num_classes, num_classes, dtype=torch.float64) for _ in range(2))
    document = json.loads(annotations.path.read_bytes())
    label = {category: number for number, category in enumerate(annotations.category_ids.tolist())}
    seen = set(annotations.image_ids[:count].tolist())
    class_of_box = {row["id"]: label[row["category_id"]] for row in document["annotations"]}
    for row in document["rel_annotations"]:
        if row["image_id"] in seen:
            one, two = class_of_box[row["subject_id"]], class_of_box[row["object_id"]]
            relations[one, two] += 1
            relations[two, one] += 1
    for image in range(count):
        classes = torch.from_numpy(annotations.class_N[slice(*annotations.offsets[image : image + 2])])
        of_class = torch.bincount(classes, minlength=num_classes).double()
        pairs += torch.outer(of_class, of_class) - torch.diag(of_class)
    return relations, pairs


def run_cell(name: str, count: int, work: Path) -> dict[str, Detections | float | Annotations]:
    """Run every arm of one world and one number of images."""
    folder = prepare(name, count, work)
    annotations = load_annotations(folder / "data", "train")
    tested = load_annotations(folder / "data", "test")
    names, synsets = annotations.class_names, annotations.synsets
    corpus = load_knowledge(folder / "corpus.npz", names, synsets).counts_CC
    attribute = load_knowledge(folder / "attribute.npz", names, synsets).graph_CC
    relations, pairs = training_counts(annotations, count)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(names), generator=generator)
    shuffled = corpus[order][:, order]
    known = (torch.rand(len(names), generator=generator) < 0.5).double()
    half = corpus * torch.outer(known, known)

    model = build_stacked(folder / f"base_{count}", len(names))
    learnt, _ = keep_features(model, annotations, np.arange(count), training=True)
    rest = np.arange(annotations.num_images - HELD_OUT, annotations.num_images)
    held_out, _ = keep_features(model, annotations, rest, training=True)
    test, plain = keep_features(model, tested, np.arange(tested.num_images), training=False)
    train_stage(model, learnt, count)

    found = {"plain": to_detections(range(len(plain)), [to_arrays(output) for output in plain])}
    output = predict(model, test)
    found["stacked"] = detect(model, test.regions, output, None)
    strengths: dict[str, float] = {}

    def arm(label: str, counts: Tensor, strength: float, smoothing: float = 1.0) -> None:
        strengths[label] = strength
        found[label] = detect(model, test.regions, output, make_update(counts, strength, smoothing))

    for label, counts, smoothing in (
        ("corpus", corpus, 1.0),
        ("corpus shuffled", shuffled, 1.0),
        ("train", relations, 1.0),
        ("train all pairs", pairs, 0.3),
        ("half shuffled", corpus + shuffled, 1.0),
        ("half of the classes missing", half, 1.0),
        ("attribute", 1000 * attribute, 1.0),
    ):
        arm(label, counts, 0.5, smoothing)
        arm(f"{label}, learned", counts, learn_strength(model, held_out, counts, smoothing), smoothing)
    arm("corpus shuffled, 0.25", shuffled, 0.25)
    arm("corpus, learned on train", corpus, learn_strength(model, learnt, corpus, 1.0))
    return {"annotations": tested, "found": found, "strengths": strengths}


@dataclass
class Matches:
    """Detections by class, best first: their image, and whether they are right at each of ten thresholds."""

    by_class: list[tuple[np.ndarray, np.ndarray]]
    truth_IC: np.ndarray


def match(annotations: Annotations, found: Detections) -> Matches:
    """Match as COCO does without crowds: best first, each with the free box that it overlaps most."""
    num_images, num_classes = annotations.num_images, annotations.num_classes
    image_of_box = np.repeat(np.arange(num_images), np.diff(annotations.offsets))
    truth_IC = np.zeros((num_images, num_classes))
    np.add.at(truth_IC, (image_of_box, annotations.class_N), 1)
    truth = to_clipped_xyxy(annotations.boxes_xywh, annotations.sizes_I2[image_of_box])
    by_class = []
    for label in range(num_classes):
        rows = np.flatnonzero(found.class_N == label)
        rows = rows[np.argsort(-found.score_N[rows], kind="stable")]
        right = np.zeros((len(IOU_T), len(rows)), dtype=bool)
        boxes_of_image = {
            image: np.flatnonzero((image_of_box == image) & (annotations.class_N == label))
            for image in np.unique(found.image_N[rows])
        }
        free = {image: np.ones((len(IOU_T), len(boxes)), bool) for image, boxes in boxes_of_image.items()}
        for place, row in enumerate(rows):
            image = found.image_N[row]
            boxes = boxes_of_image[image]
            if len(boxes):
                own = torch.from_numpy(found.boxes_xyxy[row : row + 1])
                iou = box_iou(own, torch.from_numpy(truth[boxes])).numpy()[0]
                value = np.where(free[image] & (iou >= IOU_T[:, None] - 1e-9), iou, -1)
                best = value.argmax(axis=1)
                right[:, place] = value.max(axis=1) >= 0
                free[image][right[:, place], best[right[:, place]]] = False
        by_class.append((found.image_N[rows], right))
    return Matches(by_class, truth_IC)


def resampled_ap(matches: Matches, weight_SI: np.ndarray) -> np.ndarray:
    """AP of each of S resamples of the images, (S,): mean over classes and thresholds."""
    total = np.zeros(len(weight_SI))
    present = np.zeros(len(weight_SI))
    for label, (images, right_TN) in enumerate(matches.by_class):
        truth_S = weight_SI @ matches.truth_IC[:, label]
        there = truth_S > 0
        present += there
        if not len(images):
            continue
        weight_SN = weight_SI[:, images]
        hit_STN = np.cumsum(weight_SN[:, None] * right_TN, axis=2)
        precision = hit_STN / np.maximum(np.cumsum(weight_SN, axis=1)[:, None], 1e-9)
        envelope = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
        gain = np.diff(hit_STN, axis=2, prepend=0)
        ap_S = (gain * envelope).sum(axis=2).mean(axis=1) / np.maximum(truth_S, 1)
        total += np.where(there, ap_S, 0)
    return total / present


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 %."""
    return [round(float(value), 2) for value in np.quantile(values, [0.025, 0.975])]


def main() -> None:
    """Run the cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", default=["W0", "W1", "W2", "L0"])
    parser.add_argument("--images", nargs="+", type=int, default=[100, 400])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with denormals_as_zero():
        for count in arguments.images:
            for name in arguments.worlds:
                save_cell(name, count, arguments.work)
    tables = [table(arguments.worlds, count, arguments.work) for count in arguments.images]
    print("\n\n".join(tables))
    (arguments.work / "class_lift.md").write_text("\n\n".join(tables) + "\n")


def save_cell(name: str, count: int, work: Path) -> None:
    """Run a cell unless its numbers are there, and keep AP and resampled AP of every arm."""
    path = work / f"{name}_{count}.json"
    if path.exists():
        return
    cell = run_cell(name, count, work)
    weight_SI = np.random.default_rng(0).multinomial(TEST_IMAGES, [1 / TEST_IMAGES] * TEST_IMAGES, RESAMPLES)
    arms = {}
    for label, found in cell["found"].items():
        ap = 100 * coco_metrics(cell["annotations"], found)["AP"]
        resampled = 100 * resampled_ap(match(cell["annotations"], found), weight_SI.astype(float))
        arms[label] = {
            "AP": round(ap, 2),
            "strength": round(cell["strengths"].get(label, 0.0), 3),
            "resampled": [round(float(value), 3) for value in resampled],
        }
        print(
            f"{name}, {count} images: {ap:5.1f}  {label}, {arms[label]['strength']}",
            file=sys.stderr,
            flush=True,
        )
    path.write_text(json.dumps({"world": name, "images": count, "arms": arms}, indent=1) + "\n")


def table(worlds: list[str], count: int, work: Path) -> str:
    """AP of every arm, and corpus minus each (both learned or neither), by world and over worlds."""
    cells = [json.loads((work / f"{name}_{count}.json").read_text())["arms"] for name in worlds]
    lines = [f"{count} training images", "", f"| arm | strength | {' | '.join(worlds)} |"]
    lines.append("|---|---|" + "---|" * len(worlds))
    for label in cells[0]:
        shown = [cell[label] for cell in cells]
        strengths = sorted({arm["strength"] for arm in shown})
        text = f"{strengths[0]:g}" if len(strengths) == 1 else f"{strengths[0]:.2f} to {strengths[-1]:.2f}"
        lines.append(f"| {label} | {text} | " + " | ".join(f"{arm['AP']:.1f}" for arm in shown) + " |")
    lines += ["", f"| corpus minus | {' | '.join(worlds)} | mean |", "|---|" + "---|" * (len(worlds) + 1)]
    rng = np.random.default_rng(1)
    for label in cells[0]:
        reference = "corpus, learned" if label.endswith(", learned") else "corpus"
        if label == reference:
            continue
        differences = [cell[reference]["AP"] - cell[label]["AP"] for cell in cells]
        resampled = np.array(
            [np.subtract(cell[reference]["resampled"], cell[label]["resampled"]) for cell in cells]
        )
        drawn = rng.integers(len(cells), size=(RESAMPLES, len(cells)))
        pooled = resampled[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1)
        columns = [
            f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
            for value, (low, high) in zip(
                [*differences, float(np.mean(differences))],
                [*map(interval, resampled), interval(pooled)],
                strict=True,
            )
        ]
        lines.append(f"| {label} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
