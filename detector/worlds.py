"""Sample worlds to experiment on, made by the commands of `kgtool`: only files cross the wall."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import ConfigError, DetectorError

#: Epochs of a base detector, by family of `kgtool sample`, where its recipe says else.
BASE_EPOCHS = {"W": 5, "L": 4, "S": 5}

#: How arms are trained on a world of any family, by protocol, where a recipe says else.
WORLD_SETTINGS: dict[str, dict[str, Any]] = {
    "frozen-trunk": {"train.epochs": 10, "train.batch_size": 16},
    "end-to-end": {"train.epochs": 10},
}


@dataclass(frozen=True)
class World:
    """A family of `kgtool sample` and a seed."""

    family: str
    seed: int

    @property
    def name(self) -> str:
        """Such as W0."""
        return f"{self.family}{self.seed}"


def parse_worlds(text: str) -> tuple[World, ...]:
    """Read a number N, which means W0 to W(N-1), or names such as "W101,L12".

    Raises:
        ConfigError: neither; or a world twice. Whether there is such a family, `make_world` finds out.
    """
    if text.isdecimal() and int(text) > 0:
        return tuple(World("W", seed) for seed in range(int(text)))
    worlds = []
    for name in text.split(","):
        match = re.fullmatch(r"([A-Za-z]+)(\d+)", name.strip())
        if match is None:
            raise ConfigError(
                f"--worlds {text}: found {name.strip()!r}; expected a number of worlds, or a family and a "
                "seed each, such as W101,L12 (kgtool sample --help lists the families)"
            )
        worlds.append(World(match[1], int(match[2])))
    if len(set(worlds)) < len(worlds):
        raise ConfigError(f"--worlds {text}: found a world twice; expected each once")
    return tuple(worlds)


def make_world(world: World, folder: Path) -> tuple[Path, Path]:
    """Write a world's data folder and the relation graph of its corpus, unless they are there.

    Args:
        world: which.
        folder: gets `data` and `graph.npz`.

    Returns:
        data folder and graph.
    """
    data, graph = folder / "data", folder / "graph.npz"
    annotations = data / "train.json"
    if not annotations.is_file():
        run_kgtool("sample", "--family", world.family, "--seed", world.seed, "--out", data)
    if not graph.is_file():
        run_kgtool(
            "build-relation", data / "vg" / "relationships.json", "--classes", annotations, "--out", graph
        )
    return data, graph


def make_control(graph: Path, kind: str, seed: int, out: Path) -> Path:
    """Write a control of a graph (see `kgtool controls`), unless it is there; return where it is."""
    if not out.is_file():
        run_kgtool("controls", graph, "--kind", kind, "--seed", seed, "--out", out)
    return out


def run_kgtool(*arguments: object) -> None:
    """Run a command of kgtool, in a process of its own.

    Raises:
        DetectorError: it failed; with its last line and its exit code.
    """
    command = [sys.executable, "-m", "kgtool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        error = DetectorError(f"kgtool {arguments[0]}: {last}")
        error.exit_code = done.returncode
        raise error
