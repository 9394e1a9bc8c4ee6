"""What the cells of an experiment have in common: their data, and how a result is written.

A **cell** is one arm with one seed on one data set. Its result is a small JSON file, which says everything
that the result depends on; it is not made again while that stays the same.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from detector.ablation_arms import GIVEN
from detector.annotations import Annotations, find_annotation_file, load_annotations
from detector.checkpoint import WEIGHTS_FILE, TrainedRun
from detector.coco_metrics import coco_metrics
from detector.detections import Detections
from detector.errors import InputError, OutputExistsError
from detector.files import load_json, save_json
from detector.match_tables import match_tables, resample_ap
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
        """Load a split with its classes in the order of a run's.

        Raises:
            InputError: it has no box.
        """
        found = load_annotations(self.data, split, max_images=self.max_images)
        if not found.boxes_per_class().any():
            raise InputError(f"{found.path}: found no box; expected some to compare arms on")
        return found.with_classes(run.classes.names, owner=f"the run {self.base}")

    def kept(self, split: str) -> Path:
        """Where the regions of a split are kept while cells are made."""
        return self.folder / f"regions_{split}.safetensors"

    def graph_file(self, kind: str, seed: int) -> Path | None:
        """Return the graph that an arm reads, made where it is a control; None for one that reads none.

        A control's name has the beginning of its graph's SHA-256: that of another graph is another file.
        """
        if not kind or self.graph is None:
            return None
        if kind == GIVEN:
            return self.graph
        of_graph = self.digests(kind)["graph"]
        return make_control(self.graph, kind, seed, self.folder / f"graph_{kind}_{seed}_{of_graph[:8]}.npz")

    def digests(self, kind: str) -> dict[str, str]:
        """Return the beginning of the SHA-256 of the files that an arm depends on."""
        files = {"base": self.base / WEIGHTS_FILE}
        if kind and self.graph is not None:
            files["graph"] = self.graph
        if not self.data.is_relative_to(self.folder):  # a world, which was made here, does not change
            files |= {f"data_{split}": find_annotation_file(self.data, split) for split in SPLITS}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()}


class Cell(Protocol):
    """One arm with one seed on one source; `frozen_cell` and `training_cell` have the two kinds."""

    @property
    def source(self) -> Source:
        """The data."""

    @property
    def path(self) -> Path:
        """The JSON file with its result."""

    @property
    def num_stages(self) -> int:
        """Region stages of its detector."""

    def settings(self) -> dict[str, Any]:
        """Return everything that its result depends on, as JSON has it."""

    def run(self) -> dict[str, Any]:
        """Make it, write its result (see `save_result`) and return that."""


def is_done(cell: Cell, *, overwrite: bool) -> bool:
    """Say whether a cell was made with the same settings.

    Raises:
        OutputExistsError: it was made with others and `overwrite` is false; the message names the first.
    """
    if not cell.path.is_file():
        return False
    found, wanted = load_json(cell.path).get("settings", {}), cell.settings()
    other = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if other and not overwrite:
        raise OutputExistsError(
            f"{cell.path}: was made with other settings ({', '.join(other)}); give --overwrite to make it "
            "again, or another --out"
        )
    return not other


@dataclass(frozen=True)
class Spent:
    """What an arm costs.

    Attributes:
        parameters: weights of its detector.
        cpu_seconds: of training, processor time.
        milliseconds: of an image in evaluation, processor time: of the region stages on a frozen trunk, of
            the whole detector end to end.
    """

    parameters: int
    cpu_seconds: float
    milliseconds: float


def save_result(
    cell: Cell,
    arm: str,
    seed: int,
    annotations: Annotations,
    found: Detections,
    spent: Spent,
    diagnostics: dict[str, Tensor],
    resamples: int,
) -> dict[str, Any]:
    """Evaluate what an arm has found and write the cell's result, atomically; return it."""
    metrics = coco_metrics(annotations, found)
    result = {
        "source": cell.source.name,
        "arm": arm,
        "seed": seed,
        "metrics": {name: value for name, value in metrics.items() if value >= 0},
        "parameters": spent.parameters,
        "cpu_seconds": round(spent.cpu_seconds, 2),
        "milliseconds": round(spent.milliseconds, 3),
        "diagnostics": {key: value.item() for key, value in diagnostics.items()},
        "resampled_AP": resampled_ap(annotations, found, resamples),
        "detections": digest_of(found),
        "settings": cell.settings(),
    }
    cell.path.parent.mkdir(exist_ok=True)
    save_json(result, cell.path)
    return result


def digest_of(found: Detections) -> str:
    """Return the beginning of a SHA-256 of images, boxes, classes and scores: the same for equal ones."""
    columns = (found.image_N, found.boxes_xyxy, found.class_N, found.score_N)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


def resampled_ap(annotations: Annotations, found: Detections, resamples: int) -> list[float]:
    """AP, 0..1, in resamples of the images, which are the same for every arm and seed.

    The mean over the classes that a resample has boxes of; 0 where it has none at all.
    """
    count = annotations.num_images
    times_BI = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), resamples)
    ap_BC = resample_ap(match_tables(annotations, found), times_BI).mean(axis=2)
    known_BC = np.isfinite(ap_BC)
    mean_B = np.where(known_BC, ap_BC, 0).sum(axis=1) / np.maximum(known_BC.sum(axis=1), 1)
    return [round(float(value), 6) for value in mean_B]


def as_json(values: dict[str, Any]) -> Any:
    """Return values as JSON gives them back: tuples become lists."""
    return json.loads(json.dumps(values))
