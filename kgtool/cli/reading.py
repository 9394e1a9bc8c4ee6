"""How the commands read large inputs: processes, strictness, and a bar on stderr."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kgtool.annotations import ReadOptions


engine_option = click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    metavar="ENGINE",
    help="What counts: duckdb; spark (a running session, else this machine); or spark://HOST:PORT.",
)


_FILE = click.Path(path_type=Path, dir_okay=False)

exclude_option = click.option(
    "--exclude-images",
    "exclude",
    type=_FILE,
    metavar="LIST",
    help="Leave out what is said of these images: one image id a line, or a COCO JSON.",
)

image_data_option = click.option(
    "--image-data",
    type=_FILE,
    metavar="FILE",
    help="image_data.json: the images of --exclude-images are COCO's, found by their coco_id.",
)


@contextmanager
def read_options(
    strict: bool, workers: int | None, exclude: Path | None = None, image_data: Path | None = None
) -> "Iterator[ReadOptions]":
    """How to read, with a bar of the bytes left where a person looks on."""
    if image_data is not None and exclude is None:
        raise click.UsageError("--image-data goes with --exclude-images")
    from kgtool.annotations import ReadOptions
    from kgtool.image_lists import read_image_ids
    from kgtool.workers import default_num_workers

    gc.disable()  # a command makes no rubbish that needs it, and what ibis imports makes it slow
    num_workers = workers or default_num_workers()
    excluded = None if exclude is None else read_image_ids(exclude, image_data=image_data)
    with progress_bar() as show:
        yield ReadOptions(strict, num_workers, show, excluded)


@contextmanager
def progress_bar() -> "Iterator[Callable[[str, int, int | None], None] | None]":
    """A bar of the bytes left for each file, where a person looks on; else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task_by_name = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in task_by_name:
                task_by_name[name] = bar.add_task(name, total=total)
            bar.update(task_by_name[name], completed=done, total=total)

        yield show


@contextmanager
def image_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar of the images left, where a person looks on."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
