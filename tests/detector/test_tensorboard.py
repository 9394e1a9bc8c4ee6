"""The log as TensorBoard reads it, also of a run that was stopped."""

import json
import sys
from pathlib import Path

import pytest
from tiny_data import write_data

from detector.config import Config
from detector.errors import MissingResourceError
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def config(epochs: int = 2) -> Config:
    settings = {"train.epochs": epochs, "train.batch_size": 3, "train.eval_every": 1}
    return override(load_recipe("faster_rcnn_sample"), settings)


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_stopped_run_is_shown_with_each_step_once_and_an_overwritten_one_not_at_all(
    data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    train(config(epochs=5), data, run, tensorboard=True, quiet=True)
    train(config(), data, run, max_minutes=1e-9, overwrite=True, tensorboard=True, quiet=True)
    train(config(), data, run, resume=True, tensorboard=True, quiet=True)
    found = shown(run)
    steps = [record for record in log_of(run) if "lr" in record]
    assert len(steps) == 4
    for name, values in (
        ("training/loss", [record["loss"] for record in steps]),
        ("training/lr", [record["lr"] for record in steps]),
        ("losses/rpn_box", [record["losses"]["rpn_box"] for record in steps]),
    ):
        assert found[name] == [
            (record["step"], pytest.approx(value)) for record, value in zip(steps, values, strict=True)
        ]
    evaluations = [record for record in log_of(run) if "metrics" in record]
    assert found["metrics/AP"] == [
        (record["step"], pytest.approx(record["metrics"]["AP"])) for record in evaluations
    ]
    assert "metrics/APl" not in found, "there is nothing of that size to find"


def test_a_missing_package_is_told_before_the_run_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingResourceError, match=r"--tensorboard: found no tensorboard; pip install"):
        train(config(), data, tmp_path / "run", tensorboard=True, quiet=True)
    assert not (tmp_path / "run").exists()
