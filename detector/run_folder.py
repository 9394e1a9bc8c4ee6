"""What a training run writes around its training: settings and classes before, a card and a picture after."""

from pathlib import Path
from typing import Any

from detector.card import TrainedOn, card_text
from detector.checkpoint import (
    CARD_FILE,
    ENVIRONMENT_FILE,
    LOG_FILE,
    METRICS_FILE,
    PLOT_FILE,
    RUN_FILES,
    RunClasses,
    save_classes,
    save_config,
)
from detector.config import Config
from detector.files import atomic_path, save_json
from detector.plotting import has_matplotlib
from detector.run_tables import save_training_plot
from detector.training_log import cut_log
from detector.training_state import STATE_FILE, TrainingState


def start_run_folder(
    out: Path, config: Config, classes: RunClasses, environment: dict[str, Any], state: TrainingState
) -> None:
    """Make the folder, or clear the run that is in it, and write what is known before training.

    A run that goes on keeps everything but what its log has of later steps, and files that a kill left half
    written.
    """
    for part in out.glob(".*.part"):
        part.unlink()
    if state.step:
        cut_log(out / LOG_FILE, state.step, state.epochs_done)
    else:
        out.mkdir(exist_ok=True)
        for name in (*RUN_FILES, STATE_FILE):
            (out / name).unlink(missing_ok=True)
        save_config(config, out)
        save_classes(classes, out)
    save_json(environment, out / ENVIRONMENT_FILE)


def finish_run_folder(
    out: Path,
    config: Config,
    classes: RunClasses,
    environment: dict[str, Any],
    trained_on: TrainedOn,
    result: dict[str, Any],
) -> None:
    """Write the card, and the picture where matplotlib is installed; then the state is needed no more."""
    save_json(result, out / METRICS_FILE)
    with atomic_path(out / CARD_FILE) as part:
        text = card_text(config, classes, trained_on, result, environment)
        part.write_text(text, encoding="utf-8")
    if has_matplotlib():
        save_training_plot(out / LOG_FILE, out / PLOT_FILE)
    (out / STATE_FILE).unlink(missing_ok=True)
