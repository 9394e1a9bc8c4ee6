"""A stopped run goes on to the bits that it would have reached without the stop."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import change_json, write_data, write_graph

from detector import training_loop
from detector.annotations import load_annotations
from detector.config import Config
from detector.errors import ConfigError, InputError, OutputExistsError
from detector.overrides import override
from detector.preparation import Inputs, identity_of
from detector.recipes import load_recipe
from detector.train import train

SETTINGS = {
    "train.epochs": 3,
    "train.batch_size": 2,
    "train.eval_every": 1,
    "train.average_decay": 0.9,
    "train.sampling": "repeat_factor",
    "train.repeat_threshold": 0.9,
    "train.jitter": "0.5,2.0",
    "train.copy_paste": 0.5,
    "model.min_sizes": "96,128",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Data, and what a run on them leaves that was never stopped; nobody changes them."""
    folder = tmp_path_factory.mktemp("whole")
    data = write_data(folder / "data")
    train(config(), data, folder / "run", quiet=True)
    return data, left(folder / "run")


def config(**settings: object) -> Config:
    more = {f"train.{key}": value for key, value in settings.items()}
    return override(load_recipe("faster_rcnn_sample"), {**SETTINGS, **more})


def left(run: Path) -> dict[str, Any]:
    """What a finished run leaves, without times."""

    def timeless(record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key != "seconds"}

    with (run / "metrics.csv").open() as file:
        rows = [timeless(row) for row in csv.DictReader(file)]
    same = (
        "model.safetensors",
        "best.safetensors",
        "per_class.csv",
        "card.md",
        "training.png",
        "classes.json",
    )
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "files": sorted(path.name for path in run.iterdir()),
        "bytes": {name: (run / name).read_bytes() for name in same if (run / name).is_file()},
        "rows": rows,
        "metrics": timeless(json.loads((run / "metrics.json").read_text())),
        "log": [timeless(record) for record in log if "message" not in record],
    }


