"""A run's log as TensorBoard shows it, while it runs; needs the extra `tensorboard`.

TensorBoard names its files, and puts the name of the machine into them.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from detector.errors import MissingResourceError

FOLDER = "tensorboard"


class TensorBoard:
    """Writes the numbers of log records to `RUN/tensorboard`.

    Args:
        run: run folder.
        step: of the run, from which it goes on; what was shown of later steps is hidden. 0: files of a run
            before are removed.

    Raises:
        MissingResourceError: tensorboard is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        check_tensorboard()
        writer_class = import_module("torch.utils.tensorboard").SummaryWriter
        if not step:
            for old in (run / FOLDER).glob("events.out.tfevents.*"):
                old.unlink()
        self._writer: Any = writer_class(str(run / FOLDER), purge_step=step + 1 if step else None)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of one record of the log."""
        for name, value in scalars(record):
            self._writer.add_scalar(name, value, record["step"])
        if "metrics" in record:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def check_tensorboard() -> None:
    """Check that TensorBoard's files can be written.

    Raises:
        MissingResourceError: they cannot.
    """
    try:
        import_module("torch.utils.tensorboard")
    except ImportError:
        raise MissingResourceError(
            "--tensorboard: found no tensorboard; pip install 'kgtool-detector[tensorboard]', or leave it out"
        ) from None


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
