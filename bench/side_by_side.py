"""Two commands that do the same work, run in turns as whole processes and compared.

A run says how long it took, the processor time of all its processes, the most memory they held together, and
how many cores others used meanwhile: a ratio from a busy machine is worth little.
"""

import os
import resource
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What a command and its children took; memory is sampled every 20 ms."""

    wall_s: float
    cpu_s: float
    anonymous_mb: float
    shared_mb: float
    foreign_cores: float


def busy_s() -> float:
    """Seconds all cores have been busy since the machine started."""
    fields = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> tuple[float, float]:
    """Anonymous and shared memory of a process and its descendants, now."""
    anonymous, shared, pids = 0, 0, [pid]
    while pids:
        at = Path(f"/proc/{pids.pop()}")
        try:
            for line in (at / "status").read_text().splitlines():
                anonymous += int(line.split()[1]) if line.startswith("RssAnon") else 0
                shared = max(shared, int(line.split()[1]) if line.startswith("RssShmem") else 0)
            pids += [int(child) for task in at.glob("task/*/children") for child in task.read_text().split()]
        except OSError:  # it has just ended
            continue
    return anonymous / 1024, shared / 1024


def run(command: list[str]) -> Run:
    """Run a command to its end; it must succeed."""
    most, done = [0.0, 0.0], threading.Event()
    before, busy, start = resource.getrusage(resource.RUSAGE_CHILDREN), busy_s(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def watch() -> None:
        while not done.wait(0.02):
            most[:] = map(max, most, memory_mb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    wall_s = time.perf_counter() - start
    done.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with status {status}")
    return Run(wall_s, cpu_s, most[0], most[1], max(0.0, (busy_s() - busy - cpu_s) / wall_s))


def compare(command_by_side: dict[str, list[str]], rounds: int) -> None:
    """Run all sides in turns, print every run, and the ratio of the first side's times to the last's."""
    runs: dict[str, list[Run]] = {side: [] for side in command_by_side}
    for number in range(1, rounds + 1):
        for side, command in command_by_side.items():
            took = run(command)
            runs[side].append(took)
            print(
                f"round {number}, {side:6}: {took.wall_s:6.2f} s wall, {took.cpu_s:6.2f} s processor, "
                f"{took.anonymous_mb:5.0f} MB anonymous, {took.shared_mb:3.0f} MB shared, "
                f"others used {took.foreign_cores:.2f} cores",
                flush=True,
            )
    first, *_, last = runs.values()
    ratios = [slow.wall_s / fast.wall_s for slow, fast in zip(first, last, strict=True)]
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    print(f"ratio of wall times: median {statistics.median(ratios):.1f} ({spread})")
    ratios = [slow.cpu_s / fast.cpu_s for slow, fast in zip(first, last, strict=True)]
    print(f"ratio of processor times: median {statistics.median(ratios):.1f}")
