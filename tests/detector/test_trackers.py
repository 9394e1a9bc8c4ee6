"""The log as the trackers keep it, read back from what they wrote, also of a run that was stopped."""

import json
import math
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_data import write_data

from detector.cli import group
from detector.config import Config
from detector.errors import DetectorError, MissingResourceError
from detector.overrides import override
from detector.recipes import load_recipe
from detector.trackers import TRACKERS, check_trackers, start_trackers
from detector.train import train
from detector.training_log import TrainingLog

Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have every tracker write into one folder, which trackio reads once, and none to a network."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        yield


def config(epochs: int = 2) -> Config:
    settings = {"train.epochs": epochs, "train.batch_size": 3, "train.eval_every": 1}
    return override(load_recipe("faster_rcnn_sample"), settings)


def of_tensorboard(run: Path) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def of_wandb(run: Path) -> Curves:
    """Of all parts of the run; each holds the steps after those of the part before."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: Curves = {}
    identity = tracker_id(run)
    for path in sorted((run / "wandb").glob(f"offline-run-*-{identity}/*.wandb")):
        for message in framed(path.read_bytes()):
            record = Record.FromString(message)
            if record.WhichOneof("record_type") == "run":
                assert (record.run.run_id, record.run.project) == (identity, "detector")
                settings = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                assert settings["train.batch_size"] == 3
            row = {"".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            for name in row.keys() - {"_step", "_runtime", "_timestamp"}:
                found.setdefault(name, []).append((int(row["_step"]), float(row[name])))
    return found


def framed(content: bytes) -> Iterator[bytes]:
    """The messages of W&B's file: blocks of 32 KiB, and in them parts of messages with a head of 7 bytes."""
    place, message = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


def of_mlflow(run: Path) -> Curves:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("detector")
    (kept,) = client.search_runs([experiment.experiment_id], f"tags.`detector.run` = '{tracker_id(run)}'")
    assert kept.data.params["train.batch_size"] == "3"
    assert (kept.info.run_name, kept.info.status) == ("run", "FINISHED")
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(kept.info.run_id, name)]
        for name in kept.data.metrics
    }


def of_trackio(run: Path) -> Curves:
    from trackio.sqlite_storage import SQLiteStorage

    found: Curves = {}
    name = f"run-{tracker_id(run)}"
    assert SQLiteStorage.get_run_config("detector", name)["train.batch_size"] == 3
    for row in SQLiteStorage.get_logs("detector", name):
        for key in row.keys() - {"step", "timestamp"}:
            found.setdefault(key, []).append((row["step"], row[key]))
    return found


def tracker_id(run: Path) -> str:
    return json.loads((run / "trackers.json").read_text())["id"]


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore")  # of the trackers themselves
@pytest.mark.parametrize(
    ("tracker", "shown"),
    [("tensorboard", of_tensorboard), ("wandb", of_wandb), ("mlflow", of_mlflow), ("trackio", of_trackio)],
)
def test_a_stopped_run_is_shown_with_each_step_once_and_an_overwritten_one_not_at_all(
    tracker: str, shown: Callable[[Path], Curves], data: Path, tmp_path: Path, stores: None
) -> None:
    pytest.importorskip(tracker)
    run = tmp_path / "run"
    train(config(epochs=1), data, run, trackers=[tracker], quiet=True)
    before = tracker_id(run)
    train(config(), data, run, max_minutes=1e-9, overwrite=True, trackers=[tracker], quiet=True)
    assert tracker_id(run) != before
    train(config(), data, run, resume=True, trackers=[tracker], quiet=True)
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


