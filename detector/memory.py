"""How much memory is free: of a GPU, or of this machine and what this program may use of it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

#: Where Linux says what the machine has, and in which groups of processes this one is.
MEMORY_FILE = Path("/proc/meminfo")
GROUPS_FILE = Path("/proc/self/cgroup")
GROUPS_FOLDER = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Return the bytes that a program may still take.

    Of a GPU: what no program holds, and what torch holds here. Of a CPU: what Linux can give without
    swapping, or less where a container or a batch system allows less; elsewhere all that the machine has.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return min([_machine_memory(), *_group_memory()])


def _machine_memory() -> int:
    if MEMORY_FILE.is_file():
        for line in MEMORY_FILE.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _group_memory() -> Iterator[int]:
    """What each control group around this process leaves free; file cache, which gives way, is free."""
    if not GROUPS_FILE.is_file():
        return
    for line in GROUPS_FILE.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "memory":  # version 1
            names, folder = ("memory.limit_in_bytes", "memory.usage_in_bytes"), GROUPS_FOLDER / "memory"
        elif not controllers:  # version 2
            names, folder = ("memory.max", "memory.current"), GROUPS_FOLDER
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for group in (folder / inner, *(folder / parent for parent in inner.parents)):
            most, used = (_number_in(group / name) for name in names)
            if most is not None and used is not None:
                yield max(most - used + _file_cache(group), 0)


def _number_in(path: Path) -> int | None:
    """The number that a file holds; None where there is no file, or no limit ("max")."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _file_cache(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
