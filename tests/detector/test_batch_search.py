"""The batch that `--batch-size auto` takes, with real steps; only how much memory is free is made up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_data import change_json, write_data

from detector import batch_search, memory
from detector.annotations import load_annotations
from detector.batch_search import find_batch, largest_images
from detector.cli import group
from detector.config import Config
from detector.errors import ConfigError, TrainingError
from detector.memory import free_memory
from detector.overrides import override
from detector.preparation import Inputs
from detector.rcnn import build_model
from detector.recipes import load_recipe
from detector.train import train

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", train=9)


def config(**settings: object) -> Config:
    changed = {f"train.{key}": value for key, value in settings.items()}
    return override(load_recipe("faster_rcnn_sample"), {"train.epochs": 1, **changed})


def inputs(data: Path) -> Inputs:
    return Inputs(load_annotations(data, "train"), load_annotations(data, "test"), [])


def free(monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    """Have so many bytes for steps."""
    monkeypatch.setattr(batch_search, "free_memory", lambda device: limit / batch_search.MEMORY_SHARE["cpu"])


def peaks(data: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What the steps of the batches hold that are tried where memory is no concern."""
    found = {}
    measure = batch_search._Trial.measure

    def noted(trial: batch_search._Trial, size: int) -> tuple[int, int]:
        peak, lasting = measure(trial, size)
        found[size] = peak
        return peak, lasting

    with monkeypatch.context() as patched:
        patched.setattr(batch_search._Trial, "measure", noted)
        free(patched, 2**50)
        find_batch(config, inputs(data), CPU)
    return found


def test_the_largest_batch_that_fits_is_taken(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = peaks(data, config(), monkeypatch)
    assert list(held) == [1, 2, 4, 8], "nine images"
    assert held[1] < held[2] < held[4] < held[8]
    found = find_batch(config(), inputs(data), CPU)
    assert (found.size, found.ended_by) == (8, "more than 9 are not tried")
    for limit, size in ((held[8], 8), (held[8] - 1, 4), (held[4], 4), (held[2] + 1, 2), (held[1], 1)):
        free(monkeypatch, limit + 0.5)
        found = find_batch(config(), inputs(data), CPU)
        assert (found.size, found.limit_bytes) == (size, limit)
        assert found.peak_bytes == held[size], "the same steps hold the same"
    free(monkeypatch, held[1] - 1)
    with pytest.raises(TrainingError, match=r"a step with one image does not fit into 0.\d\d GiB, 70 %"):
        find_batch(config(), inputs(data), CPU)


def test_parts_moving_average_and_optimizer_count(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = peaks(data, config(), monkeypatch)
    parts = peaks(data, config(accumulate=4), monkeypatch)
    assert parts[8] < plain[8]
    assert abs(parts[8] - plain[2]) < 0.1 * plain[2], "each part has two images"
    weights = sum(weight.nbytes for weight in build_model(config().model, 3, None).parameters())
    average = peaks(data, config(average_decay=0.99), monkeypatch)
    assert average[1] - plain[1] > weights
    sgd, adam = (peaks(data, config(optimizer=name), monkeypatch)[1] for name in ("sgd", "adamw"))
    assert 0.9 * weights < adam - sgd < 1.1 * weights, "two numbers a weight instead of one"


def test_a_run_is_the_same_as_with_the_number_that_was_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = peaks(data, config(), monkeypatch)
    free(monkeypatch, held[4] + 1)
    train(config(batch_size=1, lr=0.005), data, tmp_path / "auto", auto_batch=True, device="cpu")
    shown = capsys.readouterr().err
    assert "batch size 4: a step holds 0." in shown
    assert "8 images would not fit" in shown
    assert "lr stays 0.005, meant for 1 images a step; --set train.reference_batch=1" in shown
    train(config(batch_size=4, lr=0.005), data, tmp_path / "given", device="cpu", quiet=True)
    auto, given = (load_file(tmp_path / run / "model.safetensors") for run in ("auto", "given"))
    assert all(torch.equal(auto[name], given[name]) for name in given)
    assert (tmp_path / "auto/config.json").read_text() == (tmp_path / "given/config.json").read_text()


def test_a_run_that_goes_on_keeps_its_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = peaks(data, config(), monkeypatch)
    run, settings = tmp_path / "run", config(epochs=2, reference_batch=16)
    free(monkeypatch, held[4] + 1)
    train(settings, data, run, auto_batch=True, max_minutes=1e-9, resume=True, quiet=True)
    free(monkeypatch, held[1] + 1)
    train(settings, data, run, auto_batch=True, resume=True, quiet=True)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "lr" in record] == [1, 2, 3, 4, 5, 6]
    assert json.loads((run / "config.json").read_text())["settings"]["train.batch_size"] == 4
    messages = [record["message"] for record in log if "message" in record]
    assert any(text.endswith("is for 16 images a step") for text in messages), "lr was scaled"
    assert not any("lr stays" in text for text in messages)


def test_the_command_takes_auto_and_tries_it_without_writing(data: Path, tmp_path: Path) -> None:
    command = f"train --data {data} --recipe faster_rcnn_sample --out {tmp_path / 'run'} --device cpu --json"
    dry = CliRunner().invoke(group, [*command.split(), "--batch-size", "auto", "--dry-run"])
    assert dry.exit_code == 0, dry.output
    found = json.loads(dry.stdout)
    assert found["batch_size"] == 8
    assert found["messages"][0].startswith("batch size 8: a step holds")
    assert not (tmp_path / "run").exists()
    shown = CliRunner().invoke(group, [*command.split(), "--batch-size", "auto", "--show-config"])
    setting = json.loads(shown.stdout)["settings"]["train.batch_size"]
    assert setting["from"] == "--batch-size: auto, found before the first step"
    wrong = CliRunner().invoke(group, [*command.split(), "--batch-size", "many"])
    assert (wrong.exit_code, "'many' is not a valid integer" in wrong.stderr) == (2, True)


def test_several_processes_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="found 2 processes; expected one"):
        batch_search.check_alone(batch_search.Processes(count=2))