#: Kills itself after the fifth step; by then trackio, which sends twice a second, has all.
KILLED = """
import os, signal, sys, time
from detector.cli import main
from detector.training_log import TrainingLog
step = TrainingLog.step
def kill_after(self, number, *more, **others):
    step(self, number, *more, **others)
    if number == 5:
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGKILL)
TrainingLog.step = kill_after
main(sys.argv[1:])
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tracker", "shown"), [("tensorboard", of_tensorboard), ("mlflow", of_mlflow), ("trackio", of_trackio)]
)
def test_a_killed_run_is_shown_with_each_step_once(
    tracker: str, shown: Callable[[Path], Curves], data: Path, tmp_path: Path, stores: None
) -> None:
    pytest.importorskip(tracker)
    run, every = tmp_path / "run", {"train.batch_size": 3, "train.eval_every": 1, "train.save_every": 3}
    settings = [f"--set={key}={value}" for key, value in {**every, "train.epochs": 4}.items()]
    command = ["train", "--recipe", "faster_rcnn_sample", "--data", str(data), "--out", str(run)]
    arguments = [sys.executable, "-c", KILLED, *command, *settings, "--track", tracker]
    assert subprocess.run(arguments, capture_output=True).returncode == -signal.SIGKILL
    assert [record["step"] for record in log_of(run) if "lr" in record] == [1, 2, 3, 4, 5]
    saved = torch.load(run / "state.pt", weights_only=True)["step"]
    assert saved < 5
    goes_on = override(load_recipe("faster_rcnn_sample"), {**every, "train.epochs": 4})
    train(goes_on, data, run, resume=True, trackers=[tracker], quiet=True)
    found = shown(run)
    losses = [(record["step"], pytest.approx(record["loss"])) for record in log_of(run) if "lr" in record]
    assert len(losses) == 8
    assert found["training/loss"] == losses
    assert [step for step, _ in found["metrics/AP"]] == [2, 4, 6, 8]


@pytest.mark.filterwarnings("ignore")
def test_trackers_leave_stdout_to_the_command(data: Path, tmp_path: Path, stores: None) -> None:
    names = [name for name in TRACKERS if installed(name)]
    options = [option for name in names for option in ("--track", name)]
    settings = "--epochs 1 --batch-size 3 --device cpu --json"
    command = f"train --data {data} --recipe faster_rcnn_sample --out {tmp_path / 'run'} {settings}"
    result = CliRunner().invoke(group, [*command.split(), *options])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["epoch"] == 1


def installed(tracker: str) -> bool:
    try:
        check_trackers([tracker])
    except MissingResourceError:
        return False
    return True


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_told_before_the_run_begins(
    tracker: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (tracker, TRACKERS[tracker][0]):
        monkeypatch.setitem(sys.modules, name, None)
    line = rf"--track {tracker}: not installed; pip install 'kgtool-detector\[{tracker}\]'"
    with pytest.raises(MissingResourceError, match=line):
        train(config(), data, tmp_path / "run", trackers=[tracker], quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_tracker_that_does_not_start_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file where the folder goes")
    with pytest.raises(DetectorError, match="--track tensorboard: does not start: ") as caught:
        start_trackers(["tensorboard"], tmp_path, 0, {})
    assert "\n" not in str(caught.value)
    assert start_trackers([], tmp_path, 0, {})[0] == []


def test_a_new_run_whose_tracker_does_not_start_leaves_no_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: object) -> object:
        raise PermissionError("no API key")

    run = tmp_path / "run"
    monkeypatch.setitem(TRACKERS, "wandb", ("json", refuse))
    for _ in range(2):  # the same command line again
        with pytest.raises(DetectorError, match="--track wandb: does not start: no API key"):
            train(config(epochs=1), data, run, trackers=["wandb"], quiet=True)
        assert not run.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_is_there_stays_until_every_tracker_has_started(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: object) -> object:
        raise PermissionError("no API key")

    run, first = tmp_path / "run", [name for name in ("tensorboard",) if installed(name)]
    train(config(epochs=1), data, run, trackers=first, quiet=True)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setitem(TRACKERS, "wandb", ("json", refuse))
    with pytest.raises(DetectorError, match="no API key"):
        train(config(epochs=1), data, run, trackers=[*first, "wandb"], overwrite=True, quiet=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train(config(epochs=2), data, run, trackers=first, overwrite=True, quiet=True)
    assert json.loads((run / "metrics.json").read_text())["epoch"] == 2


class Broken:
    """A server that answers so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        self.calls += 1
        if self.calls > self.times:
            raise OSError("no route to host\nand more")

    def close(self, *, failed: bool) -> None:
        raise OSError("still no route")


def test_a_tracker_that_fails_on_the_way_is_left_out_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, closing = Broken(1), Broken(9)
    with TrainingLog(tmp_path / "log.jsonl", 1, 3, trackers=[broken, closing]) as log:
        for step in (1, 2, 3):
            log.step(step, 0.1, {"a": math.pi}, {})
    records = log_of(tmp_path)
    assert [record["step"] for record in records if "lr" in record] == [1, 2, 3]
    assert (broken.calls, closing.calls) == (2, 3)
    shown = capsys.readouterr().err
    assert "warning: Broken failed and is left out: no route to host\n" in shown
    assert "still no route" in shown
    assert {"message": "warning: Broken failed and is left out: no route to host"} in records
