"""What can be wrong with a COCO JSON file, and what was found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

#: So many places are shown for each kind.
NUM_EXAMPLES = 5

ERROR, WARNING, NOTE = "error", "warning", "note"

#: Kind: how bad it is, and what to do. An error is what breaks a reader, a training or its score.
KINDS = {
    "not UTF-8": (ERROR, "save the file as UTF-8; it was read as Latin-1 here"),
    "not JSON": (ERROR, "make or load the file again; nothing behind this place could be looked at"),
    "NaN or Infinity": (ERROR, "JSON has neither; leave out what has no number"),
    "missing list": (ERROR, "a COCO file is an object with the lists images, annotations and categories"),
    "unreadable record": (ERROR, "expected an object with fields of JSON's types"),
    "missing field": (ERROR, "add it"),
    "wrong type": (ERROR, "correct it; whole numbers are written without quotes and decimal point"),
    "duplicate id": (ERROR, "give each record its own id, and correct what refers to it"),
    "duplicate category name": (ERROR, "rename or join the categories"),
    "duplicate file name": (ERROR, "one file is one image: join the two records"),
    "dangling id": (ERROR, "correct the id or remove the record"),
    "image without size": (ERROR, "write the real width and height"),
    "box not finite": (ERROR, "correct or remove the box"),
    "empty box": (ERROR, "width and height must be above 0 (bbox is x, y, width, height): remove the box"),
    "box outside the image": (ERROR, "nothing of it is inside: wrong image, or corners instead of a size?"),
    "box past the edge": (ERROR, "more than 1 px too far: clip the box, or correct the image's size"),
    "malformed segmentation": (ERROR, "polygons are lists of at least three x, y pairs; masks as RLE"),
    "relation across images": (ERROR, "both ends of a relation are boxes of its image"),
    "image file missing": (ERROR, "check --images and file_name"),
    "image file unreadable": (ERROR, "load or save the image again"),
    "image of another size": (ERROR, "write the file's size, or use the images that the boxes were drawn on"),
    "box below 1 px": (WARNING, "thinner than a pixel: nothing to learn from"),
    "category without boxes": (WARNING, "its score will not be known; leave it out if it is never used"),
    "background as category": (WARNING, "leave it out: detectors add their own"),
    "duplicate synset": (WARNING, "two categories mean the same; a class graph cannot tell them apart"),
    "annotation id 0": (WARNING, "COCO's evaluation takes a match with id 0 for none: count from 1"),
    "missing area": (WARNING, "COCO's evaluation needs it to tell small from large"),
    "file name leaves the folder": (WARNING, "write the path below the image folder, with /"),
    "image without boxes": (NOTE, "fine where there is nothing to see"),
    "area differs": (NOTE, "expected width x height without a mask, at most that with one"),
}


@dataclass(frozen=True)
class Finding:
    """One kind of fault: its name in `KINDS`, severity, how often, first places, and what to do."""

    kind: str
    severity: str
    count: int
    examples: tuple[str, ...]
    remedy: str


class Findings:
    """Collects faults by kind: all are counted, the first few are kept with their place."""

    def __init__(self) -> None:
        self._count = dict.fromkeys(KINDS, 0)
        self._examples: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def add(self, kind: str, example: str) -> None:
        """Add one."""
        self._count[kind] += 1
        if len(self._examples[kind]) < NUM_EXAMPLES:
            self._examples[kind].append(example)

    def add_rows(self, kind: str, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Add one a row; only those that are shown are described."""
        self._count[kind] += len(rows)
        room = NUM_EXAMPLES - len(self._examples[kind])
        self._examples[kind] += [describe(row) for row in rows[:room].tolist()]

    def report(self) -> tuple[Finding, ...]:
        """What was found: errors, then warnings, then notes."""
        kinds: Iterable[str] = (kind for kind, count in self._count.items() if count)
        return tuple(
            Finding(kind, KINDS[kind][0], self._count[kind], tuple(self._examples[kind]), KINDS[kind][1])
            for kind in kinds
        )
