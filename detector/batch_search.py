"""The largest batch whose step fits into memory: `--batch-size auto`.

Batches of 1, 2, 4, ... images take the recipe's own step: forward, backward, optimizer and moving average, in
the recipe's precision and parts. Each batch has the images that need the most memory. The weights that this
changes are thrown away: a run is the same, to the bit, as with the number that was found.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from detector.annotations import Annotations
from detector.config import Config, ModelConfig
from detector.data import ImageDataset, iter_batches, load_batches
from detector.errors import ConfigError, TrainingError
from detector.execution import seed_everything
from detector.freezing import set_training
from detector.measuring import LiveBytes
from detector.memory import free_memory
from detector.overrides import override
from detector.preparation import Inputs, build_from, start_state
from detector.processes import Processes
from detector.sampling import parts_of
from detector.training_loop import augmentation_of
from detector.training_step import take_step

#: Of the free memory, what a step may hold. On a CPU what is counted are tensors; the rest is for scratch
#: memory of operations, for the allocator's gaps and for loading images.
MEMORY_SHARE = {"cuda": 0.9, "cpu": 0.7}

#: Images that are tried at most. A larger batch does not make a CPU faster.
MOST_IMAGES = {"cuda": 1024, "cpu": 16}

#: More steps than are tried.
STEPS = 100


@dataclass(frozen=True)
class FoundBatch:
    """A batch that fits.

    Attributes:
        size: images.
        peak_bytes: that its step holds at most, the weights included.
        limit_bytes: that it may hold.
        ended_by: why a larger one was not taken, as a sentence's end.
    """

    size: int
    peak_bytes: int
    limit_bytes: int
    ended_by: str

    def __str__(self) -> str:
        held, limit = self.peak_bytes / 2**30, self.limit_bytes / 2**30
        return f"batch size {self.size}: a step holds {held:.2f} of {limit:.2f} GiB; {self.ended_by}"


def check_alone(processes: Processes) -> None:
    """Check that one process trains: the memory of others is not measured.

    Raises:
        ConfigError: there are several.
    """
    if processes.count > 1:
        raise ConfigError(
            f"--batch-size auto: found {processes.count} processes; expected one; find the number with one "
            f"(--dry-run prints it) and give --batch-size {processes.count} times that"
        )


def with_found_batch(config: Config, inputs: Inputs, device: torch.device) -> tuple[Config, list[str]]:
    """Set `train.batch_size` to the largest batch that fits, and say how it was found.

    Raises:
        TrainingError: not even one image fits.
        InputError: an image cannot be read.
    """
    found = find_batch(config, inputs, device)
    messages = [str(found)]
    if not config.train.reference_batch and found.size != config.train.batch_size:
        messages.append(
            f"lr stays {config.train.lr:.3g}, meant for {config.train.batch_size} images a step; "
            f"--set train.reference_batch={config.train.batch_size} makes it grow with the batch"
        )
    return override(config, {"train.batch_size": found.size}), messages


def find_batch(config: Config, inputs: Inputs, device: torch.device) -> FoundBatch:
    """Find the largest power of two whose step fits into `MEMORY_SHARE` of the device's free memory.

    A batch is not tried where, if all doubles that a step adds to what stays, it would need more than is
    free: so a CPU does not begin to swap. A GPU that is full all the same ends the search.

    Raises:
        TrainingError: not even one image fits.
        InputError: an image cannot be read.
    """
    free = free_memory(device)
    limit = int(MEMORY_SHARE[device.type] * free)
    images = largest_images(inputs.annotations, config.model)[: MOST_IMAGES[device.type]]
    found = _grow(_Trial(_for_trial(config), inputs, images, device), len(images), limit, free)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if found is None:
        raise TrainingError(
            f"--batch-size auto: a step with one image does not fit into {limit / 2**30:.2f} GiB, "
            f"{100 * MEMORY_SHARE[device.type]:.0f} % of the free memory; take a smaller model.min_size or "
            "model.max_size"
        )
    return found


def _for_trial(config: Config) -> Config:
    """The recipe, but for what would make the trial long, or its memory a matter of chance."""
    sizes = config.model.min_sizes
    return override(
        config,
        {
            "train.lr": 1e-8,  # no weight runs away
            "train.compile": False,  # would compile for every batch, and holds no more
            "model.min_sizes": (max(sizes),) if sizes else (),
        },
    )


def _grow(trial: "_Trial", most: int, limit: int, free: int) -> FoundBatch | None:
    """Double the batch while it fits into `limit` bytes, up to `most` images; None: one does not fit."""
    found, size = None, 1
    while size <= most:
        try:
            peak, lasting = trial.measure(size)
        except torch.cuda.OutOfMemoryError:
            return found
        if peak > limit:
            return found
        found = FoundBatch(size, peak, limit, f"{2 * size} images would not fit")
        if lasting + 2 * (peak - lasting) > free:
            return found
        size *= 2
    return found and replace(found, ended_by=f"more than {most} are not tried")


def largest_images(annotations: Annotations, config: ModelConfig) -> np.ndarray:
    """Return the positions of the images to train on, those that need the most memory first.

    The largest as the model resizes it; beside it, as a batch is padded to its highest and widest image, the
    widest or highest; the one with the most boxes; then the others by their size.

    Args:
        annotations: the split.
        config: says to which size images are resized.
    """
    images = annotations.usable_images()
    sides_I2 = annotations.sizes_I2[images].astype(np.float64)
    short_side = max(config.min_sizes, default=config.min_size)
    scale_I = np.minimum(short_side / sides_I2.min(axis=1), config.max_size / sides_I2.max(axis=1))
    height_I, width_I = (sides_I2 * scale_I[:, None]).T
    order = np.argsort(-height_I * width_I, kind="stable")
    highest, widest = int(height_I.argmax()), int(width_I.argmax())
    others = (highest, widest) if width_I[order[0]] > height_I[order[0]] else (widest, highest)
    most_boxes = int(np.diff(annotations.offsets)[images].argmax())
    first = dict.fromkeys([int(order[0]), *others, most_boxes, *order.tolist()])
    return np.array([images[place] for place in first])


class _Trial:
    """A training that is thrown away.

    Args:
        config: of the run.
        inputs: of the run.
        images: positions, the largest first.
        device: where it trains.
    """

    def __init__(self, config: Config, inputs: Inputs, images: np.ndarray, device: torch.device) -> None:
        self._device, self._settings = device, config.train
        seed = config.train.seed
        seed_everything(seed)
        model, _ = build_from(config, inputs, None)
        self._state = start_state(model.to(device), config, STEPS)
        # At its usual scale fp16 leaves first steps out, and with them the optimizer's memory.
        self._state.scaler = torch.amp.GradScaler(
            device.type, init_scale=1.0, enabled=config.train.precision == "fp16"
        )
        set_training(model, config.train.part)
        augmentation = augmentation_of(config)
        self._dataset = ImageDataset(inputs.annotations, images, augmentation=augmentation, seed=seed)
        self._live = LiveBytes()
        average = self._state.average
        models = [model, average.model] if average else [model]
        tensors = [tensor for part in models for tensor in (*part.parameters(), *part.buffers())]
        self._weights = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    def measure(self, size: int) -> tuple[int, int]:
        """Take a step with so many images; return the bytes that it held at most and that it left."""
        steps = 1 if self._state.step else 2  # the optimizer's memory is there from the second on
        device = self._device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            for _ in range(steps):
                self._step(size)
            return torch.cuda.max_memory_reserved(device), torch.cuda.memory_allocated(device)
        self._live.peak = self._live.now
        with self._live:
            for _ in range(steps):
                self._step(size)
        return self._weights + self._live.peak, self._weights + self._live.now

    def _step(self, size: int) -> None:
        parts = parts_of(np.arange(size), 0, 1, self._settings.accumulate)
        loaded = iter_batches(load_batches(self._dataset, parts), self._device)
        sizes, names = [len(part) for part in parts], self._dataset.annotations.file_names
        take_step(self._state.model, self._state, sizes, loaded, self._settings, names)
