"""Two detectors on the same images: the difference in AP, how sure it is, and which classes it comes from."""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.annotations import Annotations
from detector.detections import Detections
from detector.errors import InputError
from detector.files import atomic_path
from detector.frequencies import FREQUENCIES, frequencies_of
from detector.match_tables import match_tables, resample_ap
from detector.trends import Trend, fit_trend, interval

#: Properties of classes that a gain may follow, and how they are called in a picture.
PROPERTIES = {
    "log_frequency": "training images of the class, log10",
    "degree": "classes that the graph joins it to",
    "neighbour_ap": "AP of its strongest neighbour without the change",
}

_RESAMPLES_AT_A_TIME = 250


@dataclass(frozen=True)
class Difference:
    """One metric of both detectors, 0..1, and how sure their difference is.

    Attributes:
        a: of the first.
        b: of the second.
        difference: b - a.
        low: end of the difference's 95 % interval over resamples of the images.
        high: its other end.
        above_zero: share of the resamples in which b is better.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    above_zero: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Detector B beside detector A on one split.

    Attributes:
        annotations: the split.
        resamples: number of resamples of its images.
        metrics: AP, AP50, AP75; APr, APc and APf where classes are known to differ in that.
        train_images: number of images that each class was trained on; empty where it is not known.
        ap_2C: AP of each class, of A and of B; NaN where the split has no box of it.
        gain_interval_2C: ends of the 95 % interval of their difference.
        neighbour_C: the class that a graph joins each most strongly to, -1 without one; None without graph.
        properties: those of `PROPERTIES` that are known, of each class; NaN where it has none.
        trends: lines of the gain over them, where there are classes enough.
    """

    annotations: Annotations
    resamples: int
    metrics: dict[str, Difference]
    train_images: tuple[int, ...]
    ap_2C: np.ndarray
    gain_interval_2C: np.ndarray
    neighbour_C: np.ndarray | None
    properties: dict[str, np.ndarray]
    trends: tuple[Trend, ...]

    @property
    def gain_C(self) -> np.ndarray:
        """What each class gains, B - A; NaN where the split has no box of it."""
        gain: np.ndarray = self.ap_2C[1] - self.ap_2C[0]
        return gain

    def summary(self) -> dict[str, Any]:
        """Return what `detector compare --json` prints: numbers are 0..1."""
        trends = [
            {"over": trend.name, "classes": trend.num_classes, "slope": trend.slope}
            | {"low": trend.low, "high": trend.high}
            for trend in self.trends
        ]
        columns = self.class_columns()
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {
            "data": self.annotations.path.name,
            "num_images": self.annotations.num_images,
            "resamples": self.resamples,
            "metrics": {name: asdict(difference) for name, difference in self.metrics.items()},
            "trends": trends,
            "classes": rows,
        }

    def class_columns(self) -> dict[str, list[Any]]:
        """Return a row a class, as columns by name; None where a number is not known."""
        annotations, unknown = self.annotations, [None] * self.annotations.num_classes
        columns: dict[str, list[Any]] = {
            "name": list(annotations.class_names),
            "train_images": list(self.train_images) or unknown,
            "boxes": annotations.boxes_per_class().tolist(),
        }
        numbers = {"AP_a": self.ap_2C[0], "AP_b": self.ap_2C[1], "gain": self.gain_C}
        numbers |= dict(zip(("low", "high"), self.gain_interval_2C, strict=True))
        numbers |= {name: known for name, known in self.properties.items() if name != "log_frequency"}
        for name, values_C in numbers.items():
            columns[name] = [float(value) if np.isfinite(value) else None for value in values_C]
        if self.neighbour_C is not None:
            names = [*annotations.class_names, None]
            columns["neighbour"] = [names[place] for place in self.neighbour_C]
        return columns


