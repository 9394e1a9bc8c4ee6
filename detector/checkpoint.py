"""A run folder: config.json, classes.json and model.safetensors, from which a trained detector comes back.

The folder holds everything that is needed, the graph among the weights; no pickle is ever read. What is for
people to read lies beside them (`RUN_FILES`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detector.config import Config
from detector.errors import ClassMatchError, InputError
from detector.files import atomic_path, load_json, save_json
from detector.interfaces import KNOWLEDGE_BUFFERS
from detector.overrides import flatten, override
from detector.positions import no_counts
from detector.rcnn import RCNN, build_model
from detector.recipes import load_recipe
from detector.trackers import TRACKERS_FILE

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
WEIGHTS_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
METRICS_FILE = "metrics.json"
LOG_FILE = "log.jsonl"
METRICS_TABLE = "metrics.csv"
CLASS_TABLE = "per_class.csv"
ENVIRONMENT_FILE = "environment.json"
CARD_FILE = "card.md"
PLOT_FILE = "training.png"

#: What a finished run may hold, and what `--overwrite` removes.
RUN_FILES = (
    CONFIG_FILE,
    CLASSES_FILE,
    WEIGHTS_FILE,
    BEST_FILE,
    METRICS_FILE,
    LOG_FILE,
    METRICS_TABLE,
    CLASS_TABLE,
    ENVIRONMENT_FILE,
    CARD_FILE,
    PLOT_FILE,
    TRACKERS_FILE,
)

#: Which weights of a run: after the last epoch, or of the best evaluation.
Weights = Literal["last", "best"]


@dataclass(frozen=True)
class RunClasses:
    """The classes that a run knows, in its own order.

    Attributes:
        names: C unique names.
        synsets: "" where a class has none.
        category_ids: ids of the COCO JSON that the run was trained on.
        graph_hashes: identities of the class graphs, in their order; none for a run without one.
        train_images: number of images that each class was trained on; empty where a run does not say.
        inputs: SHA-256 of what the run learned from (`preparation.identity_of`); "" where it does not say.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...]
    category_ids: tuple[int, ...]
    graph_hashes: tuple[str, ...]
    train_images: tuple[int, ...] = ()
    inputs: str = ""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run folder, loaded: the model is in evaluation mode on its device."""

    folder: Path
    config: Config
    classes: RunClasses
    model: RCNN


def save_config(config: Config, folder: Path) -> None:
    """Write the recipe's name and every setting, flat."""
    save_json({"recipe": config.recipe, "settings": flatten(config)}, folder / CONFIG_FILE)


def load_config(folder: Path) -> Config:
    """Read a run's configuration: its recipe, with every stored setting set again.

    Raises:
        InputError: the folder is not a run, or config.json is not what `save_config` writes.
        ConfigError: the recipe or a setting is not known here.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{folder}: no {CONFIG_FILE}; expected a run folder made by `detector train`")
    document = load_json(folder / CONFIG_FILE)
    if not isinstance(document.get("recipe"), str) or not isinstance(document.get("settings"), dict):
        raise InputError(f"{folder / CONFIG_FILE}: expected the keys recipe (text) and settings (object)")
    return override(load_recipe(document["recipe"]), document["settings"])


def save_classes(classes: RunClasses, folder: Path) -> None:
    """Write the class list, and the hashes of the graphs and of all that is learned from."""
    columns = zip(classes.category_ids, classes.names, classes.synsets, strict=True)
    rows: list[dict[str, Any]] = [
        {"id": category, "name": name, "synset": synset} for category, name, synset in columns
    ]
    for row, count in zip(rows, classes.train_images, strict=False):
        row["train_images"] = count
    document = {"graph_hashes": list(classes.graph_hashes), "inputs": classes.inputs, "classes": rows}
    save_json(document, folder / CLASSES_FILE)


def load_classes(folder: Path) -> RunClasses:
    """Read the class list of a run.

    Raises:
        InputError: classes.json is missing or not what `save_classes` writes.
    """
    path = folder / CLASSES_FILE
    document = load_json(path)
    if "graph_hashes" not in document:
        raise InputError(
            f"{path}: found no graph_hashes; expected a run of this version; train it again, or use it with "
            "the version that trained it"
        )
    try:
        rows = document["classes"]
        classes = RunClasses(
            names=tuple(str(row["name"]) for row in rows),
            synsets=tuple(str(row["synset"]) for row in rows),
            category_ids=tuple(int(row["id"]) for row in rows),
            graph_hashes=tuple(str(graph_hash) for graph_hash in document["graph_hashes"]),
            train_images=tuple(int(row["train_images"]) for row in rows if "train_images" in row),
            inputs=str(document.get("inputs", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: found {error!r}; expected graph_hashes and classes with id, name, synset"
        ) from error
    if not classes.names or len(set(classes.names)) != len(classes.names):
        raise InputError(f"{path}: expected one or more classes with unique names")
    return classes


def save_weights(model: nn.Module, folder: Path, name: str = WEIGHTS_FILE) -> None:
    """Write every tensor of a model, atomically: a reader sees the weights before or after, never a part."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / name) as part:
        save_file(tensors, part, metadata={"format": "pt"})


