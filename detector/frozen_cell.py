"""A cell of an experiment on a frozen trunk: one arm, trained on the regions that its source has kept."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detector.ablation_arms import Arm
from detector.ablation_source import SPLITS, Source, Spent, as_json, save_result
from detector.checkpoint import TrainedRun, load_run
from detector.config import ModelConfig, StageConfig, TrainConfig
from detector.errors import ConfigError
from detector.execution import denormals_as_zero
from detector.frozen_trunk import detect_kept, keep_regions, load_kept, save_kept, start_stages, train_stages
from detector.interfaces import SharedHeadConfig, TwoLinearConfig
from detector.knowledge import Knowledge, load_knowledge
from detector.measuring import count_weights
from detector.nms import GreedyNMSConfig, SoftNMSConfig
from detector.overrides import flatten
from detector.positions import no_counts
from detector.rcnn import RCNN, build_model
from detector.trust import count_pairs


@dataclass(frozen=True)
class FrozenCell:
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

    @property
    def num_stages(self) -> int:
        """The base's stage and the arm's."""
        return 2

    def settings(self) -> dict[str, Any]:
        """Return everything that its result depends on, as JSON has it."""
        return {
            "protocol": "frozen-trunk",
            "arm": self.arm.name,
            "graph_kind": self.arm.graph,
            "stage": as_json(flatten(self.arm.stage)),
            "train": as_json(flatten(self.train)),
            "max_images": self.source.max_images,
            "resamples": self.resamples,
            **self._start(),
            **self.source.digests(self.arm.graph),
        }

    def _start(self) -> dict[str, Any]:
        """The stage whose numbers it starts with, where it is another one and it draws any."""
        drawn = not isinstance(self.arm.stage.head, SharedHeadConfig)
        if self.arm.stage == self.recipe_stage or not drawn:
            return {}
        named = {"head": type(self.recipe_stage.head).__name__, **flatten(self.recipe_stage)}
        return {"recipe_stage": as_json(named)}

    def run(self) -> dict[str, Any]:
        """Train the arm on what `keep_source` has kept, evaluate it and write its result.

        Raises:
            TrainingError: a loss is not finite.
            ClassMatchError, InputError: data, graph or base do not fit.
        """
        run = load_run(self.source.base, torch.device("cpu"))
        annotations = self.source.annotations("test", run)
        model = self.build(run)
        with denormals_as_zero():
            begun = time.process_time()
            train_stages(model, load_kept(self.source.kept("train")), self.train)
            seconds = time.process_time() - begun
            found, milliseconds = detect_kept(model, load_kept(self.source.kept("test")), annotations)
        spent = Spent(count_weights(model), seconds, milliseconds)
        about = model.diagnostics()
        return save_result(
            self, self.arm.name, self.train.seed, annotations, found, spent, about, self.resamples
        )

    def build(self, run: TrainedRun) -> RCNN:
        """Make the detector as it starts: what arms have in common is the same to the bit."""
        model = self._build(run, self.arm.stage)
        start_stages(model, run.model, self._build(run, self.recipe_stage))
        return model

    def _build(self, run: TrainedRun, stage: StageConfig) -> RCNN:
        """A detector with the base's first stage and one more; the same seed draws the same numbers."""
        first, names = run.config.model, run.classes.names
        backbone = replace(first.backbone, weights="none")
        config = replace(
            first, backbone=backbone, stages=(*first.stages, stage), class_scores="last", mask=None
        )
        path = self.source.graph_file(self.arm.graph, self.train.seed)
        empty = torch.zeros(len(names), len(names))
        known = Knowledge(empty, "", counts_CC=empty, positions=no_counts(len(names)))
        if path is not None:
            known = load_knowledge(path, names, run.classes.synsets)
        own_CC = count_pairs(self.source.annotations("train", run)) if stage.score_update else None
        torch.manual_seed(self.train.seed)
        return build_model(config, len(names), known.graph_CC, known.counts_CC, own_CC, known.positions)


def keep_source(source: Source) -> int:
    """Keep what the cells of a source are trained and evaluated on; return the number of regions.

    Raises:
        ConfigError: see `check_base`.
    """
    run = load_run(source.base, torch.device("cpu"))
    check_base(run.config.model, str(source.base))
    drop_source(source)
    count = 0
    with denormals_as_zero():
        for split in SPLITS:
            kept = keep_regions(run.model, source.annotations(split, run), training=split == "train")
            save_kept(kept, source.kept(split))
            count += len(kept.regions)
    return count


def check_base(model: ModelConfig, name: str) -> None:
    """Check that arms can stand behind a base detector on a frozen trunk.

    Args:
        model: of the base detector.
        name: what a message calls it.

    Raises:
        ConfigError: it has another than one plain stage, or removes duplicates by a network.
    """
    if len(model.stages) != 1 or not isinstance(model.stages[0].head, TwoLinearConfig):
        heads = ", ".join(type(stage.head).__name__ for stage in model.stages) or "none"
        raise ConfigError(
            f"{name}: found {len(model.stages)} stages ({heads}); expected a detector with one plain stage, "
            "such as faster_rcnn_sample"
        )
    if not isinstance(model.duplicate_removal, GreedyNMSConfig | SoftNMSConfig):
        raise ConfigError(
            f"{name}: found a learned duplicate removal, which would have to be trained again for every arm; "
            "expected NMS"
        )


def drop_source(source: Source) -> None:
    """Remove what `keep_source` has written."""
    for split in SPLITS:
        source.kept(split).unlink(missing_ok=True)
    for part in source.folder.glob(".regions_*.part"):  # of a program that was killed while it wrote
        part.unlink()
