"""Two processes over gloo, as torchrun or SLURM starts them, against one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_data import write_data

from detector.errors import ConfigError
from detector.overrides import override
from detector.processes import join_processes
from detector.recipes import load_recipe
from detector.train import train

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


#: Different images on each of two processes; what the second has seen is in its batch statistics alone.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch
from detector.annotations import load_annotations
from detector.evaluate import detect
from detector.processes import join_processes
from detector.rcnn import build_model
from detector.recipes import load_recipe

data, out = sys.argv[1:]
torch.manual_seed(0)
model = build_model(load_recipe("faster_rcnn_sample").model, 3, None)
annotations = load_annotations(Path(data), "test")
with join_processes("cpu") as processes:
    alone = detect(model, annotations, batch_size=1)
    if processes.rank:
        for buffer in model.buffers():
            buffer += 1
    together = detect(model, annotations, batch_size=1, processes=processes)
same = all(np.array_equal(a, b) for a, b in zip(vars(alone).values(), vars(together).values(), strict=True))
Path(out, str(processes.rank)).write_text(f"{len(together) > 0} {same}")
"""


def train_alone(data: Path, run: Path, *, accumulate: int = 1, max_minutes: float | None = None) -> None:
    """One process: this one."""
    config = override(load_recipe("faster_rcnn_sample"), {**EXACT, "train.accumulate": accumulate})
    train(config, data, run, max_minutes=max_minutes, quiet=True)


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    values = [f"--set={key}={value}" for key, value in EXACT.items()]
    command = ["-m", "detector", "train", "--recipe", "faster_rcnn_sample", "--data", str(data)]
    return [*command, *values, "--out", str(run), *more]


def torchrun(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Two processes as torchrun starts them: where one fails it ends the other."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *command], check=check, env=environment, timeout=300, capture_output=True, text=True
    )


def start_two(*command: str) -> str:
    """Two processes that are told where to meet, as SLURM starts them; return what the first one prints."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in "01":
        names = {"SLURM_PROCID": rank, "SLURM_NTASKS": "2", "SLURM_LOCALID": rank}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **place, **names}
        processes.append(
            subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
        )
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[1] == ""
    return printed[0]


def log_of(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if "lr" in record]


def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data")
    runs = [tmp_path / "one", tmp_path / "parts", tmp_path / "two"]
    train_alone(data, runs[0])
    train_alone(data, runs[1], accumulate=2)
    torchrun(*arguments(data, runs[2]))
    one, *others = (log_of(run) for run in runs)
    assert len(one) == 4
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert [found["num_images"] for found in metrics] == [5, 5, 5], "no image twice, none left out"
    assert metrics[2]["metrics"] == pytest.approx(metrics[0]["metrics"], abs=0.02)


def test_an_image_that_one_process_cannot_read_stops_all_of_them(tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data", train=8, test=2), tmp_path / "run"
    order = np.random.default_rng((0, 0)).permutation(8)  # the first epoch's
    broken = data / "images" / f"train_{order[-1]}.png"  # the second process has it, in the second step
    broken.write_bytes(broken.read_bytes()[:100])
    ended = torchrun(*arguments(data, run), check=False)
    assert ended.returncode != 0
    assert f"{broken.name}: cannot be decoded" in ended.stderr
    assert len(log_of(run)) == 1, "and not before"


def test_more_processes_than_before_go_on_each_with_its_own_chance_and_one_prints(tmp_path: Path) -> None:
    data, run = write_pairs(tmp_path / "data"), tmp_path / "run"
    train_alone(data, run, max_minutes=1e-9)
    printed = start_two(*arguments(data, run, "--resume=auto", "--max-time=1e-9", "--json"))
    assert json.loads(printed)["stopped_after_step"] == 2
    first, second = torch.load(run / "state.pt", weights_only=True)["random"]
    assert not torch.equal(first["torch"], second["torch"])


def test_detections_are_those_of_the_first_processs_model(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=1, test=3)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    start_two(str(program), str(data), str(tmp_path))
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["True True"] * 2


def test_the_environment_says_who_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with join_processes("cpu") as alone:
        assert (alone.rank, alone.count, alone.first) == (0, 1, True)
        assert alone.gather("part") == ["part"]
    for name, value in {"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE.*expected three numbers"), join_processes("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(ConfigError, match="MASTER_PORT: not set, with 2 processes"), join_processes("cpu"):
        pass
