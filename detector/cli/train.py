"""`detector train`."""

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from detector.cli.output import echo_json, echo_metrics


class BatchSize(click.ParamType):  # type: ignore[type-arg]
    """A number from 1 on, or "auto"."""

    name = "integer or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert what stands on the command line or in the environment."""
        return value if value == "auto" else click.IntRange(min=1).convert(value, param, ctx)


@click.command("train")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Data folder (COCO JSON and images)."
)
@click.option("--recipe", required=True, help="Name of a recipe (see `detector recipes`).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Class graph, for a recipe that reasons over one; may be repeated.",
)
@click.option(
    "--init", type=click.Path(path_type=Path), help="Run whose weights to start from, where they fit."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs (train.epochs).")
@click.option(
    "--batch-size",
    type=BatchSize(),
    help="Images a step (train.batch_size); auto: the largest power of two that fits into memory.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all that is drawn (train.seed).")
@click.option(
    "--deterministic",
    is_flag=True,
    default=False,
    help="The same bits from run to run on a GPU too; slower (train.deterministic).",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting; may be repeated."
)
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@click.option("--eval-split", default="test", show_default=True, help="Split to evaluate on.")
@click.option(
    "--max-images", type=click.IntRange(min=1), help="Use the first N images with boxes of each split."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a GPU when there is one.",
)
@click.option(
    "--resume",
    type=click.Choice(["auto", "never"]),
    default="never",
    show_default=True,
    help="auto: go on with the run in --out if it was stopped, else start it.",
)
@click.option(
    "--max-time",
    "max_minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Stop after so many minutes; --resume auto goes on.",
)
@click.option(
    "--track",
    "trackers",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow", "trackio"]),
    help="Show the run in this tracker while it trains (extra of that name); may be repeated.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the run that is in --out.")
@click.option(
    "--show-config",
    is_flag=True,
    default=False,
    help="Print every setting and where it came from; train nothing.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    default=False,
    help="Check data, graph, model and one batch forward and backward; write nothing.",
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def train_command(
    data: Path,
    recipe: str,
    out: Path,
    epochs: int | None,
    batch_size: int | str | None,
    seed: int | None,
    deterministic: bool,
    assignments: tuple[str, ...],
    resume: str,
    show_config: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a detector and evaluate it.

    --out becomes a run folder: model.safetensors (saved after every epoch), card.md, settings, classes, log,
    tables and a picture (docs/training.md lists them). A flag beats its environment variable
    (DETECTOR_TRAIN_EPOCHS), that beats --set, and --set beats the recipe. Ctrl-C and SIGTERM stop after the
    step; until the run is finished, state.pt has what --resume auto goes on from.

    Example: detector train --data data/sample --graph relation.npz --recipe reasoning_rcnn_sample --out run

    Example: detector train --data DATA --recipe faster_rcnn_r50_fpn --set train.lr=0.0025 --out run

    Example: torchrun --nproc-per-node 8 -m detector train --data DATA --recipe faster_rcnn_r50_fpn --out run
    """
    from detector.overrides import override, parse_assignments
    from detector.recipes import load_recipe
    from detector.train import train

    options["auto_batch"] = batch_size == "auto"
    number = None if batch_size == "auto" else batch_size
    flags = {
        "train.epochs": epochs,
        "train.batch_size": number,
        "train.seed": seed,
        "train.deterministic": deterministic or None,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    assigned = parse_assignments(assignments)
    config = override(load_recipe(recipe), {**assigned, **given})
    if show_config:
        sources = {**dict.fromkeys(assigned, _source("assignments")), **{key: _source(key) for key in given}}
        if options["auto_batch"]:
            sources["train.batch_size"] = f"{_source('batch_size')}: auto, found before the first step"
        _echo_config(config, sources, as_json=as_json)
        return
    if dry_run:
        from detector.rehearsal import rehearse

        del options["max_minutes"], options["trackers"]
        _echo_rehearsal(rehearse(config, data, out, **options), as_json=as_json)
        return
    result = train(config, data, out, resume=resume == "auto", **options)
    if not result:  # not the first of several processes
        return
    if as_json:
        echo_json({"run": str(out), **result})
    elif "metrics" in result:
        echo_metrics(result)


def _source(key: str) -> str:
    """Where a setting came from that a flag gave, or --set: the command line or the environment."""
    context = click.get_current_context()
    name = key.rpartition(".")[2]
    if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
        return f"environment {context.auto_envvar_prefix}_{name.upper()}"
    return "--set" if name == "assignments" else f"--{name.replace('_', '-')}"


def _echo_config(config: Any, sources: dict[str, str], *, as_json: bool) -> None:
    from detector.overrides import flatten

    settings = flatten(config)
    if as_json:
        rows = {key: {"value": value, "from": sources.get(key, "recipe")} for key, value in settings.items()}
        echo_json({"recipe": config.recipe, "settings": rows})
        return
    click.echo(f"recipe {config.recipe}")
    for key, value in settings.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{key}={shown}    # {sources.get(key, 'recipe')}")


def _echo_rehearsal(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(found)
        return
    for message in found["messages"]:
        click.echo(message, err=True)
    click.echo(
        f"{found['recipe']}: {found['weights'] / 1e6:.2f} M weights on {found['device']}, {found['classes']} "
        f"classes, {found['train_images']} images to train on, {found['eval_images']} to evaluate on, "
        f"{found['steps']} steps of {found['batch_size']} images"
    )
    losses = ", ".join(f"{name} {value:.3f}" for name, value in found["losses"].items())
    click.echo(f"one batch forward and backward: {losses}; nothing was written")
