"""Processes of this machine that share a list of tasks."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Protocol, TypeVar, cast

import torch

from detector.errors import DetectorError

T = TypeVar("T")
U = TypeVar("U")


class Workers(Protocol):
    """Does a task for every item; results come as they are done."""

    def __call__(self, task: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Yield the result of each item, in the order in which they are finished."""


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """Start processes that share the work, on one thread each; of one, it is this process.

    Tasks and items go to other processes: functions of modules and what can be pickled.

    Raises:
        DetectorError: a process was killed.
    """
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
    try:
        for future in as_completed([pool.submit(task, item) for item in items]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DetectorError(
            "a worker process was killed, maybe because memory was full; take fewer --jobs"
        ) from error


def _start_worker() -> None:
    """One thread; and Ctrl-C, which a terminal sends to all processes, ends this one without a traceback."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
