"""How the commands read large inputs: processes, strictness, and a bar on stderr."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def read_options(strict: bool, workers: int | None) -> "Iterator[ReadOptions]":
    """How to read, with a bar of the bytes left where a person looks on."""
    from kgtool.annotations import ReadOptions
    from kgtool.workers import default_num_workers

    gc.disable()  # a command makes no rubbish that needs it, and what ibis imports makes it slow
    num_workers = workers or default_num_workers()
    if not sys.stderr.isatty():
        yield ReadOptions(strict, num_workers)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task_by_name = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in task_by_name:
                task_by_name[name] = bar.add_task(name, total=total)
            bar.update(task_by_name[name], completed=done)

        yield ReadOptions(strict, num_workers, show)
