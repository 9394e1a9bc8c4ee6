"""The frozen trunk: what a detector gives its region stages is kept once, and stages alone are trained on it.

Backbone and proposals stay as they are. For every image the pooled maps of its regions and the feature maps
are kept, and all stages look at the same regions: no box is moved and nothing is pooled again between two
stages. So two heads can be compared on the same regions, from the same weights, in the same order of images,
at a small part of the time of a training, most of which goes into the backbone.

It differs from a training of the whole detector in what it does not do: images are seen without augmentation,
a later stage gets the boxes of the first one unrefined, and the backbone does not adapt to the heads.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from detector.annotations import Annotations
from detector.config import TrainConfig
from detector.data import ImageDataset
from detector.detections import Detections, to_arrays, to_detections
from detector.errors import ConfigError, DetectorError, InputError, TrainingError
from detector.files import atomic_path
from detector.interfaces import KNOWLEDGE_BUFFERS, FeatureMaps, Regions
from detector.optimizer import build_optimizer, build_schedule
from detector.rcnn import RCNN
from detector.stage import Stage, StageOutput

#: Columns of `Regions` that are kept, where they are there.
COLUMNS = ("boxes_R4", "image_R", "sizes_B2", "labels_R", "truth_R4", "proposed_R")


@dataclass(frozen=True, eq=False)
class KeptRegions:
    """The regions of some images as a first stage gets them, grouped by image, with what they are read from.

    Attributes:
        regions: of all images; their context holds no maps.
        pooled_RCPP: the pooled map of each region.
        maps: of each image its feature maps, finest first, each (channels, H, W).
        strides: px of one cell of each map.
    """

    regions: Regions
    pooled_RCPP: Tensor
    maps: tuple[tuple[Tensor, ...], ...]
    strides: tuple[int, ...]

    @cached_property
    def rows_by_image(self) -> list[slice]:
        """Where the regions of each image lie."""
        counts = torch.bincount(self.regions.image_R, minlength=len(self.maps)).tolist()
        ends = list(accumulate(counts))
        return [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]


class KeptPool(nn.Module):
    """Stands where a stage pools, and gives the pooled maps that were laid here for its regions."""

    pooled_RCPP: Tensor

    def forward(self, regions: Regions) -> Tensor:
        """Return pooled_RCPP."""
        return self.pooled_RCPP


@torch.no_grad()
def keep_regions(model: RCNN, annotations: Annotations, *, training: bool, seed: int = 0) -> KeptRegions:
    """Run backbone and proposals once over the images of a split, as they are.

    Args:
        model: the detector; left in evaluation mode.
        annotations: the split; in training, its images with a box.
        training: propose as in training, assign ground truth by the threshold of the first stage and sample;
            else propose as in evaluation.
        seed: of the sampling.

    Raises:
        ConfigError: what is to be kept is larger than the machine's memory.
        InputError: an image cannot be read, or there is none.
    """
    torch.manual_seed(seed)
    model.eval()
    model.proposals.train(training)  # type: ignore[attr-defined]  # a proposer is a module
    images = annotations.usable_images() if training else np.arange(annotations.num_images)
    dataset = ImageDataset(replace(annotations, segmentation_N=None), images)
    if len(images) == 0:
        raise InputError(f"{annotations.path}: found no image with a box to learn from; expected one or more")
    parts: list[Regions] = []
    pooled: list[Tensor] = []
    maps: list[tuple[Tensor, ...]] = []
    for number in range(len(dataset)):
        regions = _regions_of_one_image(model, *_loaded(dataset, number), training=training)
        pooled.append(model.stages[0].pool(regions))
        maps.append(tuple(level[0] for level in regions.context.maps))
        parts.append(replace(regions, image_R=torch.full_like(regions.image_R, number)))
        if number == 0:
            size = sum(tensor.nbytes for tensor in (pooled[0], *maps[0]))
            check_memory(size, len(dataset), annotations)
    model.eval()
    strides = parts[0].context.strides
    return KeptRegions(_join(parts, strides), torch.cat(pooled), tuple(maps), strides)


def check_memory(image_bytes: int, num_images: int, annotations: Annotations) -> None:
    """Check that the regions of so many images fit into memory, as far as the system tells its size.

    Raises:
        ConfigError: they do not.
    """
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        wanted = image_bytes * num_images
        if wanted > memory:
            raise ConfigError(
                f"{annotations.path}: regions of {num_images} images take {wanted / 1e9:.0f} GB; expected at "
                f"most the {memory / 1e9:.0f} GB of this machine; take fewer (--max-images), or --protocol "
                "end-to-end"
            )


def save_kept(kept: KeptRegions, path: Path) -> None:
    """Write what was kept as safetensors, atomically; who loads it reads from disk what is used."""
    columns = {name: getattr(kept.regions, name) for name in COLUMNS}
    tensors = {name: column for name, column in columns.items() if column is not None}
    tensors |= {"pooled_RCPP": kept.pooled_RCPP, "strides": torch.tensor(kept.strides)}
    for image, levels in enumerate(kept.maps):
        tensors |= {f"map.{image}.{level}": part for level, part in enumerate(levels)}
    with atomic_path(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)


def load_kept(path: Path) -> KeptRegions:
    """Read what `save_kept` wrote."""
    tensors = load_file(path)
    columns = {name: tensors[name] for name in COLUMNS if name in tensors}
    strides = tuple(tensors["strides"].tolist())
    maps = tuple(
        tuple(tensors[f"map.{image}.{level}"] for level in range(len(strides)))
        for image in range(len(columns["sizes_B2"]))
    )
    regions = Regions(**columns, context=FeatureMaps((), strides))
    return KeptRegions(regions, tensors["pooled_RCPP"], maps, strides)


def take_images(kept: KeptRegions, images: Sequence[int]) -> tuple[Regions, Tensor]:
    """Take some images, in that order, as a batch: their regions, with the maps, and pooled_RCPP."""
    slices = [kept.rows_by_image[image] for image in images]
    rows = torch.cat([torch.arange(part.start, part.stop) for part in slices])
    numbers = [torch.full((part.stop - part.start,), place) for place, part in enumerate(slices)]
    levels = zip(*(kept.maps[image] for image in images), strict=True)
    regions = replace(
        kept.regions[rows],
        image_R=torch.cat(numbers),
        sizes_B2=kept.regions.sizes_B2[list(images)],
        context=FeatureMaps(tuple(_stack(level) for level in levels), kept.strides),
    )
    return regions, kept.pooled_RCPP[rows]


@torch.no_grad()
def start_stages(model: RCNN, trained: RCNN, alike: RCNN | None = None) -> None:
    """Start a model where a trained detector of one stage has ended.

    Backbone, proposals and first stage are the trained ones. Later stages take from its stage what has the
    same name and as many rows: a layer that reads more features than the trained one gets its columns first.

    Args:
        model: changed in place; what nothing is taken for stays as it was drawn.
        trained: the detector that regions are kept with.
        alike: another model; before anything else, later stages take from its last stage what has the same
            name and shape, but for class graphs. So heads that differ in one part start with the same numbers
            in all others.
    """
    model.load_state_dict(trained.state_dict(), strict=False)
    first = trained.stages[0].state_dict()
    for stage in model.stages[1:]:
        for name, own in stage.state_dict().items():
            if name.rpartition(".")[2] in KNOWLEDGE_BUFFERS:
                continue
            drawn = None if alike is None else alike.stages[-1].state_dict().get(name)
            if drawn is not None and drawn.shape == own.shape:
                own.copy_(drawn)
            if name in first and _begins_with(own, first[name]):
                own[tuple(slice(side) for side in first[name].shape)] = first[name]


def _begins_with(own: Tensor, trained: Tensor) -> bool:
    """Whether a tensor has the rows of a trained one, and its columns or more."""
    same_rows = own.ndim == trained.ndim and own.shape[:1] == trained.shape[:1]
    return same_rows and all(map(int.__ge__, own.shape, trained.shape))


def walk_kept(
    model: RCNN, regions: Regions, pooled_RCPP: Tensor
) -> Iterator[tuple[Stage, Regions, StageOutput]]:
    """Send regions through the stages of a model; each gets the same boxes and the scores of the one before.

    Args:
        model: see `lay_pool`.
        regions: a batch, see `take_images`.
        pooled_RCPP: their pooled maps.

    Yields:
        each stage with the regions that it saw and what it said of them.
    """
    for stage in model.stages:
        pool = cast("KeptPool", stage.pool)
        pool.pooled_RCPP = pooled_RCPP
        output = stage(regions)
        yield stage, regions, output
        refined = stage.refine(regions, output)
        regions = replace(regions, logits_RK=refined.logits_RK, weight_KD1=refined.weight_KD1)


def lay_pool(model: RCNN) -> None:
    """Let the stages of a model read kept pooled maps instead of pooling."""
    pool = KeptPool()
    for stage in model.stages:
        stage.pool = pool  # type: ignore[assignment]


def train_stages(model: RCNN, kept: KeptRegions, config: TrainConfig) -> None:
    """Train all stages of a model, and nothing else of it, on what was kept.

    Args:
        model: its weights change; it is left in evaluation mode.
        kept: regions with ground truth.
        config: epochs, images a step, optimiser, schedule, clipping, and the seed of the order of images.
            What it says of augmentation, sampling and precision does not apply.

    Raises:
        TrainingError: a loss is not finite.
    """
    stages, count = cast("nn.Module", model.stages), len(kept.maps)
    optimizer = build_optimizer(stages, config)
    schedule = build_schedule(optimizer, config, math.ceil(count / config.batch_size))
    generator = torch.Generator().manual_seed(config.seed)
    lay_pool(model)
    stages.train()
    step = 0
    for _ in range(config.epochs):
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count, config.batch_size):
            chosen = order[start : start + config.batch_size]
            losses = [
                loss
                for stage, regions, output in walk_kept(model, *take_images(kept, chosen))
                for loss in stage.losses(regions, output).values()
            ]
            total = torch.stack(losses).sum()
            step += 1
            if not torch.isfinite(total):
                found = float(total.detach())
                raise TrainingError(
                    f"step {step}: the loss is {found}; expected a finite one; lower train.lr"
                )
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(stages.parameters(), config.clip_norm or math.inf)
            optimizer.step()
            schedule.step()
    stages.eval()


@torch.no_grad()
def detect_kept(model: RCNN, kept: KeptRegions, annotations: Annotations) -> tuple[Detections, float]:
    """Detect in the images that were kept, one by one.

    Args:
        model: in evaluation mode.
        kept: regions as they are proposed in evaluation.
        annotations: the split that they were kept of.

    Returns:
        the detections, and the milliseconds of processor time that the stages took for an image.
    """
    lay_pool(model)
    outputs, seconds = [], 0.0
    for image, size in enumerate(annotations.sizes_I2.tolist()):
        regions, pooled_RCPP = take_images(kept, [image])
        start = time.thread_time()
        *_, (stage, regions, output) = walk_kept(model, regions, pooled_RCPP)
        regions = stage.refine(regions, output)
        seconds += time.thread_time() - start
        inside = [tuple(regions.sizes_B2[0].tolist())]
        found = model.transform.postprocess(model.find(regions, output), inside, [tuple(size)])
        outputs.append(to_arrays(found[0]))
    return to_detections(range(len(outputs)), outputs), 1000 * seconds / max(len(outputs), 1)


def _regions_of_one_image(
    model: RCNN, pixels: Tensor, target: dict[str, Tensor], *, training: bool
) -> Regions:
    targets = [target] if training else None
    batch, targets = model.transform([pixels], targets)
    regions, _ = model.proposals(batch, model.backbone(batch.tensors), targets)
    if targets is None:
        return regions
    return model.sample(model.stages[0].assign(regions, targets))


def _loaded(dataset: ImageDataset, number: int) -> tuple[Tensor, dict[str, Tensor]]:
    """One image, in 0..1, and its target."""
    found = dataset[number]
    if isinstance(found, DetectorError):
        raise found
    pixels, target = found
    return pixels.float() / 255, target


def _join(parts: Sequence[Regions], strides: tuple[int, ...]) -> Regions:
    columns = {name: [getattr(part, name) for part in parts] for name in COLUMNS}
    joined = {name: torch.cat(column) for name, column in columns.items() if column[0] is not None}
    return Regions(**joined, context=FeatureMaps((), strides))


def _stack(maps: Sequence[Tensor]) -> Tensor:
    """Stack maps (channels, H, W) of several images; smaller ones get zeros below and to the right."""
    height, width = (max(part.shape[axis] for part in maps) for axis in (1, 2))
    return torch.stack([F.pad(part, (0, width - part.shape[2], 0, height - part.shape[1])) for part in maps])
