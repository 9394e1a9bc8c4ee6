"""One cell of an experiment: one arm with one seed on one data set, trained on a frozen trunk."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detector.ablation_arms import GIVEN, Arm
from detector.annotations import Annotations, load_annotations
from detector.checkpoint import WEIGHTS_FILE, TrainedRun, load_run
from detector.coco_metrics import coco_metrics
from detector.config import StageConfig, TrainConfig
from detector.detections import Detections
from detector.errors import ConfigError, OutputExistsError
from detector.files import load_json, save_json
from detector.frozen_trunk import detect_kept, keep_regions, load_kept, save_kept, start_stages, train_stages
from detector.interfaces import TwoLinearConfig
from detector.knowledge import load_knowledge
from detector.match_tables import match_tables, resample_ap
from detector.measuring import count_weights
from detector.overrides import flatten
from detector.rcnn import RCNN, build_model
from detector.train import denormals_as_zero
from detector.worlds import make_control

#: The splits of a data folder: what is trained on, and what is evaluated on.
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Source:
    """A data set with its graph and the base detector that was trained on it.

    Attributes:
        name: of a world, or of the data folder.
        folder: where its cells and everything that they share are written.
        data: data folder with the splits train and test.
        graph: class graph; None where no arm reads one.
        base: run folder of the base detector.
        max_images: the first so many images with boxes of each split; None: all.
    """

    name: str
    folder: Path
    data: Path
    graph: Path | None
    base: Path
    max_images: int | None = None

    def annotations(self, split: str, run: TrainedRun) -> Annotations:
        """Load a split with its classes in the order of a run's."""
        found = load_annotations(self.data, split, max_images=self.max_images)
        return found.with_classes(run.classes.names, owner=f"the run {self.base}")

    def kept(self, split: str) -> Path:
        """Where the regions of a split are kept while cells are made."""
        return self.folder / f"regions_{split}.safetensors"


@dataclass(frozen=True)
class Cell:
    """One arm with one seed on one source.

    Attributes:
        source: the data.
        arm: the arm.
        recipe_stage: the second stage of the experiment's recipe, whose first random weights all arms share.
        train: how stages are trained, with the seed.
        resamples: how often the test images are drawn again.
    """

    source: Source
    arm: Arm
    recipe_stage: StageConfig
    train: TrainConfig
    resamples: int

    @property
    def path(self) -> Path:
        """The JSON file with its result."""
        return self.source.folder / "cells" / f"{self.arm.name}_{self.train.seed}.json"

    def settings(self) -> dict[str, Any]:
        """Everything that its result depends on, as JSON has it."""
        source = self.source
        files = {"base": source.base / WEIGHTS_FILE}
        if self.arm.graph and source.graph is not None:
            files["graph"] = source.graph
        return {
            "protocol": "frozen-trunk",
            "arm": self.arm.name,
            "graph_kind": self.arm.graph,
            "stage": _plain(flatten(self.arm.stage)),
            "train": _plain(flatten(self.train)),
            "max_images": source.max_images,
            "resamples": self.resamples,
            **{name: _digest(path) for name, path in files.items()},
        }


def is_done(cell: Cell, *, overwrite: bool) -> bool:
    """Say whether a cell was made with the same settings.

    Raises:
        OutputExistsError: it was made with others and `overwrite` is false; the message names the first.
    """
    if not cell.path.is_file():
        return False
    found, wanted = load_json(cell.path).get("settings", {}), cell.settings()
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other and not overwrite:
        raise OutputExistsError(
            f"{cell.path}: was made with other settings ({', '.join(other)}); give --overwrite to make it "
            "again, or another --out"
        )
    return not other