def load_weights(model: nn.Module, folder: Path, weights: Weights = "last") -> None:
    """Load the weights of a run into a model of the same configuration.

    Raises:
        InputError: no such weights yet, a broken file, or tensors of other names or shapes.
    """
    path = folder / (BEST_FILE if weights == "best" else WEIGHTS_FILE)
    if weights == "best" and not path.is_file():
        raise InputError(
            f"{path}: no such file; a run keeps its best weights with --set train.eval_every=1; "
            "take --weights last"
        )
    tensors = _read_tensors(path)
    _check_shapes(path, tensors, model.state_dict())
    model.load_state_dict(tensors)


def load_fitting_weights(model: nn.Module, folder: Path, class_names: Sequence[str]) -> str:
    """Start a model from the weights of another run: every tensor whose name and shape fit is taken.

    But for class graphs: a run has the graph that it was given, not that of the run it starts from.

    Args:
        model: changed in place.
        folder: the other run.
        class_names: classes of the model, which must be those of the run in the same order.

    Returns:
        a message that says how many tensors were taken.

    Raises:
        ClassMatchError: the other run has other classes, or another order of them.
        InputError: the run is not what it should be, or nothing fits.
    """
    if load_classes(folder).names != tuple(class_names):
        raise ClassMatchError(f"--init {folder}: its classes are not those of --data in the same order")
    own, found = model.state_dict(), _read_tensors(folder / WEIGHTS_FILE)
    found = {name: found[name] for name in found if name.rpartition(".")[2] not in KNOWLEDGE_BUFFERS}
    fitting = {name: found[name] for name in found if name in own and found[name].shape == own[name].shape}
    if not fitting:
        raise InputError(f"--init {folder}: no tensor fits this model; expected a run with the same backbone")
    model.load_state_dict(fitting, strict=False)
    return f"{folder}: {len(fitting)} of the model's {len(own)} tensors start from this run"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; the run has not finished its first epoch")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error


def _check_shapes(path: Path, found: dict[str, Tensor], expected: dict[str, Any]) -> None:
    for name in sorted(found.keys() ^ expected.keys()):
        state = "is missing" if name in expected else "belongs to another model"
        raise InputError(
            f"{path}: tensor {name!r} {state}; expected the {len(expected)} tensors of config.json"
        )
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: tensor {name!r} has shape {list(tensor.shape)}; expected "
                f"{list(expected[name].shape)} for this config.json and classes.json"
            )


def load_run(
    folder: Path, device: torch.device, *, score_threshold: float = 1.0, weights: Weights = "last"
) -> TrainedRun:
    """Bring a trained detector back from its folder.

    Args:
        folder: run folder.
        device: where the model shall be.
        score_threshold: lowers the recipe's `model.score_threshold` where that is higher.
        weights: "last", or "best" of a run with several evaluations.

    Raises:
        InputError, ConfigError: see `load_config`, `load_classes` and `load_weights`.
    """
    config, classes = load_config(folder), load_classes(folder)
    lower = min(config.model.score_threshold, score_threshold)
    config = override(config, {"model.score_threshold": lower})
    num_classes = len(classes.names)
    num_graphs = len(classes.graph_hashes)
    graphs = torch.zeros(num_graphs, num_classes, num_classes) if num_graphs else None
    counts_CC = torch.zeros(num_classes, num_classes)
    model = build_model(
        _without_downloads(config).model, num_classes, graphs, counts_CC, positions=no_counts(num_classes)
    )
    load_weights(model, folder, weights)
    return TrainedRun(folder, config, classes, model.to(device).eval())


def _without_downloads(config: Config) -> Config:
    """The run's own weights replace whatever the backbone started from."""
    return override(config, {"model.backbone.weights": "none"})
