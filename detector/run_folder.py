"""A run's folder around its training: whether it may start, what is written before, and after."""

from pathlib import Path
from typing import Any, Literal

from detector.card import TrainedOn, card_text
from detector.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    LOG_FILE,
    METRICS_FILE,
    PLOT_FILE,
    RUN_FILES,
    WEIGHTS_FILE,
    RunClasses,
    load_classes,
    load_config,
    save_classes,
    save_config,
)
from detector.config import WITHOUT_EFFECT, Config
from detector.errors import ConfigError, InputError, OutputExistsError
from detector.files import atomic_path, check_folder_free, save_json
from detector.overrides import flatten
from detector.plotting import has_matplotlib
from detector.run_tables import save_training_plot
from detector.training_log import cut_log
from detector.training_state import STATE_FILE, TrainingState


def find_start(
    config: Config, out: Path, *, resume: bool, overwrite: bool, writes: bool
) -> Literal["anew", "state", "finished"]:
    """Say how a run begins: anew, from the state in its folder, or not at all; check that it may.

    Args:
        config: of the run.
        out: its folder.
        resume: go on with a run that is there.
        overwrite: replace a run that is there.
        writes: whether this process will write; others do not look whether the folder is free.

    Raises:
        ConfigError: the run that is there has other settings.
        OutputExistsError, DetectorError: see `check_run_folder_free`.
    """
    has_state, has_metrics = ((out / name).is_file() for name in (STATE_FILE, METRICS_FILE))
    begun = resume and _is_only_begun(out)
    if begun or (resume and (has_state or has_metrics)):
        check_same_config(config, out)
    if resume and has_state:
        return "state"
    if resume and has_metrics:
        return "finished"
    if writes:
        check_run_folder_free(out, overwrite=overwrite or begun)
    return "anew"


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


def check_same_config(config: Config, out: Path) -> None:
    """Check that a run goes on as it was started.

    Raises:
        ConfigError: a setting is another; the message names the first.
    """
    stored, wanted = load_config(out), flatten(config)
    if stored.recipe != config.recipe:
        raise ConfigError(f"{out}: is a run of recipe {stored.recipe}; found --recipe {config.recipe}")
    for key, value in flatten(stored).items():
        if wanted.get(key) != value and key not in WITHOUT_EFFECT:
            raise ConfigError(
                f"{out}: was started with {key}={value}; found {wanted.get(key)}; a run goes on with "
                "the same settings; give them, or start anew with --overwrite"
            )


def check_same_inputs(classes: RunClasses, out: Path) -> None:
    """Check that a finished run learned from the same graphs and data; a stopped one's state says it itself.

    Raises:
        InputError: it did not.
    """
    stored = load_classes(out)
    if stored.graph_hashes != classes.graph_hashes:
        found, given = (", ".join(part.graph_hashes) or "none" for part in (stored, classes))
        what = f"graph {found}; found --graph with hash {given}"
    elif stored.inputs and stored.inputs != classes.inputs:
        what = "other data, or with another --init"
    else:
        return
    raise InputError(
        f"{out}: is finished, and was trained on {what}; give the same, another --out, or start anew with "
        "--overwrite"
    )


def check_run_folder_free(out: Path, *, overwrite: bool) -> None:
    """Check that `out` may become a run folder.

    Raises:
        OutputExistsError: it holds something; with `overwrite`, something that is not a run.
        DetectorError: it is a file, or the folder around it does not exist.
    """
    check_folder_free(out, overwrite=overwrite)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG_FILE).is_file():
        raise OutputExistsError(f"{out}: holds other things than a run; give another --out")


def _is_only_begun(out: Path) -> bool:
    """Say whether a run was killed before it had kept anything to go on from."""
    kept = (STATE_FILE, WEIGHTS_FILE, METRICS_FILE)
    return (out / CONFIG_FILE).is_file() and not any((out / name).exists() for name in kept)
