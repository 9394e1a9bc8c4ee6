"""Run folders with random weights, for tests of what reads them."""

from pathlib import Path

import torch

from detector.annotations import load_annotations
from detector.checkpoint import RunClasses, save_classes, save_config, save_weights
from detector.config import Config
from detector.rcnn import RCNN, build_model


def write_run(
    folder: Path,
    config: Config,
    data: Path,
    *,
    graph_CC: torch.Tensor | None = None,
    counts_CC: torch.Tensor | None = None,
    seed: int = 0,
    names: tuple[str, ...] = (),
) -> RCNN:
    """Write a run as if trained on a data folder, its classes in the order given; return its model."""
    annotations = load_annotations(data, "train")
    annotations = annotations.with_classes(names or annotations.class_names, owner="a test")
    torch.manual_seed(seed)
    model = build_model(config.model, annotations.num_classes, graph_CC, counts_CC)
    folder.mkdir()
    save_config(config, folder)
    classes = RunClasses(
        annotations.class_names,
        annotations.synsets,
        tuple(annotations.category_ids.tolist()),
        () if graph_CC is None else ("hash",),
        tuple(annotations.images_per_class().tolist()),
    )
    save_classes(classes, folder)
    save_weights(model, folder)
    return model.eval()
