"""Which entry describes which instance.

In 2016/17 an entry's number is the rank of its instance's blue value among the values that are not zero. (The
usual loaders take the rank among all values, which is one more where no pixel is black.) In 2021 entries are
in another order than the blue values: an entry is paired with the instance that lies where it does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgtool.ade20k.entries import Entry
from kgtool.errors import InputError
from kgtool.masks import ColourImage, Masks, read_indices

#: In a mask of its own (2021), an entry's visible pixels are 255, those behind other objects 128.
HIDDEN = 128


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of one level of an image, and the image that they are in.

    Attributes:
        image: the mask image.
        masks: one of each colour.
    """

    image: ColourImage
    masks: Masks

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def blue_N(self) -> npt.NDArray[np.int64]:
        """The blue value of each instance, 0..255."""
        return (self.masks.value_N.astype(np.int64) >> 16) & 255

    @property
    def class_index_N(self) -> npt.NDArray[np.int64]:
        """The class that each colour means: red // 10 * 256 + green; a place in the names, from 1."""
        colours = self.masks.value_N.astype(np.int64)
        return (colours & 255) // 10 * 256 + (colours >> 8 & 255)

    @property
    def rank_N(self) -> npt.NDArray[np.int64]:
        """The rank of each instance's blue value, from 1; instances of one blue share their rank."""
        ranks: npt.NDArray[np.int64] = np.unique(self.blue_N, return_inverse=True)[1].reshape(-1) + 1
        return ranks


@dataclass(frozen=True)
class Pairs:
    """What belongs together.

    Attributes:
        entry_by_instance: position of an instance to that of its entry.
        how: how many pairs were found by which means.
    """

    entry_by_instance: dict[int, int]
    how: Counter[str]


def pair_by_rank(entries: Sequence[Entry], instances: Instances) -> Pairs:
    """Pair entries whose number is the rank of a blue value (2016/17).

    Of several instances that share one blue value, the largest is paired.
    """
    by_rank: dict[int, int] = {}
    for instance in np.argsort(instances.masks.area_N, kind="stable").tolist():
        by_rank[int(instances.rank_N[instance])] = instance
    pairs = {
        by_rank[entry.number]: position for position, entry in enumerate(entries) if entry.number in by_rank
    }
    return Pairs(pairs, Counter({"rank": len(pairs)}))


def pair_by_place(entries: Sequence[Entry], instances: Instances, folder: Path) -> Pairs:
    """Pair entries with the instances that lie where they do (2021).

    Instances share no pixel, so that at most one can have an intersection over union (IoU) above 0.5 with an
    entry. The means, in this order; each takes what the ones before have left:

    - outline: the entry's outline has an IoU above 0.5 with an instance of its class, and no other entry has;
    - mask: the visible pixels of the entry's own mask have one with an instance of any class;
    - class: for what is mostly hidden, the outline holds most of an instance of its class (the best IoU
      first); or the two are the only ones left of a class;
    - outline of another class: an IoU above 0.5 with an instance of another class.

    Args:
        entries: of one level.
        instances: of that level.
        folder: where the paths of own masks start.
    """
    pairing = _Pairing(len(entries), len(instances))
    places = _Places(instances)
    iou_EN = np.zeros((len(entries), len(instances)))
    held_EN = np.zeros_like(iou_EN)
    for position, entry in enumerate(entries):
        drawn = _draw_outline(entry, instances.image.size)
        if drawn is not None:
            iou_EN[position], held_EN[position] = places.overlap(*drawn)
    class_index_E = np.array([entry.class_index for entry in entries], dtype=np.int64)
    same_EN = class_index_E[:, None] == instances.class_index_N
    certain = (iou_EN > 0.5) & same_EN
    pairing.take("outline", iou_EN * (certain & (certain.sum(axis=0) == 1)))
    mask_EN = np.zeros_like(iou_EN)
    for position in pairing.free_entries():
        own_HW = _read_own_mask(entries[position], folder)
        if own_HW is not None and own_HW.shape == instances.image.size:
            mask_EN[position] = places.overlap(own_HW > HIDDEN, np.s_[:, :])[0]
    pairing.take("mask", mask_EN * (mask_EN > 0.5))
    pairing.take("class", iou_EN * (same_EN & (held_EN > 0.5)))
    pairing.take("class", _only_ones(same_EN, pairing))
    pairing.take("outline of another class", iou_EN * (iou_EN > 0.5))
    return Pairs(pairing.entry_by_instance, pairing.how)


