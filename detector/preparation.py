"""What a run is made of before its first step: data and graphs, the model, and all that it trains with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import RunClasses, load_fitting_weights
from detector.config import Config, reads_graph
from detector.errors import ConfigError, InputError
from detector.execution import set_memory_order
from detector.freezing import freeze_others
from detector.knowledge import Knowledge, load_knowledge
from detector.optimizer import build_optimizer, build_schedule
from detector.rcnn import RCNN, build_model
from detector.training_state import TrainingState
from detector.trust import count_pairs
from detector.weight_average import WeightAverage


def check_graph_wanted(config: Config, graphs: Sequence[Path]) -> None:
    """Check that a graph is given exactly when a head reads one.

    Raises:
        ConfigError: it is missing or would be ignored.
    """
    needed = reads_graph(config.model)
    if needed and not graphs:
        raise ConfigError(
            f"recipe {config.recipe} needs a class graph and got none; give --graph FILE "
            "(made by kgtool build-relation or build-attribute)"
        )
    if graphs and not needed:
        raise ConfigError(
            f"--graph {graphs[0]}: no head of recipe {config.recipe} reads a graph; leave --graph out, or "
            "take a recipe with one (detector recipes)"
        )


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run learns from.

    Attributes:
        annotations: what is trained on.
        evaluated: what is evaluated on, in the same class order.
        knowledge: the class graphs.
    """

    annotations: Annotations
    evaluated: Annotations
    knowledge: list[Knowledge]


def load_inputs(
    config: Config, data: Path, graphs: Sequence[Path], splits: tuple[str, str], max_images: int | None
) -> Inputs:
    """Read what is trained and evaluated on, and the graphs of its classes.

    Raises:
        InputError: the data is not what it should be, or has no box to train on.
        ClassMatchError: graph, data and evaluation data do not name the same classes.
    """
    masks = config.model.mask is not None
    annotations, evaluated = (
        load_annotations(data, split, max_images=max_images, masks=masks) for split in splits
    )
    evaluated = evaluated.with_classes(annotations.class_names, owner=str(annotations.path))
    if len(annotations.usable_images()) == 0:
        raise InputError(f"{annotations.path}: no image with a box to train on; expected one or more")
    names, synsets = annotations.class_names, annotations.synsets
    return Inputs(annotations, evaluated, [load_knowledge(graph, names, synsets) for graph in graphs])


def build_from(config: Config, inputs: Inputs, init: Path | None) -> tuple[RCNN, list[str]]:
    """Make the model, from another run's weights where given, and say what there is to say about it.

    Raises:
        ConfigError: parts of the configuration do not fit.
        ClassMatchError, InputError: see `load_fitting_weights`.
    """
    weights = torch.stack([part.graph_CC for part in inputs.knowledge]) if inputs.knowledge else None
    counted = next((part for part in inputs.knowledge if part.counts_CC is not None), None)
    counts_CC, positions = (counted.counts_CC, counted.positions) if counted else (None, None)
    updated = any(stage.score_update for stage in config.model.stages)
    own_CC = count_pairs(inputs.annotations) if updated else None
    num_classes = inputs.annotations.num_classes
    model = build_model(config.model, num_classes, weights, counts_CC, own_CC, positions)
    messages = [*model.messages, *(message for part in inputs.knowledge for message in part.messages)]
    if init:
        messages.append(load_fitting_weights(model, init, inputs.annotations.class_names))
    freeze_others(model, config.train.part)
    return model, messages


def start_state(model: RCNN, config: Config, steps_per_epoch: int) -> TrainingState:
    """Return a model before its first step, with everything that it trains with; on the model's device."""
    settings = config.train
    device = next(model.parameters()).device
    set_memory_order(model, settings)
    if settings.sync_batch_norm and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    average = WeightAverage(model, settings.average_decay) if settings.average_decay else None
    if settings.compile:  # each when it first runs; evaluation runs the average
        for kept in (model, average.model) if average else (model,):
            kept.backbone.compile()  # type: ignore[union-attr]
    optimizer = build_optimizer(model, settings)
    schedule = build_schedule(optimizer, settings, steps_per_epoch)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    return TrainingState(model, optimizer, schedule, scaler, settings.epochs, steps_per_epoch, average)


def classes_of(inputs: Inputs, identity: str) -> RunClasses:
    """Return what a run folder says of the classes, and of the identity of what is learned from."""
    annotations = inputs.annotations
    return RunClasses(
        names=annotations.class_names,
        synsets=annotations.synsets,
        category_ids=tuple(annotations.category_ids.tolist()),
        graph_hashes=tuple(part.graph_hash for part in inputs.knowledge),
        train_images=tuple(annotations.images_per_class().tolist()),
        inputs=identity,
    )


def identity_of(inputs: Inputs, init: Path | None) -> str:
    """Return the SHA-256 of what a run learns from: it goes on only with the same."""
    digest = hashlib.sha256(repr([part.graph_hash for part in inputs.knowledge]).encode())
    digest.update(repr((inputs.annotations.class_names, init is not None)).encode())
    columns = [
        "image_ids",
        "sizes_I2",
        "offsets",
        "boxes_xywh",
        "class_N",
        "area_N",
        "crowd_N",
        "usable_N",
        "category_ids",
    ]
    for split in (inputs.annotations, inputs.evaluated):
        for name in columns:
            digest.update(np.ascontiguousarray(getattr(split, name)).tobytes())
        digest.update("\n".join(split.file_names.tolist()).encode())
        if split.segmentation_N is not None:
            for part in (split.segmentation_N.offsets, split.segmentation_N.bytes_M):
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
