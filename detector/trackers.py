"""A run's log in TensorBoard, W&B, MLflow or trackio, while it runs; each needs the extra of its name.

An adapter gets numbers by name with the step they belong to, and the settings once. Where they go, and into
which project, each tracker's own environment variables say; what a tracker records besides is its own: W&B
and TensorBoard, for example, the name of the machine.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from detector.errors import DetectorError, MissingResourceError
from detector.files import load_json, save_json

#: Beside the run: the name by which trackers find it again when it goes on.
TRACKERS_FILE = "trackers.json"
TENSORBOARD_FOLDER = "tensorboard"

#: The project of runs for which the tracker's own environment variable names no other.
PROJECT = "detector"

#: How many settings MLflow takes in one request.
MLFLOW_PARAMS = 100


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker needs to know of a run.

    Attributes:
        folder: run folder.
        id: the same when the run goes on, another when it is overwritten.
        step: from which it goes on; 0 for a new run.
        settings: the whole configuration, flat.
    """

    folder: Path
    id: str
    step: int
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """Shows the numbers of a run; made from a `TrackedRun`."""

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Show numbers of a step; a step may come twice, with other names."""

    def close(self, *, failed: bool) -> None:
        """Write what is left; no call follows."""


class TensorBoard:
    """Writes to `RUN/tensorboard`; what was shown of steps after the one to go on from is hidden."""

    def __init__(self, run: TrackedRun) -> None:
        writer_class = import_module("torch.utils.tensorboard").SummaryWriter
        folder = run.folder / TENSORBOARD_FOLDER
        before = [] if run.step else list(folder.glob("events.out.tfevents.*"))  # of another run
        self._writer: Any = writer_class(str(folder), purge_step=run.step + 1 if run.step else None)
        for old in before:
            old.unlink()

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """Writes to W&B, or with WANDB_MODE=offline to `RUN/wandb`; steps that it has already it leaves out."""

    def __init__(self, run: TrackedRun) -> None:
        wandb = import_module("wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.folder.name,
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            config=dict(run.settings),
            resume="allow",
            settings=wandb.Settings(console="off"),  # stdout and stderr are ours
        )

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(numbers), step=step)

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """Writes to MLFLOW_TRACKING_URI; a run that goes on is found by its tag, and what it has is left out."""

    def __init__(self, run: TrackedRun) -> None:
        entities, mlflow = import_module("mlflow.entities"), import_module("mlflow")
        self._metric, self._client = entities.Metric, mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        found = self._client.search_runs([experiment], f"tags.`detector.run` = '{run.id}'")
        self._last: dict[str, int] = {}
        if found:
            self._id = found[0].info.run_id
            for key in found[0].data.metrics:
                history = self._client.get_metric_history(self._id, key)
                self._last[key] = max(point.step for point in history)
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {"detector.run": run.id}
        self._id = self._client.create_run(experiment, run_name=run.folder.name, tags=tags).info.run_id
        params = [entities.Param(key, str(value)) for key, value in run.settings.items()]
        for start in range(0, len(params), MLFLOW_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MLFLOW_PARAMS])

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        now = int(1000 * time.time())
        new = {name: value for name, value in numbers.items() if step > self._last.get(name, 0)}
        metrics = [self._metric(name, value, now, step) for name, value in new.items()]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class Trackio:
    """Writes to TRACKIO_DIR, or to the server that its variables name; what is there it leaves out."""

    def __init__(self, run: TrackedRun) -> None:
        trackio = import_module("trackio")
        with redirect_stdout(sys.stderr):  # stdout is data
            self._run: Any = trackio.init(
                project=PROJECT,
                name=f"{run.folder.name}-{run.id}",
                config=dict(run.settings),
                resume="allow",
                embed=False,
            )
        # No public call says it of a local run and of a remote one.
        self._last = int(getattr(self._run, "_next_step", 0)) - 1

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`; a kill during an evaluation leaves the last step there without its metrics."""
        if step < self._last or (step == self._last and "training/loss" in numbers):
            return
        self._run.log(dict(numbers), step=step)

    def close(self, *, failed: bool) -> None:
        """See `Tracker`."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


#: By the name of their extra: what must be importable, and the adapter.
TRACKERS: dict[str, tuple[str, Callable[[TrackedRun], Tracker]]] = {
    "tensorboard": ("torch.utils.tensorboard", TensorBoard),
    "wandb": ("wandb", WeightsAndBiases),
    "mlflow": ("mlflow", MLflow),
    "trackio": ("trackio", Trackio),
}


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers can be started.

    Raises:
        MissingResourceError: one is not installed.
    """
    for name in names:
        try:
            import_module(TRACKERS[name][0])
        except ImportError:
            raise MissingResourceError(
                f"--track {name}: not installed; pip install 'kgtool-detector[{name}]', or leave it out"
            ) from None


def start_trackers(
    names: Sequence[str], folder: Path, step: int, settings: Mapping[str, Any]
) -> tuple[list[Tracker], str]:
    """Start trackers of a run.

    Args:
        names: keys of `TRACKERS`.
        folder: run folder, which is there.
        step: from which the run goes on; 0 for a new one.
        settings: the whole configuration, flat.

    Returns:
        the trackers, and the run's id, for `save_tracked_id` once the folder is the run's.

    Raises:
        DetectorError: a tracker does not start; its own reason. What the folder has of a run before stays.
    """
    goes_on = step > 0 and (folder / TRACKERS_FILE).is_file()
    tracked_id = str(load_json(folder / TRACKERS_FILE)["id"]) if goes_on else secrets.token_hex(4)
    run = TrackedRun(folder, tracked_id, step, settings)
    started: list[Tracker] = []
    for name in sorted(dict.fromkeys(names), key="tensorboard".__eq__):  # last, as it removes a run before
        try:
            started.append(TRACKERS[name][1](run))
        except Exception as error:  # whatever its package, network or configuration says
            for tracker in started:
                tracker.close(failed=True)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DetectorError(f"--track {name}: does not start: {reason[:300]}") from error
    return started, tracked_id


def save_tracked_id(tracked_id: str, folder: Path) -> None:
    """Write the id by which trackers find the run of this folder again."""
    save_json({"id": tracked_id}, folder / TRACKERS_FILE)


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record by the names to show them under; those of a step, or of an evaluation."""
    groups = ("losses",) if "lr" in record else ("metrics", "mask_metrics")
    for group in groups:
        for name, value in record.get(group, {}).items():
            if group == "losses" or value >= 0:  # -1: nothing to find
                yield f"{group}/{name}", value
    if "lr" in record:
        others = record.keys() - {"step", "epoch", "losses", "seconds"}
        yield from ((f"training/{name}", record[name]) for name in sorted(others))
