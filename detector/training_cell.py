"""A cell of an experiment end to end: one arm as an ordinary training from the base detector."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.ablation_source import Source, Spent, as_json, save_result
from detector.ablation_variants import Variant
from detector.checkpoint import CONFIG_FILE, load_config, load_run
from detector.config import Config
from detector.device import pick_device
from detector.evaluate import detect
from detector.measuring import count_weights
from detector.overrides import flatten
from detector.train import train


@dataclass(frozen=True)
class TrainingCell:
    """One arm with one seed on one source, trained as a whole.

    Attributes:
        source: the data.
        variant: the arm; its configuration has the seed.
        resamples: how often the test images are drawn again.
        device: "auto", "cpu" or "cuda".
        overwrite: train again where the result or the run folder is of other settings.
    """

    source: Source
    variant: Variant
    resamples: int
    device: str
    overwrite: bool

    @property
    def name(self) -> str:
        """Of its run folder and of its file."""
        return f"end_to_end_{self.variant.name}_{self.variant.config.train.seed}"

    @property
    def path(self) -> Path:
        """The JSON file with its result."""
        return self.source.folder / "cells" / f"{self.name}.json"

    @property
    def num_stages(self) -> int:
        """Region stages of the arm."""
        return len(self.variant.config.model.stages)

    def settings(self) -> dict[str, Any]:
        """Return everything that its result depends on, as JSON has it."""
        return {
            "protocol": "end-to-end",
            "arm": self.variant.name,
            "graph_kind": self.variant.graph,
            "recipe": self.variant.config.recipe,
            "config": as_json(flatten(self.variant.config)),
            "max_images": self.source.max_images,
            "resamples": self.resamples,
            **self.source.digests(self.variant.graph),
        }

    def run(self) -> dict[str, Any]:
        """Train the arm, or go on where it was stopped, evaluate it and write its result.

        The seconds of a training that was stopped are those since it went on.

        Raises:
            DetectorError: see `detector.train.train`.
        """
        source, config, folder = self.source, self.variant.config, self.source.folder / self.name
        graph = source.graph_file(self.variant.graph, config.train.seed)
        # A result that is there is of another base or graph, which a run folder does not tell.
        again = self.overwrite and (self.path.is_file() or is_other_run(folder, config))
        begun = time.process_time()
        train_in(
            folder,
            config,
            source,
            graphs=[graph] if graph else [],
            init=source.base,
            device=self.device,
            again=again,
        )
        seconds = time.process_time() - begun
        run = load_run(folder, pick_device(self.device))
        annotations = source.annotations("test", run)
        begun = time.process_time()
        found = detect(run.model, annotations, batch_size=1, precision=config.train.precision)
        milliseconds = 1000 * (time.process_time() - begun) / max(annotations.num_images, 1)
        spent = Spent(count_weights(run.model), seconds, milliseconds)
        about, seed = run.model.diagnostics(), config.train.seed
        return save_result(self, self.variant.name, seed, annotations, found, spent, about, self.resamples)


def train_in(
    folder: Path,
    config: Config,
    source: Source,
    *,
    graphs: Sequence[Path] = (),
    init: Path | None = None,
    device: str,
    again: bool,
) -> None:
    """Train a run in a folder, or go on with it; a finished one of the same settings is left as it is.

    Args:
        folder: of the run.
        config: of the run.
        source: its data.
        graphs: its class graphs.
        init: the run that it starts from.
        device: "auto", "cpu" or "cuda".
        again: replace the run that is in the folder.

    Raises:
        ConfigError: the run in the folder has other settings, and not `again`.
        DetectorError: see `detector.train.train`.
    """
    train(
        config,
        source.data,
        folder,
        graphs=graphs,
        init=init,
        max_images=source.max_images,
        device=device,
        overwrite=again,
        resume=not again,
        quiet=True,
    )


def is_other_run(folder: Path, config: Config) -> bool:
    """Say whether a folder has a run of other settings."""
    return (folder / CONFIG_FILE).is_file() and load_config(folder) != config