class _Pairing:
    """Pairs as they are found; an entry or an instance that has its pair is no longer free."""

    def __init__(self, num_entries: int, num_instances: int) -> None:
        self.entry_by_instance: dict[int, int] = {}
        self.how: Counter[str] = Counter()
        self.is_free_E = np.ones(num_entries, dtype=bool)
        self.is_free_N = np.ones(num_instances, dtype=bool)

    def free_entries(self) -> list[int]:
        return list(np.flatnonzero(self.is_free_E).tolist())

    def take(self, means: str, score_EN: npt.NDArray[np.float64]) -> None:
        """Pair what is free, the highest score first; a score of 0 is no pair."""
        rows, columns = np.nonzero(score_EN * self.is_free_E[:, None] * self.is_free_N)
        order = np.argsort(-score_EN[rows, columns], kind="stable")
        for entry, instance in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            if self.is_free_E[entry] and self.is_free_N[instance]:
                self.is_free_E[entry] = self.is_free_N[instance] = False
                self.entry_by_instance[instance] = entry
                self.how[means] += 1


def _only_ones(same_EN: npt.NDArray[np.bool_], pairing: _Pairing) -> npt.NDArray[np.float64]:
    """1 where an entry and an instance of one class are the only free ones of it."""
    free_EN = same_EN & pairing.is_free_E[:, None] & pairing.is_free_N
    alone_EN = free_EN & (free_EN.sum(axis=0) == 1) & (free_EN.sum(axis=1) == 1)[:, None]
    return np.where(alone_EN, 1.0, 0.0)


def _draw_outline(entry: Entry, size: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], Any] | None:
    """The outline of an entry, filled, and its place in the image; None where it has no pixel there."""
    from PIL import Image, ImageDraw

    if entry.outline_P2 is None:
        return None
    far_corner = [size[1], size[0]]
    low = np.clip(np.floor(entry.outline_P2.min(axis=0)), 0, far_corner).astype(int)
    high = np.clip(np.floor(entry.outline_P2.max(axis=0)) + 1, 0, far_corner).astype(int)
    if (high <= low).any():
        return None
    drawn = Image.new("L", (int(high[0] - low[0]), int(high[1] - low[1])))
    corners = np.clip(entry.outline_P2 - low, -(2**20), 2**20)
    ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in corners.tolist()], fill=1)
    return np.asarray(drawn) > 0, np.s_[low[1] : high[1], low[0] : high[0]]


def _read_own_mask(entry: Entry, folder: Path) -> npt.NDArray[np.uint8] | None:
    """The mask that a JSON names for an entry; only below the folder, and only if it can be read.

    An entry that stays without an instance for that is reported; one that does not needs no mask.
    """
    name = Path(entry.mask)
    if not entry.mask or name.is_absolute() or ".." in name.parts:
        return None
    try:
        return read_indices(folder / name)
    except InputError:
        return None


class _Places:
    """Where the instances of an image are."""

    def __init__(self, instances: Instances) -> None:
        self._area_N = instances.masks.area_N
        self._number_N: npt.NDArray[np.integer[Any]] = instances.blue_N
        self._numbers_HW: npt.NDArray[np.unsignedinteger[Any]] = instances.image.blue()
        if len(np.unique(instances.blue_N)) < len(instances):  # there blue alone does not tell which it is
            self._number_N = np.arange(1, len(instances) + 1)
            self._numbers_HW = instances.masks.numbered()

    def overlap(
        self, inside: npt.NDArray[np.bool_], place: Any
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """IoU (N,) of each instance with the pixels inside, and the share (N,) of its pixels that are."""
        numbers = self._numbers_HW[place][inside]
        shared_N = np.bincount(numbers, minlength=int(self._number_N.max(initial=0)) + 1)[self._number_N]
        either_N = self._area_N + len(numbers) - shared_N
        return shared_N / either_N, shared_N / self._area_N
