"""card.md of a run: what the detector is, what it was trained on, how good it is, how it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from detector.annotations import Annotations
from detector.checkpoint import RunClasses
from detector.config import WITHOUT_EFFECT, Config
from detector.frequencies import FREQUENCIES, frequencies_of
from detector.overrides import flatten
from detector.recipes import load_recipe

#: So many class names are on the card; all are in classes.json.
MOST_NAMES = 20


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """What a run learned from.

    Attributes:
        annotations: the training split.
        graphs: names of the graph files, without folders.
        init: name of the run whose weights it started from, without folders; "" for none.
    """

    annotations: Annotations
    graphs: Sequence[str]
    init: str


def card_text(
    config: Config,
    classes: RunClasses,
    trained_on: TrainedOn,
    result: dict[str, Any],
    environment: dict[str, Any],
) -> str:
    """Return the card of a finished run, Markdown; the same run gives the same text, wherever it lies.

    Args:
        config: of the run.
        classes: of the run.
        trained_on: what it learned from.
        result: the last evaluation, as in metrics.json.
        environment: see `describe_environment`.
    """
    return (
        "\n\n".join(
            [
                f"# {config.recipe}, {len(classes.names)} classes",
                f"An object detector, recipe `{config.recipe}`, trained with kgtool-detector "
                f"{environment['kgtool-detector']}.",
                "## Use",
                _USE,
                "## Trained on",
                _data_text(classes, trained_on),
                "## Settings that differ from the recipe",
                _settings_text(config),
                "## Metrics",
                _metrics_text(result),
                "## Made with",
                _environment_text(environment),
            ]
        )
        + "\n"
    )


_USE = """RUN is the folder that this card lies in.

```sh
detector predict RUN photo.jpg --out pictures
detector eval RUN --data DATA
```

```python
from detector import load

found = load("RUN")(["photo.jpg"])
```"""


def _data_text(classes: RunClasses, trained_on: TrainedOn) -> str:
    annotations = trained_on.annotations
    boxes = int(annotations.boxes_per_class().sum())
    shown = ", ".join(classes.names[:MOST_NAMES]) + (", ..." if len(classes.names) > MOST_NAMES else "")
    groups = frequencies_of(classes.train_images)
    rare, common, frequent = (groups.count(group) for group in FREQUENCIES)
    lines = [
        f"- `{annotations.path.name}`: {len(annotations.usable_images())} images, {boxes} boxes",
        f"- {len(classes.names)} classes: {shown}",
        f"- {rare} classes with up to 10 images, {common} with up to 100, {frequent} with more",
    ]
    lines += [
        f"- class graph `{name}`, hash `{graph_hash}`"
        for name, graph_hash in zip(trained_on.graphs, classes.graph_hashes, strict=True)
    ]
    lines += [] if classes.graph_hashes else ["- no class graph"]
    lines += [f"- started from the weights of the run `{trained_on.init}`"] if trained_on.init else []
    return "\n".join(lines)


def _settings_text(config: Config) -> str:
    usual, mine = flatten(load_recipe(config.recipe)), flatten(config)
    mine["model.backbone.weights"] = PurePath(config.model.backbone.weights).name  # folders are the machine's
    different = [key for key in mine if mine[key] != usual.get(key) and key not in WITHOUT_EFFECT]
    if not different:
        return "None."
    rows = [f"| `{key}` | {_cell(usual.get(key))} | {_cell(mine[key])} |" for key in different]
    return "\n".join(["| setting | recipe | here |", "|---|---|---|", *rows])


def _metrics_text(result: dict[str, Any]) -> str:
    masks = result.get("mask_metrics", {})
    titles = ["metric", "boxes", *(["masks"] if masks else [])]
    rows = [
        [name, _percent(value), *([_percent(masks.get(name, -1))] if masks else [])]
        for name, value in result["metrics"].items()
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *rows])
    return (
        f"Percent, weights after epoch {result['epoch']}, on the {result['num_images']} images of "
        f"`{result['data']}`; - where it has nothing to find. Each class: per_class.csv.\n\n{table}"
    )


def _environment_text(environment: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {_cell(value)}" for name, value in environment.items() if value is not None)


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _cell(value: Any) -> str:
    return "none" if value is None or value == "" else str(value).replace("|", "\\|")
