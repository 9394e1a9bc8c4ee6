"""An experiment on a method: a recipe beside its controls in one setting, and how sure a difference is.

All arms of a data set share the trained base detector, the regions and, for a seed, the first weights and the
order of images (`ablation_cell`). A finished cell is a small JSON file that is not made again: an experiment
that was stopped goes on, and may get more arms, seeds or worlds later.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import torch

from detector.ablation_arms import OF_FIRST_STAGE, list_arms
from detector.ablation_plots import save_ablation
from detector.ablation_report import save_report, summarize
from detector.ablation_source import Cell, Source, is_done
from detector.ablation_variants import Variant, base_recipe, list_variants
from detector.config import Config
from detector.errors import ConfigError
from detector.files import check_folder_free, load_json
from detector.frozen_cell import FrozenCell, drop_source, keep_source
from detector.overrides import override
from detector.plotting import has_matplotlib
from detector.recipes import load_recipe
from detector.training_cell import TrainingCell, train_in
from detector.worlds import BASE_EPOCHS, WORLD_SETTINGS, World, make_world

#: Settings of a training that are read where region stages alone are trained.
TRAIN_SETTINGS = (
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "reference_batch",
    "momentum",
    "weight_decay",
    "schedule",
    "milestones",
    "warmup_iterations",
    "clip_norm",
)

ProtocolName = Literal["frozen-trunk", "end-to-end"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Experiment:
    """What is compared, and on what.

    Attributes:
        recipe: name of the recipe.
        controls: names in `ablation_arms.CONTROLS`; those that always belong to it may be left out.
        rivals: names of other recipes.
        seeds: seeds 0 to so many less one.
        worlds: sample worlds; or
        data: a data folder with the splits train and test, and
        graph: its class graph.
        init: run folder of a base detector of `data`; None: it is trained.
        settings: values of the recipe's configuration by dotted key, for all arms.
        base_settings: the same for the base detector.
        max_images: the first so many images with boxes of each split.
        resamples: how often the test images are drawn again.
        protocol: "frozen-trunk" (see `frozen_trunk`), or "end-to-end": ordinary trainings from the base.
        device: of whole detectors that are trained, "auto", "cpu" or "cuda"; region stages alone are trained
            on the CPU.
    """

    recipe: str
    controls: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    seeds: int = 1
    worlds: tuple[World, ...] = ()
    data: Path | None = None
    graph: Path | None = None
    init: Path | None = None
    settings: Mapping[str, Any] | None = None
    base_settings: Mapping[str, Any] | None = None
    max_images: int | None = None
    resamples: int = 300
    protocol: ProtocolName = "frozen-trunk"
    device: str = "auto"

    def shared_settings(self) -> dict[str, Any]:
        """Return the values that all arms are trained with, where they differ from the recipe's."""
        return {**(WORLD_SETTINGS[self.protocol] if self.worlds else {}), **(self.settings or {})}


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
        DetectorError: see `detector.train.train`, `worlds.run_kgtool` and `ablation_cell.run_cell`.
    """
    check_experiment(experiment)
    check_out(out)
    list_cells = plan(experiment, overwrite=overwrite)
    out.mkdir(exist_ok=True)
    places = experiment.worlds or (experiment.data,)
    make = partial(prepare_source, experiment, out, overwrite=overwrite)
    results = []
    with start_workers(jobs) as workers:
        sources = {}
        for source in workers(make, places):
            sources[source.name] = source
            say(f"{source.name}: data, graph and base detector are there")
        for name in [place.name for place in places if place is not None]:
            cells = list_cells(sources[name])
            run_cells(cells, workers, overwrite=overwrite, say=say)
            results += [load_json(cell.path) for cell in cells]
    report = summarize(results, experiment.recipe)
    save_report(report, out)
    if has_matplotlib():
        save_ablation(report, out / "ablation.png")
    return report


def plan(experiment: Experiment, *, overwrite: bool) -> Callable[[Source], list[Cell]]:
    """Check the arms and return what lists the cells of a source, all arms of a seed after each other.

    Raises:
        ConfigError: an arm, a setting or a graph does not fit; see `list_arms` and `list_variants`.
    """
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
    cells: Sequence[Cell], workers: "Workers", *, overwrite: bool, say: Callable[[str], None]
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


def check_experiment(experiment: Experiment) -> None:
    """Check that there is one kind of data, with what belongs to it, and no seed beside those counted.

    Raises:
        ConfigError: there is not.
    """
    if bool(experiment.worlds) == bool(experiment.data):
        raise ConfigError("ablate: expected either --worlds or --data")
    if experiment.worlds and (experiment.graph or experiment.init):
        raise ConfigError("--worlds: every world has its own graph and base; leave out --graph and --init")
    if "train.seed" in (experiment.settings or {}):
        raise ConfigError("--set train.seed: --seeds counts them from 0; give that instead")


def check_graph(experiment: Experiment, graph_by_arm: Mapping[str, str]) -> None:
    """Check that a data folder comes with a graph exactly when an arm reads one.

    Raises:
        ConfigError: it is missing or would be ignored.
    """
    reading = [arm for arm, graph in graph_by_arm.items() if graph]
    if experiment.data and reading and not experiment.graph:
        raise ConfigError(f"arm {reading[0]} reads a class graph and got none; give --graph FILE")
    if experiment.data and experiment.graph and not reading:
        raise ConfigError(f"--graph {experiment.graph}: no arm reads a class graph; leave --graph out")


def check_settings(recipe: Config, settings: Iterable[str]) -> None:
    """Check that all arms can have these settings.

    Raises:
        ConfigError: one belongs to the base detector, or has no effect on a frozen trunk.
    """
    last = f"model.stages.{len(recipe.model.stages) - 1}."
    for key in settings:
        name = key.rpartition(".")[2]
        if key.startswith(last) and name not in OF_FIRST_STAGE:
            continue
        if key.removeprefix("train.") not in TRAIN_SETTINGS:
            raise ConfigError(
                f"--set {key}: has no effect on region stages behind a frozen trunk; expected train."
                f"{', train.'.join(TRAIN_SETTINGS)}, or {last}head...; --base-set is for the base detector"
            )


def check_out(out: Path) -> None:
    """Check that `out` may hold the experiment.

    Raises:
        OutputExistsError: it holds something that is not of an experiment.
        DetectorError: it is a file, or the folder around it does not exist.
    """
    begun = any(out.glob("*/cells")) or any(out.glob("*/base")) or any(out.glob("*/data"))
    check_folder_free(out, overwrite=begun)


def prepare_source(experiment: Experiment, out: Path, place: World | Path, *, overwrite: bool) -> Source:
    """Make a world's data and graph, and the base detector of a world or a data folder, where missing."""
    folder = out / place.name
    folder.mkdir(exist_ok=True)
    data, graph = make_world(place, folder) if isinstance(place, World) else (place, experiment.graph)
    source = Source(
        folder.name, folder, data, graph, experiment.init or folder / "base", experiment.max_images
    )
    if not experiment.init:
        settings = {}
        if isinstance(place, World) and place.family in BASE_EPOCHS:
            settings["train.epochs"] = BASE_EPOCHS[place.family]
        config = override(base_recipe(experiment.recipe), {**settings, **(experiment.base_settings or {})})
        train_in(source.base, config, source, device=experiment.device, overwrite=overwrite)
    return source


class Workers(Protocol):
    """Does a task for every item; results come as they are done."""

    def __call__(self, task: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Yield the result of each item, in the order in which they are finished."""


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """Start processes that share the work, on one thread each; of one, it is this process."""
    if count == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield cast("Workers", map)
        finally:
            torch.set_num_threads(before)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=_start_worker) as pool:
        try:
            yield partial(_as_completed, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _as_completed(pool: ProcessPoolExecutor, task: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    for future in as_completed([pool.submit(task, item) for item in items]):
        yield future.result()


def _start_worker() -> None:
    """One thread; and Ctrl-C, which a terminal sends to all processes, ends this one without a traceback."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