def keep_source(source: Source) -> int:
    """Keep what the cells of a source are trained and evaluated on; return the number of regions.

    Raises:
        ConfigError: the base detector has another than one plain stage.
    """
    run = load_run(source.base, torch.device("cpu"))
    stages = run.config.model.stages
    if len(stages) != 1 or not isinstance(stages[0].head, TwoLinearConfig):
        raise ConfigError(
            f"{source.base}: found {len(stages)} stages; expected a detector with one plain stage, such as a "
            "run of faster_rcnn_sample"
        )
    count = 0
    with denormals_as_zero():
        for split in SPLITS:
            kept = keep_regions(run.model, source.annotations(split, run), training=split == "train")
            save_kept(kept, source.kept(split))
            count += len(kept.regions)
    return count


def drop_source(source: Source) -> None:
    """Remove what `keep_source` has written."""
    for split in SPLITS:
        source.kept(split).unlink(missing_ok=True)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train one arm, evaluate it and write its result; return it.

    Raises:
        TrainingError: a loss is not finite.
        ClassMatchError, InputError: data, graph or base do not fit.
    """
    run = load_run(cell.source.base, torch.device("cpu"))
    annotations = cell.source.annotations("test", run)
    model = build_cell(cell, run)
    with denormals_as_zero():
        begun = time.process_time()
        train_stages(model, load_kept(cell.source.kept("train")), cell.train)
        seconds = time.process_time() - begun
        found, milliseconds = detect_kept(model, load_kept(cell.source.kept("test")), annotations)
    metrics = coco_metrics(annotations, found)
    result = {
        "source": cell.source.name,
        "arm": cell.arm.name,
        "seed": cell.train.seed,
        "metrics": {name: value for name, value in metrics.items() if value >= 0},
        "parameters": count_weights(model),
        "cpu_seconds": round(seconds, 2),
        "milliseconds": round(milliseconds, 3),
        "diagnostics": model.diagnostics(),
        "resampled_AP": resampled_ap(annotations, found, cell.resamples),
        "settings": cell.settings(),
    }
    cell.path.parent.mkdir(exist_ok=True)
    save_json(result, cell.path)
    return result


def build_cell(cell: Cell, run: TrainedRun) -> RCNN:
    """Make the detector of a cell as it starts: what arms have in common is the same to the bit."""
    model = _build(cell, run, cell.arm.stage)
    start_stages(model, run.model, _build(cell, run, cell.recipe_stage))
    return model


def resampled_ap(annotations: Annotations, found: Detections, resamples: int) -> list[float]:
    """AP, 0..1, in resamples of the images, which are the same for every arm and seed."""
    count = annotations.num_images
    times_BI = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), resamples)
    ap_BC = resample_ap(match_tables(annotations, found), times_BI).mean(axis=2)
    return [round(float(value), 6) for value in np.nanmean(ap_BC, axis=1)]


def _build(cell: Cell, run: TrainedRun, stage: StageConfig) -> RCNN:
    """A detector with the base's first stage and one more; the same seed draws the same numbers."""
    first = run.config.model
    backbone = replace(first.backbone, weights="none")
    config = replace(first, backbone=backbone, stages=(*first.stages, stage), class_scores="last")
    graph_CC, counts_CC = _graph(cell, run)
    torch.manual_seed(cell.train.seed)
    return build_model(config, len(run.classes.names), graph_CC, counts_CC)


def _graph(cell: Cell, run: TrainedRun) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The graph of an arm, and its counts; zeros where it reads none."""
    source, kind = cell.source, cell.arm.graph
    size = len(run.classes.names)
    if not kind or source.graph is None:
        return torch.zeros(size, size), torch.zeros(size, size)
    path = source.graph
    if kind != GIVEN:
        path = make_control(
            path, kind, cell.train.seed, source.folder / f"graph_{kind}_{cell.train.seed}.npz"
        )
    knowledge = load_knowledge(path, run.classes.names, run.classes.synsets)
    return knowledge.graph_CC, knowledge.counts_CC


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as the lists that JSON makes of them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _digest(path: Path) -> str:
    """The beginning of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
