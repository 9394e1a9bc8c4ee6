"""What a training run leaves to read: log.jsonl, and progress on stderr while it runs."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from detector.files import atomic_path
from detector.trackers import Tracker, scalars

#: Where stderr is not a terminal: a line at the end of each epoch, and at least so often, in seconds.
PLAIN_LINE_EVERY_S = 30.0


class TrainingLog:
    """Writes a JSON object a line to a file, and shows progress: a bar on a terminal, plain lines elsewhere.

    Args:
        path: the file; every line is on disk when the call returns.
        epochs: number of epochs of the run.
        steps_per_epoch: steps in each.
        quiet: nothing on stderr.
        seconds: time that the run has taken before; above 0, lines are added to those in the file.
        trackers: get the numbers of every record too; closed with the log. One that fails is left out from
            then on: training does not end because a server is gone.
    """

    def __init__(
        self,
        path: Path,
        epochs: int,
        steps_per_epoch: int,
        *,
        quiet: bool = False,
        seconds: float = 0.0,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self._file = path.open("a" if seconds else "w", encoding="utf-8")
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._quiet = quiet
        self._trackers = list(trackers)
        self._warned = {record.get("message") for record in read_log(path)} if seconds else set()
        self.steps_done = 0
        self._bar = None if quiet or not sys.stderr.isatty() else _make_bar()
        self._task = (
            self._bar.add_task("training", total=epochs * steps_per_epoch, text="") if self._bar else None
        )
        self._last_line = time.monotonic()
        self._started = self._last_line - seconds

    def __enter__(self) -> "TrainingLog":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._file.close()
        for tracker in self._trackers:
            try:
                tracker.close(failed=error is not None)
            except Exception as reason:
                self._show(_lost(tracker, reason))

    @property
    def seconds(self) -> float:
        """Wall time of the run."""
        return time.monotonic() - self._started

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record to the file."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
        numbers = dict(scalars(record))
        for tracker in list(self._trackers) if numbers else []:
            try:
                tracker.write(numbers, record["step"])
            except Exception as reason:
                self._trackers.remove(tracker)
                self.warn(_lost(tracker, reason))

    def message(self, text: str) -> None:
        """Write a message to the file and show it."""
        self.write({"message": text})
        self._show(text)

    def warn(self, text: str) -> None:
        """Give a warning, once in the run."""
        message = f"warning: {text}"
        if message not in self._warned:
            self._warned.add(message)
            self.message(message)

    def step(
        self,
        step: int,
        lr: float,
        losses: Mapping[str, float],
        diagnostics: Mapping[str, float],
        seconds: float | None = None,
    ) -> None:
        """Write one training step and show it.

        Args:
            step: number of steps done.
            lr: learning rate of this step.
            losses: by name; their sum is what was minimised.
            diagnostics: what the heads say about this step.
            seconds: of the run, when it was taken; None: now.
        """
        self.steps_done = step
        total = sum(losses.values())
        record = {"step": step, "epoch": (step - 1) // self._steps_per_epoch + 1, "lr": lr, "loss": total}
        seconds = self.seconds if seconds is None else seconds
        self.write({**record, "losses": losses, **diagnostics, "seconds": round(seconds, 3)})
        text = f"epoch {record['epoch']}/{self._epochs}  loss {total:.3f}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, text=text)
            return
        now = time.monotonic()
        if step % self._steps_per_epoch == 0 or now - self._last_line > PLAIN_LINE_EVERY_S:
            self._last_line = now
            parts = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            total_steps = self._epochs * self._steps_per_epoch
            self._show(f"step {step}/{total_steps}  {text}  {parts}  lr {lr:.2g}  {self.seconds:.0f} s")

    def _show(self, text: str) -> None:
        if self._quiet:
            return
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201


def _lost(tracker: Tracker, reason: Exception) -> str:
    first_line = str(reason).strip().partition("\n")[0]
    return f"{type(tracker).__name__} failed and is left out: {first_line or type(reason).__name__}"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read all records of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cut_log(path: Path, step: int, epochs_done: int) -> None:
    """Take out of a log what was written after the state that a run goes on from.

    Args:
        path: the log; nothing happens where there is none.
        step: steps done.
        epochs_done: epochs done, their evaluation included.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:  # the process ended while it wrote this line
            continue
        late = "metrics" in record and record["epoch"] > epochs_done
        if record.get("step", 0) <= step and not late:
            kept.append(line)
    with atomic_path(path) as part:
        part.write_text("".join(kept), encoding="utf-8")


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True))
