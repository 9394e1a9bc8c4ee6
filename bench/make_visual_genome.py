#!/usr/bin/env python3
"""Write Visual-Genome-shaped JSON of any size, the same bytes for the same seed.

    python bench/make_visual_genome.py --images 108077 --out DIR [--seed 0]

writes DIR/objects.json and DIR/image_data.json in the layout of Visual Genome v1.4: one top-level array, the
default separators of `json.dump`. What a reader can trip over is in it: objects with no synset or with two,
names with quotes, braces and letters beyond ASCII, merged object ids, boxes past the edge or of no width,
images without objects and images without an entry in image_data.json, `coco_id` null or not.

Every block of 1,000 images has its own random stream, so that the first records of a large file are the
records of a small one.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 1000
NUM_SYNSETS = 8000
OBJECTS_PER_IMAGE = 35
IMAGE_SIZES = np.array([[800, 600], [640, 480], [500, 375], [375, 500], [1024, 768]])
FREQUENT_NOUNS = ["window", "man", "shirt", "tree", "sign", "wall", "person", "building", "ground", "sky"]


@dataclass(frozen=True)
class Objects:
    """The objects of one block of images, one row an object, rows in the order of their images."""

    image_N: np.ndarray  # image id
    id_N: np.ndarray  # object id, unique over the whole file
    noun_N: np.ndarray  # index of the noun the object shows
    form_N: np.ndarray  # 0: one synset, 1: none, 2: two
    box_N4: np.ndarray  # x, y, w, h in pixels


def noun(index: int) -> str:
    """A word for an index: real ones first, then pronounceable ones."""
    if index < len(FREQUENT_NOUNS):
        return FREQUENT_NOUNS[index]
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    word, rest = "", index
    while rest:
        rest, at = divmod(rest, len(syllables))
        word += syllables[at]
    return word


def block_images(seed: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ids (B,) and sizes (B, 2) of the block that starts at record `first`."""
    stream = np.random.default_rng([seed, 1, first])
    return first + 1 + np.arange(BLOCK), IMAGE_SIZES[(stream.random(BLOCK) * len(IMAGE_SIZES)).astype(int)]


def block_objects(seed: int, first: int) -> Objects:
    """Objects of the block that starts at record `first`."""
    stream = np.random.default_rng([seed, 2, first])
    image_B, size_B2 = block_images(seed, first)
    count_B = (-np.log1p(-stream.random(BLOCK)) * OBJECTS_PER_IMAGE).astype(int)
    row_N = np.repeat(np.arange(BLOCK), count_B)
    weight = 1.0 / (np.arange(NUM_SYNSETS) + 3.0)
    noun_N = np.searchsorted(np.cumsum(weight) / weight.sum(), stream.random(len(row_N)))
    form_N = np.searchsorted([0.86, 0.97], stream.random(len(row_N)))
    part_N4 = stream.random((len(row_N), 4))
    wh_N2 = (2 + part_N4[:, 2:] ** 2 * size_B2[row_N]).astype(int)
    xy_N2 = (part_N4[:, :2] * np.maximum(size_B2[row_N] - wh_N2, 1)).astype(int)
    dirt_N = stream.random(len(row_N))
    wh_N2[dirt_N < 0.001, 0] = 0  # no width
    xy_N2[(dirt_N > 0.001) & (dirt_N < 0.003)] -= 20  # left of and above the image
    xy_N2[(dirt_N > 0.003) & (dirt_N < 0.004)] += 2000  # beyond it
    ids_N = first * 1000 + 1 + np.arange(len(row_N))
    return Objects(
        image_B[row_N], ids_N, np.minimum(noun_N, NUM_SYNSETS - 1), form_N, np.hstack([xy_N2, wh_N2])
    )


def object_records(objects: Objects, images: int) -> Iterator[str]:
    """One record of objects.json an image, for the first `images` images of a block."""
    words = [noun(index) for index in range(NUM_SYNSETS + 1)]
    synsets = [f"{word}.n.0{1 + index % 3}" for index, word in enumerate(words)]
    lines: list[str] = []
    columns = (objects.noun_N, objects.form_N, objects.id_N, objects.box_N4)
    for at, form, object_id, (x, y, w, h) in zip(*(column.tolist() for column in columns), strict=True):
        names = synsets[at : at + 1] if form == 0 else [] if form == 1 else synsets[at : at + 2]
        merged = [object_id + 500_000_000] if object_id % 10 == 0 else []
        name = f'"{words[at]}" {{1}}, é' if object_id % 97 == 0 else words[at]
        lines.append(
            f'{{"synsets": {json.dumps(names)}, "h": {h}, "object_id": {object_id}, '
            f'"merged_object_ids": {merged}, "names": [{json.dumps(name)}], "w": {w}, "y": {y}, "x": {x}}}'
        )
    first = int(objects.image_N[0] - 1) // BLOCK * BLOCK
    cuts = np.searchsorted(objects.image_N, first + 1 + np.arange(BLOCK + 1)).tolist()
    for row in range(images):
        start, end = cuts[row], cuts[row + 1]
        image_id, listed = first + row + 1, ", ".join(lines[start:end])
        url = f"https://example.org/VG_100K/{image_id}.jpg"
        yield f'{{"image_id": {image_id}, "objects": [{listed}], "image_url": "{url}"}}'


def image_records(seed: int, first: int, images: int) -> Iterator[str]:
    """One record of image_data.json an image; one in a thousand has none."""
    image_B, size_B2 = block_images(seed, first)
    for image_id, (width, height) in zip(image_B[:images].tolist(), size_B2[:images].tolist(), strict=True):
        if image_id % 1000 == 7:
            continue
        url = f"https://example.org/VG_100K{'_2' if image_id % 2 else ''}/{image_id}.jpg"
        coco_id = image_id * 3 if image_id % 2 else None
        record = {
            "width": width,
            "url": url,
            "height": height,
            "image_id": image_id,
            "coco_id": coco_id,
            "flickr_id": None,
        }
        yield json.dumps(record)


def write_array(path: Path, records: Iterable[str]) -> None:
    """Write records as one JSON array."""
    with path.open("w", encoding="ascii", newline="") as file:
        for number, record in enumerate(records):
            file.write(("[" if number == 0 else ", ") + record)
        file.write("]")


def main() -> None:
    """Write the files asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=108_077)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    blocks = [(first, min(BLOCK, options.images - first)) for first in range(0, options.images, BLOCK)]
    seed = options.seed
    write_array(
        options.out / "objects.json",
        (text for first, images in blocks for text in object_records(block_objects(seed, first), images)),
    )
    write_array(
        options.out / "image_data.json",
        (text for first, images in blocks for text in image_records(seed, first, images)),
    )


if __name__ == "__main__":
    main()