def test_the_images_that_need_most_come_first(data: Path) -> None:
    sides = [(100, 100), (50, 100), (100, 60), (60, 100), (40, 100), (10, 10), (20, 80), (80, 20), (30, 30)]
    document = data / "train.json"

    def resize(coco: dict) -> None:
        for image, (height, width) in zip(coco["images"], sides, strict=True):
            image["height"], image["width"] = height, width
        for annotation in coco["annotations"]:
            annotation["bbox"] = [1, 1, 5, 5]
        for number in range(5):
            last = {**coco["annotations"][-1], "id": 1000 + number, "image_id": 105}
            coco["annotations"].append(last)

    change_json(document, resize)
    settings = override(config(), {"model.min_size": 50, "model.max_size": 100}).model
    order = largest_images(load_annotations(data, "train"), settings)
    # 1 is 50 x 100 as the model sees it, 7 is the highest (100 x 25), 5 has the most boxes; then by size:
    # 83 x 50, 50 x 83, 40 x 100, and three of 2500 px.
    assert order.tolist() == [1, 7, 5, 2, 3, 4, 0, 6, 8]
    assert sorted(order) == list(range(9))


def test_free_memory_is_what_the_narrowest_group_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable: 3000 kB\n")
    (tmp_path / "cgroup").write_text("4:memory:/job\n3:cpu:/job\n0::/slice/job\n")
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS_FILE", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS_FOLDER", tmp_path)
    assert free_memory(CPU) == 3000 * 1024

    def limit(group: str, **files: object) -> None:
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (tmp_path / group / name.replace("__", ".")).write_text(f"{value}\n")

    limit("slice/job", memory__max="max", memory__current=500)
    assert free_memory(CPU) == 3000 * 1024
    limit("slice", memory__max=10000, memory__current=9000, memory__stat="anon 1\ninactive_file 700")
    assert free_memory(CPU) == 1700
    limit("memory/job", memory__limit_in_bytes=800, memory__usage_in_bytes=900)
    assert free_memory(CPU) == 0
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "none")
    monkeypatch.setattr(memory, "GROUPS_FILE", tmp_path / "none")
    assert free_memory(CPU) > 2**20
    assert np.isfinite(free_memory(CPU))
