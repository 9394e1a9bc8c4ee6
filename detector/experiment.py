"""What an experiment compares, and on what: parts that must fit together before anything is trained."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from detector.ablation_arms import OF_FIRST_STAGE
from detector.config import Config
from detector.errors import ConfigError
from detector.worlds import WORLD_SETTINGS, World

#: Settings of a training that are read where region stages alone are trained.
TRAIN_SETTINGS = (
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "reference_batch",
    "momentum",
    "weight_decay",
    "schedule",
    "milestones",
    "warmup_iterations",
    "clip_norm",
)

ProtocolName = Literal["frozen-trunk", "end-to-end"]


@dataclass(frozen=True)
class Experiment:
    """What is compared, and on what.

    Attributes:
        recipe: name of the recipe.
        controls: names in `ablation_arms.CONTROLS`; those that always belong to it may be left out.
        rivals: names of other recipes.
        seeds: seeds 0 to so many less one.
        worlds: sample worlds; or
        data: a data folder with the splits train and test, and
        graph: its class graph.
        init: run folder of a base detector of `data`; None: it is trained.
        settings: values of the recipe's configuration by dotted key, for all arms.
        base_settings: the same for the base detector.
        max_images: the first so many images with boxes of each split.
        resamples: how often the test images are drawn again.
        protocol: "frozen-trunk" (see `frozen_trunk`), or "end-to-end": ordinary trainings from the base.
        device: of whole detectors that are trained, "auto", "cpu" or "cuda"; region stages alone are trained
            on the CPU.
    """

    recipe: str
    controls: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    seeds: int = 1
    worlds: tuple[World, ...] = ()
    data: Path | None = None
    graph: Path | None = None
    init: Path | None = None
    settings: Mapping[str, Any] | None = None
    base_settings: Mapping[str, Any] | None = None
    max_images: int | None = None
    resamples: int = 300
    protocol: ProtocolName = "frozen-trunk"
    device: str = "auto"

    def shared_settings(self) -> dict[str, Any]:
        """Return the values that all arms are trained with, where they differ from the recipe's."""
        return {**(WORLD_SETTINGS[self.protocol] if self.worlds else {}), **(self.settings or {})}

    def places(self) -> tuple[World | Path, ...]:
        """Return the worlds, or the data folder."""
        return self.worlds or (() if self.data is None else (self.data,))

    def summary(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        places = [world.name for world in self.worlds] or [str(self.data)]
        paths = {name: path and str(path) for name, path in (("graph", self.graph), ("init", self.init))}
        return {
            **asdict(self),
            **paths,
            "settings": self.shared_settings(),
            "base_settings": dict(self.base_settings or {}),
            "data": places,
            "worlds": bool(self.worlds),
        }


def check_experiment(experiment: Experiment) -> None:
    """Check that there is one kind of data, with what belongs to it, and no seed beside those counted.

    Raises:
        ConfigError: there is not.
    """
    if bool(experiment.worlds) == bool(experiment.data):
        raise ConfigError("ablate: expected either --worlds or --data")
    if experiment.worlds and (experiment.graph or experiment.init):
        raise ConfigError("--worlds: every world has its own graph and base; leave out --graph and --init")
    if "train.seed" in (experiment.settings or {}):
        raise ConfigError("--set train.seed: --seeds counts them from 0; give that instead")
    names = (experiment.recipe, *experiment.rivals)
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ConfigError(f"--rivals: found {twice[0]} twice, or as --recipe; expected each recipe once")


def check_graph(experiment: Experiment, graph_by_arm: Mapping[str, str]) -> None:
    """Check that a data folder comes with a graph exactly when an arm reads one.

    Raises:
        ConfigError: it is missing or would be ignored.
    """
    reading = [arm for arm, graph in graph_by_arm.items() if graph]
    if experiment.data and reading and not experiment.graph:
        raise ConfigError(f"arm {reading[0]} reads a class graph and got none; give --graph FILE")
    if experiment.data and experiment.graph and not reading:
        raise ConfigError(f"--graph {experiment.graph}: no arm reads a class graph; leave --graph out")


def check_settings(recipe: Config, settings: Iterable[str]) -> None:
    """Check that all arms can have these settings.

    Raises:
        ConfigError: one belongs to the base detector, or has no effect on a frozen trunk.
    """
    last = f"model.stages.{len(recipe.model.stages) - 1}."
    for key in settings:
        name = key.rpartition(".")[2]
        if key.startswith(last) and name not in OF_FIRST_STAGE:
            continue
        if key.removeprefix("train.") not in TRAIN_SETTINGS:
            raise ConfigError(
                f"--set {key}: has no effect on region stages behind a frozen trunk; expected train."
                f"{', train.'.join(TRAIN_SETTINGS)}, or {last}head...; --base-set is for the base detector"
            )
