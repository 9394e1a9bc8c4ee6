"""What `detector eval` writes: predictions, a table of classes, pictures."""

import contextlib
import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from detection_examples import random_detections, with_crowds
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny_data import write_data

from detector.annotations import Annotations, load_annotations
from detector.cli import main
from detector.coco_metrics import METRICS, coco_curves
from detector.detections import Detections, save_predictions
from detector.evaluation import Evaluation, save_class_table
from detector.evaluation_plots import most_confused, save_confusion, save_curves, with_others
from detector.overrides import override
from detector.recipes import load_recipe
from detector.segmentation import encode_masks
from detector.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("squares") / "data", train=12, test=4)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    settings = {"train.epochs": 2, "train.batch_size": 3, "train.eval_every": 1}
    train(override(load_recipe("faster_rcnn_sample"), settings), data, data.parent / "run", quiet=True)
    return data.parent / "run"


def call(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    path = write_data(tmp_path / "data", train=30) / "train.json"
    with_crowds(path, seed=0)
    return load_annotations(path.parent, "train")


def evaluation_of(annotations: Annotations, detections: Detections, **more: object) -> Evaluation:
    values = {"train_images": (), "curves": coco_curves(annotations, detections), **more}
    return Evaluation(annotations, detections, **values)


def metrics_of_file(truth_path: Path, path: Path) -> dict[str, float]:
    """What pycocotools makes of a file of results."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_path))
        evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True))


def test_saved_predictions_give_the_same_numbers_to_whoever_reads_them(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "predictions.json"
    assert call("eval", run, "--data", data, "--save-predictions", path, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    expected = metrics_of_file(data / "test.json", path)
    assert {name: metrics[name] for name in METRICS} == expected
    results = json.loads(path.read_text())
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert call("eval", run, "--data", data, "--save-predictions", path) == 1
    assert "predictions.json: already exists; give --overwrite" in capsys.readouterr().err
    assert call("eval", run, "--data", data, "--save-predictions", path, "--overwrite") == 0


def test_predictions_are_written_in_parts_with_masks_and_when_there_are_none(
    annotations: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.detections._ROWS_AT_A_TIME", 7)
    boxes = random_detections(annotations, seed=0, count=20)
    masks = encode_masks(np.ones((20, 4, 6), dtype=np.uint8))
    found = Detections(boxes.image_N, boxes.boxes_xyxy, boxes.class_N, boxes.score_N, masks)
    path = tmp_path / "predictions.json"
    save_predictions(annotations, found, path)
    results = json.loads(path.read_text())
    assert [result["score"] for result in results] == boxes.score_N.tolist()
    assert [result["bbox"] for result in results] == boxes.boxes_xywh().tolist()
    assert all(result["segmentation"] == masks[0] for result in results)
    save_predictions(annotations, boxes.select(np.zeros(0, dtype=int)), path)
    assert json.loads(path.read_text()) == []


def test_the_table_of_classes_has_counts_and_metrics(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "classes.csv"
    assert call("eval", run, "--data", data, "--per-class", path, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "name", "synset", "train_images", "frequency", "images", "boxes", "AP", "AP50", "AR",
    ]  # fmt: skip
    assert [row["name"] for row in rows] == ["green", "red", "blue"]
    truth, trained = load_annotations(data, "test"), load_annotations(data, "train")
    for row, images, boxes, train_images in zip(
        rows,
        truth.images_per_class(),
        truth.boxes_per_class(),
        trained.images_per_class(),
        strict=True,
    ):
        assert (int(row["images"]), int(row["boxes"])) == (images, boxes)
        assert int(row["train_images"]) == train_images <= 10
        assert row["frequency"] == "r"
    aps = [float(row["AP"]) for row in rows if row["AP"]]
    assert np.mean(aps) == pytest.approx(metrics["AP"], abs=1e-6)
    assert metrics["APr"] == pytest.approx(metrics["AP"])
    assert metrics["APc"] == metrics["APf"] == -1


def test_what_is_not_known_of_a_class_is_empty_in_the_table(annotations: Annotations, tmp_path: Path) -> None:
    keep = annotations.select(np.flatnonzero(np.diff(annotations.offsets) == 1)[:1])
    save_class_table(evaluation_of(keep, random_detections(keep, 0, count=5)), tmp_path / "classes.csv")
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert sum(line.endswith(",,,0,0,,,") for line in lines[1:]) == 2


def test_the_best_weights_are_evaluated_where_they_are_asked_for(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    by_epoch = [record["metrics"] for record in records if "metrics" in record]
    best = max(by_epoch, key=lambda metrics: metrics["AP"])
    for weights, expected in (("last", by_epoch[-1]), ("best", best)):
        assert call("eval", run, "--data", data, "--weights", weights, "--json") == 0
        assert json.loads(capsys.readouterr().out)["metrics"] == expected
    (run / "best.safetensors").rename(run / "away.safetensors")
    assert call("eval", run, "--data", data, "--weights", "best") == 3
    (run / "away.safetensors").rename(run / "best.safetensors")
    assert "best.safetensors: no such file; a run keeps its best weights with" in capsys.readouterr().err


def test_pictures_are_drawn_and_the_same_data_gives_the_same_bytes(
    data: Path, run: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    for folder in ("one", "two"):
        assert call("eval", run, "--data", data, "--plots", tmp_path / folder) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["confusion.png", "precision_recall.png"]
    for name in names:
        with Image.open(tmp_path / "one" / name) as picture:
            assert min(picture.size) > 400
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_pictures_are_drawn_of_many_classes_of_none_found_and_of_nothing_to_find(
    annotations: Annotations, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    found = random_detections(annotations, seed=0)
    nothing = found.select(np.zeros(0, dtype=int))
    for name, detections in (("some", found), ("none", nothing)):
        evaluation = evaluation_of(annotations, detections, train_images=(5, 50, 500))
        save_curves(evaluation, tmp_path / f"{name}.png")
        save_confusion(evaluation, tmp_path / f"{name}_confusion.png")
    empty = annotations.select(np.zeros(0, dtype=int))
    save_curves(evaluation_of(empty, nothing), tmp_path / "empty.png")
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == 5


def test_the_most_confused_classes_are_chosen_in_their_order() -> None:
    counts = np.zeros((6, 6), dtype=np.int64)
    counts[4, 1] = 3
    counts[0, 2] = 1
    counts[3, 3] = 100
    counts[3, 5] = counts[5, 3] = 50  # missed, or nothing there: no confusion of classes
    assert most_confused(counts, 2).tolist() == [1, 4]
    assert most_confused(counts, 99).tolist() == [0, 1, 2, 3, 4]
    assert with_others(counts, np.arange(5)).tolist() == counts.tolist()
    kept = with_others(counts, np.array([1, 4]))  # 1, 4, all others, nothing
    assert kept.tolist() == [[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 101, 50], [0, 0, 50, 0]]


def test_without_matplotlib_nothing_is_computed_and_the_remedy_is_told(
    data: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("detector.evaluate.load_run", lambda *_, **__: pytest.fail("work was begun"))
    assert call("eval", run, "--data", data, "--plots", tmp_path / "plots") == 5
    assert "found no matplotlib; expected it for a picture; pip install" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()
