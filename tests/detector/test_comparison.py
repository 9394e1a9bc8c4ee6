"""Two detectors on the same images: differences, intervals, trends, files."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_examples import ground_truth, random_detections
from PIL import Image
from run_folders import write_run
from tiny_data import write_data, write_graph

from detector.annotations import Annotations, load_annotations
from detector.cli import main
from detector.coco_metrics import coco_metrics
from detector.comparison import compare, strongest_neighbours
from detector.comparison_plots import save_comparison
from detector.errors import InputError
from detector.recipes import load_recipe
from detector.trends import fit_trend


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return load_annotations(write_data(tmp_path / "data", train=30), "train")


def test_the_difference_is_that_of_coco_metrics_and_lies_in_its_interval(annotations: Annotations) -> None:
    found = [random_detections(annotations, seed) for seed in (0, 1)]
    comparison = compare(annotations, *found, resamples=200)
    a, b = (coco_metrics(annotations, one) for one in found)
    for name, difference in comparison.metrics.items():
        assert difference.a == pytest.approx(a[name], abs=1e-6)
        assert difference.difference == pytest.approx(b[name] - a[name], abs=1e-6)
        assert difference.low < difference.high
    assert comparison.metrics["AP"].low < comparison.metrics["AP"].difference < comparison.metrics["AP"].high


def test_a_detector_is_exactly_as_good_as_itself(annotations: Annotations) -> None:
    found = random_detections(annotations, seed=0)
    difference = compare(annotations, found, found, resamples=50).metrics["AP"]
    assert (difference.difference, difference.low, difference.high, difference.above_zero) == (0, 0, 0, 0)


def test_images_are_drawn_for_both_so_that_a_small_steady_gain_is_seen(annotations: Annotations) -> None:
    """B is A and every box once more, with a middling score: better in every resample."""
    found = random_detections(annotations, seed=0)
    right = ground_truth(annotations)
    best = replace(right, score_N=np.full(len(right), 0.5, np.float32))
    joined = [
        np.concatenate([getattr(found, name), getattr(best, name)])
        for name in ("image_N", "boxes_xyxy", "class_N", "score_N")
    ]
    difference = compare(annotations, found, type(found)(*joined), resamples=200).metrics["AP"]
    assert difference.low > 0
    assert difference.above_zero == 1


def test_the_same_seed_gives_the_same_comparison_and_another_does_not(annotations: Annotations) -> None:
    found = [random_detections(annotations, seed) for seed in (0, 1)]
    first, again, other = (
        compare(annotations, *found, resamples=50, seed=seed).summary() for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_rare_and_common_classes_have_an_interval_where_there_are_both(annotations: Annotations) -> None:
    found = [random_detections(annotations, seed) for seed in (0, 1)]
    annotations = replace(annotations, frequencies=("r", "c", "c"))
    metrics = compare(annotations, *found, resamples=20).metrics
    assert list(metrics) == ["AP", "AP50", "AP75", "APr", "APc"]


def test_nothing_to_find_is_one_clear_line(annotations: Annotations) -> None:
    empty = annotations.select(np.zeros(0, dtype=np.int64))
    nothing = random_detections(annotations, 0).select(np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError, match="found no box"):
        compare(empty, nothing, nothing)


def test_neighbours_are_joined_by_either_direction_and_not_by_themselves() -> None:
    graph_CC = np.array([[9.0, 0, 0.2, 0], [0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3.0]])
    neighbour_C, degree_C = strongest_neighbours(graph_CC)
    assert neighbour_C.tolist() == [1, 0, 0, -1]
    assert degree_C.tolist() == [2, 1, 1, 0]
    assert graph_CC[0, 0] == 9


def test_a_straight_line_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    across_C = np.append(rng.uniform(0, 3, 40), np.nan)
    gain_C = 0.02 * across_C - 0.01
    gain_C[-1] = 0.5  # has no property, so it does not count
    noise_BC = rng.normal(0, 0.01, (500, 41))
    exact = fit_trend("x", across_C, gain_C, np.tile(gain_C, (50, 1)), rng)
    noisy = fit_trend("x", across_C, gain_C, gain_C + noise_BC, rng)
    assert exact is not None
    assert noisy is not None
    assert exact.num_classes == 40
    assert (exact.slope, exact.low, exact.high) == pytest.approx((0.02, 0.02, 0.02))
    assert noisy.low < 0.02 < noisy.high
    assert (noisy.band_2P[0] < noisy.line_P).all()
    assert (noisy.line_P < noisy.band_2P[1]).all()
    np.testing.assert_allclose(exact.line_P, 0.02 * exact.across_P - 0.01)


def test_no_line_goes_through_two_classes_or_through_one_property() -> None:
    rng = np.random.default_rng(0)
    gain_C, gain_BC = np.array([0.1, 0.2, np.nan]), np.zeros((5, 3))
    assert fit_trend("x", np.array([1.0, 2, 3]), gain_C, gain_BC, rng) is None
    assert fit_trend("x", np.array([1.0, 1, 1]), np.array([0.1, 0.2, 0.3]), gain_BC, rng) is None


def test_the_command_compares_runs_whose_classes_stand_in_another_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", train=6, test=5)
    plain, reasoning = load_recipe("stacked_plain_sample"), load_recipe("reasoning_rcnn_sample")
    graph_CC = torch.tensor([[0.0, 1, 0], [1, 0, 0.5], [0, 0.5, 0]])
    write_run(tmp_path / "a", plain, data)
    write_run(tmp_path / "b", reasoning, data, graph_CC=graph_CC, names=("blue", "red", "green"))
    table, plot = tmp_path / "t.csv", tmp_path / "p.png"
    arguments = ["compare", tmp_path / "a", tmp_path / "b", "--data", data, "--resamples", 20, "--json"]

    def call(*more: object) -> int:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in (*arguments, *more)])
        return int(end.value.code or 0)

    assert call("--csv", table, "--plot", plot) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["num_images"] == 5
    rows = {row["name"]: row for row in csv.DictReader(table.read_text().splitlines())}
    degree = {row["name"]: (row["degree"], row["neighbour"]) for row in document["classes"]}
    # the graph's edges are blue-red and red-green
    assert degree["red"] == (2.0, "blue")
    assert degree["green"] == (1.0, "red")
    assert rows["blue"]["neighbour"] == "red"
    with Image.open(plot) as picture:
        assert picture.size[0] > 400
    assert call("--csv", table) == 1  # it is there
    assert "--overwrite" in capsys.readouterr().err
    assert call("--graph", write_graph(tmp_path / "g.npz"), "--csv", table, "--overwrite") == 0
    del arguments[-1]
    capsys.readouterr()
    assert call() == 0
    assert "B - A" in capsys.readouterr().out


def test_a_picture_without_any_trend_has_the_differences(annotations: Annotations, tmp_path: Path) -> None:
    found = random_detections(annotations, seed=0)
    save_comparison(compare(annotations, found, found, resamples=10), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 400
