"""What one forward pass costs: weights, multiply-adds, bytes alive at once, milliseconds.

Multiply-adds are those of convolutions and matrix products, which is what the papers call FLOPs; half of what
torch counts. RoIAlign, NMS and elementwise work are in the time alone.
"""

import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import FrozenBatchNorm2d


@dataclass(frozen=True)
class Work:
    """What does not depend on the machine.

    Attributes:
        weights: numbers that training can change, and the frozen scales and shifts of normalisation.
        multiply_adds: of one forward pass.
        peak_bytes: of tensors alive at once, weights included; an operation's scratch memory is not seen.
    """

    weights: int
    multiply_adds: int
    peak_bytes: int


def measure_work(model: nn.Module, run: Callable[[], Any]) -> Work:
    """Count what a model is and what `run`, one forward pass of it, does."""
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deformable_flops}
    )
    with LiveBytes() as live, counter, torch.no_grad():
        run()
    own = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return Work(count_weights(model), counter.get_total_flops() // 2, live.peak + sum(own.values()))


def count_weights(model: nn.Module) -> int:
    """Count parameters, and scale and shift of frozen normalisations: parameters where they train."""
    frozen = [part for part in model.modules() if isinstance(part, FrozenBatchNorm2d)]
    fixed = [tensor for part in frozen for tensor in (part.weight, part.bias)]
    return sum(tensor.numel() for tensor in (*model.parameters(), *fixed))


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the bytes of all tensors that are made inside the block.

    Attributes:
        peak: the most that were alive at once.
        now: alive now.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self.now = 0
        self._bytes_by_storage: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and take note of what it made."""
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in given:  # a view, or a result in place, is nothing new
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._bytes_by_storage:
            self._bytes_by_storage[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self._bytes_by_storage.pop(key)


class Stopwatch:
    """Milliseconds inside some modules, summed until the next `reset`.

    Args:
        modules: those whose forward passes count; none inside another.
        device: where they run; a GPU is waited for.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self.device = device
        self.milliseconds = 0.0
        self._start = 0.0
        for module in modules:
            module.register_forward_pre_hook(self._begin)
            module.register_forward_hook(self._end)

    def reset(self) -> float:
        """Return what was summed and begin anew."""
        total, self.milliseconds = self.milliseconds, 0.0
        return total

    def _begin(self, *_: Any) -> None:
        self._start = _now(self.device)

    def _end(self, *_: Any) -> None:
        self.milliseconds += 1000 * (_now(self.device) - self._start)


def measure_times(
    runs: Sequence[Callable[[], Any]], watches: Sequence[Stopwatch], device: torch.device, repeats: int
) -> list[tuple[float, float]]:
    """Time several programs in turns, so that a busy machine is busy for all of them.

    Returns:
        for each the median milliseconds of a run, and of what its stopwatch saw.
    """
    totals: list[list[float]] = [[] for _ in runs]
    parts: list[list[float]] = [[] for _ in runs]
    with torch.no_grad():
        for turn in range(repeats + 1):
            for number, (run, watch) in enumerate(zip(runs, watches, strict=True)):
                watch.reset()
                start = _now(device)
                run()
                milliseconds = 1000 * (_now(device) - start)
                if turn > 0:  # the first turn warms up
                    totals[number].append(milliseconds)
                    parts[number].append(watch.reset())
    return [(median(total), median(part)) for total, part in zip(totals, parts, strict=True)]


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _deformable_flops(
    _map: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    """As for a plain convolution; reading between the cells is not counted."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])
