"""Several processes that train one model: what torchrun or SLURM started, and what they tell each other.

`torchrun --nproc-per-node 8 -m detector train ...` sets RANK, WORLD_SIZE and LOCAL_RANK; `srun` sets SLURM's
own names, and MASTER_ADDR and MASTER_PORT must be exported. Without them there is one process.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from detector.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
        local_rank: number of this process on its machine, and of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean of every process's values; the same in all of them."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, part: Any) -> list[Any]:
        """Every process's part, in the order of their ranks; the same list in all of them."""
        if self.count == 1:
            return [part]
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, part)
        return parts


ALONE = Processes()


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes that were started together, inside the block.

    Args:
        device: "auto", "cpu" or "cuda"; GPUs talk over NCCL, CPUs over gloo.

    Raises:
        ConfigError: the environment names a rank or a number of processes that is no number, or no place to
            meet.
    """
    processes = _from_environment()
    if processes.count == 1:
        yield processes
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ConfigError(f"{name}: not set, with {processes.count} processes; export it for all of them")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(processes.local_rank)
    # The others wait while the first one computes the metrics of thousands of classes.
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=processes.rank,
        world_size=processes.count,
        timeout=timedelta(hours=2),
    )
    try:
        yield processes
    finally:
        dist.destroy_process_group()


def _from_environment() -> Processes:
    for names in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ):
        values = [os.environ.get(name) for name in names]
        if None not in values and (names[0] == "RANK" or "MASTER_ADDR" in os.environ):
            try:
                rank, count, local_rank = (int(value or "") for value in values)
            except ValueError:
                raise ConfigError(f"{', '.join(names)}: found {values}; expected three numbers") from None
            return Processes(rank, count, local_rank)
    return ALONE