def compare(
    annotations: Annotations,
    found_a: Detections,
    found_b: Detections,
    *,
    train_images: tuple[int, ...] = (),
    graph_CC: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare what two detectors found in the same images.

    The paired bootstrap: images are drawn with replacement, the same ones for both, so that what makes an
    image hard for both drops out of the difference. Training is not drawn again: an interval says nothing
    about another seed.

    Args:
        annotations: the split.
        found_a: of the one compared with, classes in the order of `annotations`.
        found_b: of the other, in the same order.
        train_images: number of images that each class was trained on; empty where it is not known.
        graph_CC: class graph in the same order, for gains over degree and neighbours.
        resamples: how often images are drawn.
        seed: of the draws.

    Raises:
        InputError: the split has no box to find.
    """
    if not annotations.boxes_per_class().any():
        raise InputError(f"{annotations.path}: found no box; expected some to compare detectors on")
    rng = np.random.default_rng(seed)
    tables = [match_tables(annotations, found) for found in (found_a, found_b)]
    count = annotations.num_images
    once = np.ones((1, count), dtype=np.int64)
    ap_2CT = np.stack([resample_ap(table, once)[0].astype(np.float64) for table in tables])
    times_BI = rng.multinomial(count, np.full(count, 1 / count), resamples)
    groups = _groups(annotations, train_images)
    gain_BC, metric_B2M = _resample(tables, times_BI, groups)
    ap_2C = ap_2CT.mean(axis=2)
    neighbour_C, properties = _properties(train_images, graph_CC, ap_2C[0])
    trends = [fit_trend(name, known, ap_2C[1] - ap_2C[0], gain_BC, rng) for name, known in properties.items()]
    means = np.stack([_metrics(part[None], groups)[0] for part in ap_2CT])
    return Comparison(
        annotations,
        resamples,
        {name: _difference(means[:, place], metric_B2M[:, :, place]) for place, name in enumerate(groups)},
        train_images,
        ap_2C,
        np.stack(_class_intervals(gain_BC)),
        neighbour_C,
        properties,
        tuple(trend for trend in trends if trend is not None),
    )


def save_class_gains(comparison: Comparison, path: Path) -> None:
    """Write a CSV with a row a class (see `Comparison.class_columns`), atomically; None is empty."""
    columns = comparison.class_columns()
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row)


def strongest_neighbours(graph_CC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's strongest neighbour, -1 without one, and its number of neighbours.

    Either direction of an edge counts, a class itself does not.
    """
    edge_CC = np.maximum(graph_CC, graph_CC.T)
    np.fill_diagonal(edge_CC, 0)
    degree_C = (edge_CC > 0).sum(axis=1)
    return np.where(degree_C > 0, edge_CC.argmax(axis=1), -1), degree_C


#: A metric: which IoU thresholds, and which classes.
_Group = tuple[slice, np.ndarray]


def _groups(annotations: Annotations, train_images: tuple[int, ...]) -> dict[str, _Group]:
    every = np.ones(annotations.num_classes, dtype=bool)
    whole = slice(None)
    groups = {"AP": (whole, every), "AP50": (slice(0, 1), every), "AP75": (slice(5, 6), every)}
    stated = annotations.frequencies
    frequencies = frequencies_of(train_images) if "" in stated else stated
    for letter in FREQUENCIES if len(set(frequencies)) > 1 else ():
        chosen = (np.array(frequencies) == letter) & (annotations.boxes_per_class() > 0)
        if chosen.any():
            groups[f"AP{letter}"] = (whole, chosen)
    return groups


def _metrics(ap_BCT: np.ndarray, groups: dict[str, _Group]) -> np.ndarray:
    """Means over the classes that a resample has boxes of, (B, M)."""
    found_BC = np.isfinite(ap_BCT[:, :, 0])
    columns = []
    for thresholds, chosen_C in groups.values():
        ap_BC = np.where(found_BC, ap_BCT[:, :, thresholds].mean(axis=2, dtype=np.float64), 0.0)
        number_B = (found_BC & chosen_C).sum(axis=1)
        sum_B = (ap_BC * chosen_C).sum(axis=1)
        columns.append(np.divide(sum_B, number_B, out=np.full(len(sum_B), np.nan), where=number_B > 0))
    return np.stack(columns, axis=1)


def _resample(
    tables: list[Any], times_BI: np.ndarray, groups: dict[str, _Group]
) -> tuple[np.ndarray, np.ndarray]:
    """Gain of each class, (B, C), and the metrics of both, (B, 2, M), in resamples of the images."""
    gains, metrics = [], []
    for start in range(0, len(times_BI), _RESAMPLES_AT_A_TIME):
        both = [resample_ap(table, times_BI[start : start + _RESAMPLES_AT_A_TIME]) for table in tables]
        gains.append(both[1].mean(axis=2) - both[0].mean(axis=2))
        metrics.append(np.stack([_metrics(part, groups) for part in both], axis=1))
    return np.concatenate(gains), np.concatenate(metrics)


def _difference(of_both: np.ndarray, resampled_B2: np.ndarray) -> Difference:
    difference_B = resampled_B2[:, 1] - resampled_B2[:, 0]
    low, high = interval(difference_B)
    a, b = of_both.tolist()
    return Difference(a, b, b - a, float(low), float(high), float((difference_B > 0).mean()))


def _class_intervals(gain_BC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of each class; NaN for one without boxes."""
    found_C = np.isfinite(gain_BC).any(axis=0)
    ends = np.full((2, gain_BC.shape[1]), np.nan)
    if found_C.any():
        ends[:, found_C] = np.stack(interval(gain_BC[:, found_C]))
    return ends[0], ends[1]


def _properties(
    train_images: tuple[int, ...], graph_CC: np.ndarray | None, ap_C: np.ndarray
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    properties = {}
    if train_images:
        images_C = np.array(train_images, dtype=np.float64)
        logarithm_C = np.full(len(images_C), np.nan)
        properties["log_frequency"] = np.log10(images_C, out=logarithm_C, where=images_C > 0)
    if graph_CC is None:
        return None, properties
    neighbour_C, degree_C = strongest_neighbours(graph_CC)
    properties["degree"] = degree_C.astype(np.float64)
    properties["neighbour_ap"] = np.where(neighbour_C >= 0, ap_C[neighbour_C], np.nan)
    return neighbour_C, properties
