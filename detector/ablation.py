"""An experiment on a method: a recipe beside its controls in one setting, and how sure a difference is.

All arms of a data set share the trained base detector, the regions and, for a seed, the first weights and the
order of images. A finished cell is a small JSON file that is not made again: an experiment
that was stopped goes on, and may get more arms, seeds or worlds later.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from detector.ablation_arms import list_arms
from detector.ablation_plots import save_ablation
from detector.ablation_report import save_report, summarize
from detector.ablation_source import Cell, Source, is_done
from detector.ablation_variants import Variant, base_recipe, list_variants
from detector.config import Config
from detector.experiment import Experiment, check_experiment, check_graph, check_settings
from detector.files import check_folder_free, load_json, save_json
from detector.frozen_cell import FrozenCell, check_base, drop_source, keep_source
from detector.overrides import override
from detector.plotting import has_matplotlib
from detector.recipes import load_recipe
from detector.training_cell import TrainingCell, is_other_run, train_in
from detector.workers import Workers, start_workers
from detector.worlds import BASE_EPOCHS, World, make_world

#: In a folder of an experiment, what was asked for last.
EXPERIMENT_FILE = "experiment.json"


def ablate(
    experiment: Experiment,
    out: Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run what is left of an experiment and report on all of it.

    Args:
        experiment: what is compared, and on what.
        out: folder of the experiment: its cells, and ablation.json, .md and, with matplotlib, .png.
        jobs: processes that work at the same time, on one thread each.
        overwrite: make again what was made with other settings.
        say: gets a line of text when something is done.

    Returns:
        what ablation.json holds (see `ablation_report.summarize`).

    Raises:
        ConfigError: parts of the experiment do not fit together.
        OutputExistsError: something in `out` was made with other settings, or is not of an experiment.
        DetectorError: see `detector.train.train`, `worlds.run_kgtool` and the cells' `run`.
    """
    check_experiment(experiment)
    check_out(out)
    list_cells = plan(experiment, overwrite=overwrite)
    out.mkdir(exist_ok=True)
    save_json(experiment.summary(), out / EXPERIMENT_FILE)
    make = partial(prepare_source, experiment, out, overwrite=overwrite)
    results = []
    stages: dict[str, int] = {}
    with start_workers(jobs) as workers:
        sources = []
        for source in workers(make, experiment.places()):
            sources.append(source)
            say(f"{source.name}: data, graph and base detector are there")
        order = [name_of(place) for place in experiment.places()]
        for source in sorted(sources, key=lambda source: order.index(source.name)):
            cells = list_cells(source)
            run_cells(cells, workers, overwrite=overwrite, say=say)
            made = [load_json(cell.path) for cell in cells]
            stages |= {result["arm"]: cell.num_stages for cell, result in zip(cells, made, strict=True)}
            results += made
    report = {"experiment": experiment.summary(), **summarize(results, experiment.recipe, stages)}
    save_report(report, out)
    if has_matplotlib():
        save_ablation(report, out / "ablation.png")
    return report


def plan(experiment: Experiment, *, overwrite: bool) -> Callable[[Source], list[Cell]]:
    """Check the arms and return what lists the cells of a source, all arms of a seed after each other.

    Raises:
        ConfigError: an arm, a setting, a graph or the base detector that is to be trained does not fit; see
            `list_arms`, `list_variants` and `frozen_cell.check_base`.
    """
    base = None if experiment.init else base_config(experiment)
    settings, resamples = experiment.shared_settings(), experiment.resamples
    recipe = override(load_recipe(experiment.recipe), settings)
    seeds = range(experiment.seeds)
    if experiment.protocol == "end-to-end":
        variants = list_variants(experiment.recipe, experiment.controls, experiment.rivals, settings)
        check_graph(experiment, {variant.name: variant.graph for variant in variants})
        seeded = [_with_seed(variant, seed) for seed in seeds for variant in variants]
        return lambda source: [
            TrainingCell(source, variant, resamples, experiment.device, overwrite) for variant in seeded
        ]
    check_settings(recipe, experiment.settings or {})
    if base is not None:
        check_base(base.model, f"{base.recipe}, the plain detector behind {experiment.recipe}")
    arms = list_arms(recipe, experiment.controls, [load_recipe(name) for name in experiment.rivals])
    check_graph(experiment, {arm.name: arm.graph for arm in arms})
    return lambda source: [
        FrozenCell(source, arm, arms[0].stage, replace(recipe.train, seed=seed), resamples)
        for seed in seeds
        for arm in arms
    ]


def _with_seed(variant: Variant, seed: int) -> Variant:
    return replace(variant, config=override(variant.config, {"train.seed": seed}))


def run_cells(
    cells: Sequence[Cell], workers: Workers, *, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Make the cells of one source that are not there."""
    left = [cell for cell in cells if not is_done(cell, overwrite=overwrite)]
    frozen = [cell.source for cell in left if isinstance(cell, FrozenCell)][:1]
    try:
        for kept in workers(keep_source, frozen):
            say(f"{frozen[0].name}: {kept} regions are kept for {len(left)} of {len(cells)} cells")
        for result in workers(_run, left):
            ap, seconds = 100 * result["metrics"]["AP"], result["cpu_seconds"]
            say(f"{result['source']}: {result['arm']}, seed {result['seed']}: AP {ap:.1f}, {seconds:.0f} s")
    finally:
        for source in frozen:
            drop_source(source)


def _run(cell: Cell) -> dict[str, Any]:
    return cell.run()


def check_out(out: Path) -> None:
    """Check that `out` may hold the experiment.

    Raises:
        OutputExistsError: it holds something that is not of an experiment.
        DetectorError: it is a file, or the folder around it does not exist.
    """
    # Another experiment's worlds and base detectors, copied here, are a beginning too.
    begun = any(out.glob(EXPERIMENT_FILE)) or any(out.glob("*/cells")) or any(out.glob("*/base/config.json"))
    check_folder_free(out, overwrite=begun)


def name_of(place: World | Path) -> str:
    """What a world or a data folder is called: never empty, nor one of the dots of a path."""
    return place.name if isinstance(place, World) else place.resolve().name or "data"


def base_config(experiment: Experiment, place: World | Path | None = None) -> Config:
    """Return the configuration of the base detector that is trained where none is given.

    Raises:
        ConfigError: no recipe is it, or a setting does not fit.
    """
    settings = {}
    if isinstance(place, World) and place.family in BASE_EPOCHS:
        settings["train.epochs"] = BASE_EPOCHS[place.family]
    return override(base_recipe(experiment.recipe), {**settings, **(experiment.base_settings or {})})


def prepare_source(experiment: Experiment, out: Path, place: World | Path, *, overwrite: bool) -> Source:
    """Make a world's data and graph, and the base detector of a world or a data folder, where missing."""
    folder = out / name_of(place)
    folder.mkdir(exist_ok=True)
    data, graph = make_world(place, folder) if isinstance(place, World) else (place, experiment.graph)
    source = Source(
        folder.name, folder, data, graph, experiment.init or folder / "base", experiment.max_images
    )
    if not experiment.init:
        config = base_config(experiment, place)
        again = overwrite and is_other_run(source.base, config)
        train_in(source.base, config, source, device=experiment.device, again=again)
    return source
