"""Two processes over gloo, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_data import write_data

from detector.errors import ConfigError
from detector.processes import join_processes

#: Every region and every anchor counts, so that nothing is left to chance; images come in pairs of equals.
EXACT = {
    "train.epochs": 2,
    "train.batch_size": 4,
    "train.flip": 0,
    "train.clip_norm": 0,
    "model.regions_per_image": 100_000,
    "model.proposals.batch_size_per_image": 100_000,
}


def write_pairs(folder: Path) -> Path:
    """Eight images that are all equal: whoever gets which, the work is the same."""
    write_data(folder, train=1, test=5)
    document = json.loads((folder / "train.json").read_text())
    image, annotations = document["images"][0], document["annotations"]
    document["images"] = [{**image, "id": number} for number in range(8)]
    document["annotations"] = [
        {**annotation, "image_id": number, "id": 100 * number + annotation["id"]}
        for number in range(8)
        for annotation in annotations
    ]
    (folder / "train.json").write_text(json.dumps(document))
    return folder


def train(data: Path, run: Path, processes: int, *more: str) -> None:
    values = [f"--set={key}={value}" for key, value in EXACT.items()]
    command = ["-m", "detector", "train", "--recipe", "faster_rcnn_sample", "--data", str(data)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [sys.executable, *(torchrun if processes > 1 else []), *command, *values, "--out", str(run)]
    subprocess.run([*arguments, *more], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)


def log_of(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if "lr" in record]


def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data")
    runs = [tmp_path / "one", tmp_path / "parts", tmp_path / "two"]
    train(data, runs[0], 1)
    train(data, runs[1], 1, "--set=train.accumulate=2")
    train(data, runs[2], 2)
    one, *others = (log_of(run) for run in runs)
    assert len(one) == 4
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert [found["num_images"] for found in metrics] == [5, 5, 5], "no image twice, none left out"
    assert metrics[2]["metrics"] == pytest.approx(metrics[0]["metrics"], abs=0.02)


def test_the_environment_says_who_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with join_processes("cpu") as alone:
        assert (alone.rank, alone.count, alone.first) == (0, 1, True)
        assert alone.gather("part") == ["part"]
    for name, value in {"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE.*expected three numbers"), join_processes("cpu"):
        pass
