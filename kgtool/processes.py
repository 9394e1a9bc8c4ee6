"""One function over many items, here or in worker processes, results in the order of the items."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kgtool.errors import KgtoolError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: A process takes about a third of a second to start: fewer items than this are not worth one.
_ITEMS_PER_WORKER = 16
_ITEMS_AT_A_TIME = 8


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int
) -> Iterator[Result]:
    """Yield the function's result of each item, in their order.

    Args:
        function: importable by its name, as its items and results are sent to other processes.
        items: what to call it with.
        num_workers: at most so many processes; with 1, or few items, all is done here.

    Raises:
        KgtoolError: a process ended before its work was done.
    """
    num_workers = min(num_workers, len(items) // _ITEMS_PER_WORKER)
    if num_workers < 2:
        yield from map(function, items)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield from pool.map(function, items, chunksize=_ITEMS_AT_A_TIME)
    except BrokenProcessPool:
        raise KgtoolError(
            "a worker process ended before its work was done (killed, or out of memory); try fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    import signal
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import os
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