def start(data: Path, run: Path, *more: str) -> subprocess.Popen[bytes]:
    values = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    command = ["train", "--recipe", "faster_rcnn_sample", "--data", str(data), "--out", str(run)]
    arguments = [sys.executable, "-m", "detector", *command, *values, "--resume", "auto", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_steps(run: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    log = run / "log.jsonl"
    while not log.is_file() or log.read_text().count('"lr"') < count:
        assert process.poll() is None, "it has ended before it could be stopped"
        time.sleep(0.002)


def test_a_killed_run_goes_on_to_the_same_bits(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (data, expected), stopped = whole, tmp_path / "stopped"
    for steps in (3, 7):  # each time further on; the state is that of a step before
        process = start(data, stopped, "--set=train.save_every=2")
        wait_for_steps(stopped, steps, process)
        process.kill()
        process.wait()
        assert (stopped / "state.pt").is_file()
        assert not (stopped / "metrics.json").is_file() or steps > 4
    train(config(save_every=2), data, stopped, resume=True, quiet=True)
    assert left(stopped) == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_after_the_step_and_the_run_goes_on_from_there(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, number: int, code: int
) -> None:
    (data, expected), stopped = whole, tmp_path / "stopped"
    process = start(data, stopped)
    wait_for_steps(stopped, 2, process)
    process.send_signal(number)
    assert process.wait() == code
    done = sum("lr" in json.loads(line) for line in (stopped / "log.jsonl").read_text().splitlines())
    assert torch.load(stopped / "state.pt", weights_only=True)["step"] == done
    train(config(), data, stopped, resume=True, quiet=True)
    assert left(stopped) == expected


def test_the_clock_stops_a_run_too(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (data, expected), stopped = whole, tmp_path / "stopped"
    for _ in range(3):
        assert train(config(), data, stopped, resume=True, max_minutes=1e-9, quiet=True).keys() == {
            "stopped_after_step"
        }
    result = train(config(), data, stopped, resume=True, quiet=True)
    assert left(stopped) == expected
    assert train(config(), data, stopped, resume=True, quiet=True) == result, "finished: nothing to do"


def test_a_run_killed_before_it_kept_anything_starts_again(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    (data, expected), stopped = whole, tmp_path / "stopped"
    shutil.copytree(data.parent / "run", stopped)
    for name in ("metrics.json", "model.safetensors"):
        (stopped / name).unlink()
    (stopped / ".state.pt.x.part").touch()
    with pytest.raises(OutputExistsError):
        train(config(), data, stopped, quiet=True)
    with pytest.raises(ConfigError, match=r"was started with train.lr=.*; found 0.5"):
        train(config(lr=0.5), data, stopped, resume=True, quiet=True)
    train(config(), data, stopped, resume=True, quiet=True)
    assert left(stopped) == expected


def test_a_run_killed_after_its_first_evaluation_is_not_taken_for_finished(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    (data, expected), stopped = whole, tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "save_state", kill)
        with pytest.raises(KeyboardInterrupt):
            train(config(), data, stopped, quiet=True)
    assert (stopped / "best.safetensors").is_file(), "it has evaluated"
    train(config(), data, stopped, resume=True, quiet=True)
    assert left(stopped) == expected


def test_a_run_goes_on_only_with_the_same_settings_and_data(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(config(), data, run, max_minutes=1e-9, quiet=True)
    kept = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ConfigError, match=r"was started with train.lr=.*; found 0.5"):
        train(config(lr=0.5), data, run, resume=True, quiet=True)
    with pytest.raises(ConfigError, match="is a run of recipe faster_rcnn_sample"):
        train(load_recipe("cascade_sample"), data, run, resume=True, quiet=True)
    change_json(data / "train.json", lambda document: document["annotations"].pop())
    with pytest.raises(InputError, match=r"state.pt: was written for other data or another graph"):
        train(config(), data, run, resume=True, quiet=True)
    (run / "state.pt").write_bytes(kept["state.pt"][:1000])
    with pytest.raises(InputError, match=r"state.pt: cannot be read"):
        train(config(), data, run, resume=True, quiet=True)
    (run / "state.pt").write_bytes(kept["state.pt"])
    assert {path.name: path.read_bytes() for path in run.iterdir()} == kept


def test_a_finished_run_is_that_of_the_same_graph_and_data_too(data: Path, tmp_path: Path) -> None:
    run, graph = tmp_path / "run", write_graph(tmp_path / "g.npz")
    few = {"train.epochs": 1, "train.batch_size": 3}
    settings = override(load_recipe("reasoning_rcnn_sample"), few)
    result = train(settings, data, run, graphs=[graph], quiet=True)
    kept = {path.name: path.read_bytes() for path in run.iterdir()}

    def again(graph: Path, **options: Any) -> dict[str, Any]:
        return train(settings, data, run, graphs=[graph], resume=True, quiet=True, **options)

    assert again(graph) == result
    other = write_graph(tmp_path / "other.npz", ("red", "blue", "green"))
    with pytest.raises(InputError, match=r"is finished, and was trained on graph .*; found --graph with h"):
        again(other)
    with pytest.raises(InputError, match=r"is finished, and was trained on other data, or with another --in"):
        again(graph, max_images=2)
    change_json(data / "test.json", lambda document: document["annotations"].pop())
    with pytest.raises(InputError, match=r"is finished, and was trained on other data"):
        again(graph)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == kept


def test_other_masks_on_the_same_boxes_are_other_data(data: Path) -> None:
    def draw(share: float) -> Callable[[dict[str, Any]], None]:
        """Give each box a mask that fills so much of its height."""

        def change(document: dict[str, Any]) -> None:
            for box in document["annotations"]:
                left, top, width, height = box["bbox"]
                right, bottom = left + width, top + share * height
                box["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]

        return change

    def identity(*, masks: bool) -> str:
        annotations = load_annotations(data, "train", masks=masks)
        return identity_of(Inputs(annotations, annotations, []), None)

    found = []
    for share in (1.0, 0.5):
        change_json(data / "train.json", draw(share))
        found.append((identity(masks=False), identity(masks=True)))
    assert found[0][0] == found[1][0], "a detector without a mask branch does not read them"
    assert found[0][1] != found[1][1]


def test_state_is_read_without_running_what_is_in_it(data: Path, tmp_path: Path) -> None:
    run, touched = tmp_path / "run", tmp_path / "touched"
    train(config(), data, run, max_minutes=1e-9, quiet=True)

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (touched,)

    torch.save({"format": 1, "model": Trap()}, run / "state.pt")
    with pytest.raises(InputError, match=r"state.pt: cannot be read") as raised:
        train(config(), data, run, resume=True, quiet=True)
    assert not touched.exists()
    assert "weights_only" not in str(raised.value)  # torch's message tells how to run it
