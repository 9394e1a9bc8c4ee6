"""Two run folders on the same images: see `detector.comparison` for what is compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import TrainedRun, Weights, load_run
from detector.comparison import Comparison, compare, save_class_gains
from detector.comparison_plots import save_comparison
from detector.detections import Detections
from detector.device import pick_device
from detector.evaluate import detect
from detector.execution import set_memory_order
from detector.files import check_file_free
from detector.head_views import find_class_head
from detector.knowledge import load_knowledge
from detector.plotting import check_matplotlib


def compare_runs(
    run_a: Path,
    run_b: Path,
    data: Path,
    split: str = "test",
    *,
    graph: Path | None = None,
    weights: Weights = "last",
    max_images: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 4,
    device: str = "auto",
    table: Path | None = None,
    plot: Path | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Compare two runs on a split of a data folder; classes are matched by name.

    Args:
        run_a: the run compared with, such as the control.
        run_b: the other.
        data: the data folder.
        split: of the data.
        graph: class graph whose edges say who neighbours whom; None: that of `run_b`, else of `run_a`, if
            they have one.
        weights: "last", or "best" of runs with several evaluations.
        max_images: the first so many images with boxes.
        resamples: how often images are drawn.
        seed: of the draws.
        batch_size: images at a time.
        device: "auto", "cpu" or "cuda".
        table: CSV to write, a row a class.
        plot: picture to write.
        overwrite: replace what is there.

    Raises:
        InputError: a run or the data is not what it should be.
        ClassMatchError: they do not name the same classes.
        MissingResourceError: no such device, or matplotlib is needed and missing.
        OutputExistsError: a file to write is there.
    """
    for path in (table, plot):
        if path:
            check_file_free(path, overwrite=overwrite)
    if plot:
        check_matplotlib(f"--plot {plot}")
    where = pick_device(device)
    runs = [load_run(run, where, weights=weights) for run in (run_a, run_b)]
    names = runs[0].classes.names
    annotations = load_annotations(data, split, max_images=max_images)
    annotations = annotations.with_classes(names, owner=f"the run {run_a}")
    found = [_detect(run, annotations, batch_size) for run in runs]
    comparison = compare(
        annotations,
        *found,
        train_images=runs[0].classes.train_images,
        graph_CC=_graph(graph, runs, annotations),
        resamples=resamples,
        seed=seed,
    )
    if table:
        save_class_gains(comparison, table)
    if plot:
        save_comparison(comparison, plot)
    return comparison


def _detect(run: TrainedRun, annotations: Annotations, batch_size: int) -> Detections:
    """What a run finds, its classes in the order of `annotations`."""
    names = annotations.class_names
    ordered = annotations.with_classes(run.classes.names, owner=f"the run {run.folder}")
    settings = run.config.train
    set_memory_order(run.model, settings)
    found = detect(run.model, ordered, batch_size=batch_size, precision=settings.precision)
    place_C = np.array([names.index(name) for name in run.classes.names], dtype=np.int64)
    return replace(found, class_N=place_C[found.class_N], masks_N=None)


def _graph(path: Path | None, runs: list[TrainedRun], annotations: Annotations) -> np.ndarray | None:
    """The class graph in the order of `annotations`; of several graphs of a run, their sum."""
    names = annotations.class_names
    if path:
        graph_CC: np.ndarray = load_knowledge(path, names, annotations.synsets).graph_CC.numpy()
        return graph_CC
    for run in reversed(runs):
        head = find_class_head(run.model.stages)
        if head is not None:
            order = torch.tensor([run.classes.names.index(name) for name in names])
            summed_CC = head.class_graphs().sum(dim=0).cpu()[order][:, order]
            return np.asarray(summed_CC)
    return None
