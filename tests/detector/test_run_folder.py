"""What a run leaves to read: table of evaluations, environment, card, picture."""

import csv
import json
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import write_data, write_graph

from detector.annotations import load_annotations
from detector.card import TrainedOn, card_text
from detector.checkpoint import RUN_FILES, load_classes, load_config
from detector.config import Config
from detector.evaluate import evaluate_run
from detector.files import load_json
from detector.overrides import override
from detector.recipes import load_recipe
from detector.run_tables import save_training_plot, smooth
from detector.train import train


def config(**settings: object) -> Config:
    few = {"epochs": 4, "batch_size": 3, "eval_every": 2, **settings}
    recipe = load_recipe("reasoning_rcnn_sample")
    return override(recipe, {f"train.{key}": value for key, value in few.items()})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data, graph = write_data(folder / "data"), write_graph(folder / "relation.npz")
    train(config(), data, folder / "run", graphs=[graph], quiet=True)
    return folder / "run"


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_table_has_a_row_an_evaluation(run: Path) -> None:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = [record for record in log_of(run) if "metrics" in record]
    assert [row["epoch"] for row in rows] == ["2", "4"]
    for row, record in zip(rows, logged, strict=True):
        assert list(row) == ["epoch", "step", "seconds", *record["metrics"]]
        assert int(row["step"]) == record["step"]
        for name, value in record["metrics"].items():
            assert row[name] == ("" if value < 0 else f"{value:.6f}")


def test_the_table_of_classes_is_that_of_the_last_evaluation(run: Path) -> None:
    with (run / "per_class.csv").open() as file:
        found = [row["AP"] for row in csv.DictReader(file)]
    columns = evaluate_run(run, run.parent / "data").class_columns()
    assert found == ["" if value is None else f"{value:.6f}" for value in columns["AP"]]


def test_the_environment_names_versions_and_no_machine_or_path(run: Path) -> None:
    environment = json.loads((run / "environment.json").read_text())
    assert environment["python"] == platform.python_version()
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["gpu"] is None
    assert environment["processes"] == environment["threads"] == 1
    for name in ("environment.json", "card.md"):
        text = (run / name).read_text()
        assert platform.node() not in text
        assert str(Path.home()) not in text
        assert str(run.parent) not in text


def test_the_card_says_data_graph_changed_settings_and_metrics(run: Path) -> None:
    card = (run / "card.md").read_text()
    classes = json.loads((run / "classes.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert card.startswith("# reasoning_rcnn_sample, 3 classes\n")
    assert "- `train.json`: 6 images, " in card
    assert "- 3 classes: green, red, blue\n" in card
    assert f"- class graph `relation.npz`, hash `{classes['graph_hashes'][0]}`" in card
    assert f"| `train.epochs` | {load_recipe('reasoning_rcnn_sample').train.epochs} | 4 |" in card
    assert "`train.flip`" not in card
    assert f"| AP | {100 * metrics['AP']:.1f} |" in card
    assert "| APl | - |" in card
    assert "`test.json`" in card


def test_the_card_names_the_file_of_the_backbones_weights_and_not_its_folder(run: Path) -> None:
    started = override(load_config(run), {"model.backbone.weights": "/home/alice/secret/se.safetensors"})
    result, environment = (load_json(run / name) for name in ("metrics.json", "environment.json"))
    trained_on = TrainedOn(load_annotations(run.parent / "data", "train"), ["relation.npz"], "")
    card = card_text(started, load_classes(run), trained_on, result, environment)
    assert "| `model.backbone.weights` | none | se.safetensors |" in card
    assert "secret" not in card


def test_the_way_to_load_that_the_card_shows_works(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (run / "card.md").read_text()
    program = card.split("```python\n")[1].split("```")[0]
    (tmp_path / "RUN").symlink_to(run)
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(program, found)
    assert len(found["found"]) == 1


def test_a_run_from_anothers_weights_without_changes_says_so(run: Path, tmp_path: Path) -> None:
    recipe = load_recipe("faster_rcnn_sample")
    data = run.parent / "data"
    base = tmp_path / "base"
    train(override(recipe, {"train.epochs": 1}), data, base, max_images=1, quiet=True)
    train(override(recipe, {"train.epochs": 1}), data, tmp_path / "next", init=base, max_images=1, quiet=True)
    card = (tmp_path / "next" / "card.md").read_text()
    assert "- no class graph\n- started from the weights of the run `base`\n" in card
    assert card.count("| `train.") == 1


def test_overwriting_leaves_nothing_of_the_run_before(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in RUN_FILES:
        (out / name).write_text("old")
    single = override(load_recipe("faster_rcnn_sample"), {"train.epochs": 1})
    train(single, run.parent / "data", out, max_images=1, overwrite=True, quiet=True)
    assert not (out / "best.safetensors").exists()
    assert not [path for path in out.iterdir() if path.read_bytes() == b"old"]


def test_without_matplotlib_a_run_has_no_picture(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    single = override(load_recipe("faster_rcnn_sample"), {"train.epochs": 1})
    train(single, run.parent / "data", tmp_path / "run", max_images=1, quiet=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "card.md" in names
    assert "training.png" not in names


def test_the_picture_of_the_training_is_drawn_from_the_log(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with Image.open(run / "training.png") as picture:
        assert min(picture.size) > 600
    save_training_plot(run / "log.jsonl", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (run / "training.png").read_bytes()


def test_smoothing_is_the_mean_of_the_neighbours() -> None:
    values = np.random.default_rng(0).random(50)
    found = smooth(values, 0.2)
    expected = [values[max(place - 5, 0) : place + 6].mean() for place in range(50)]
    assert found == pytest.approx(np.array(expected))
    assert smooth(values, 0.01).tolist() == pytest.approx(values.tolist())
