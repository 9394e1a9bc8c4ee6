"""Work in processes: results in order, errors in one line, and no process that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgtool.errors import InputError, KgtoolError
from kgtool.processes import map_in_order

ITEMS = list(range(40))


def negated(number: int) -> int:
    """Slow for the first items, so that later ones are ready before them."""
    time.sleep(0.02 if number < 4 else 0)
    return -number


def process_of(_: int) -> int:
    return os.getpid()


def failing(number: int) -> int:
    if number == 17:
        raise InputError("item 17: found nothing")
    return number


def dying(number: int) -> int:
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(map_in_order(negated, ITEMS, 2)) == [-number for number in ITEMS]


def test_few_items_are_not_worth_a_process() -> None:
    assert set(map_in_order(process_of, ITEMS[:31], 8)) == {os.getpid()}
    assert os.getpid() not in set(map_in_order(process_of, ITEMS, 2))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_of_an_item_is_raised_here(num_workers: int) -> None:
    with pytest.raises(InputError, match="item 17"):
        list(map_in_order(failing, ITEMS, num_workers))


def test_a_process_that_is_killed_is_told_in_one_line() -> None:
    with pytest.raises(KgtoolError, match="a worker process ended before its work was done"):
        list(map_in_order(dying, ITEMS, 2))


SCRIPT = """
import os, time
from kgtool.processes import map_in_order

def announced(number):
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    list(map_in_order(announced, range(40), 2))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(2)}
        parent.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(_is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_running(worker) for worker in workers)


def _is_running(process: int) -> bool:
    """Whether there is such a process that has not ended (a zombie has, and waits to be collected)."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
