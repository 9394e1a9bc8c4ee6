"""Write Visual-Genome-shaped JSON of any size, the same bytes for the same seed.

    python bench/make_visual_genome.py --images 108077 --out DIR [--seed 0]

writes DIR/objects.json, image_data.json, relationships.json and attributes.json in the layout of Visual
Genome v1.4: one top-level array, the default separators of `json.dump`. What a reader can trip over is in it:
objects with no synset or with two, names with quotes, braces and letters beyond ASCII, merged object ids,
boxes past the edge or of no width, images without objects and images without an entry in image_data.json,
`coco_id` null or not, predicates and attributes in capitals and with stray blanks, objects without
`attributes`.

Every block of 1,000 images has its own random stream, so that the first records of a large file are the
records of a small one.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 1000
NUM_SYNSETS = 8000
NUM_PREDICATES = 9000
NUM_ATTRIBUTES = 20000
OBJECTS_PER_IMAGE = 35
RELATIONSHIPS_PER_IMAGE = 21
IMAGE_SIZES = np.array([[800, 600], [640, 480], [500, 375], [375, 500], [1024, 768]])
FREQUENT_PREDICATES = ["on", "has", "in", "of", "wearing", "with", "behind", "holding", "on top of", "near"]
FREQUENT_ATTRIBUTES = ["white", "black", "blue", "green", "red", "brown", "yellow", "large", "small", "tall"]
FREQUENT_NOUNS = ["window", "man", "shirt", "tree", "sign", "wall", "person", "building", "ground", "sky"]


@dataclass(frozen=True)
class Objects:
    """The objects of one block of images, one row an object, rows in the order of their images."""

    image_N: np.ndarray  # image id
    id_N: np.ndarray  # object id, unique over the whole file
    noun_N: np.ndarray  # index of the noun the object shows
    form_N: np.ndarray  # 0: one synset, 1: none, 2: two
    box_N4: np.ndarray  # x, y, w, h in pixels


def noun(index: int, frequent: list[str] = FREQUENT_NOUNS) -> str:
    """A word for an index: real ones first, then pronounceable ones."""
    if index < len(frequent):
        return frequent[index]
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


def ranks(stream: np.random.Generator, most: int, size: int, power: float) -> np.ndarray:
    """Indices below `most`, the first by far the most frequent."""
    weight = 1.0 / (np.arange(most) + 1.5) ** power
    drawn = np.searchsorted(np.cumsum(weight) / weight.sum(), stream.random(size))
    return np.minimum(drawn, most - 1)


def spellings(words: list[str]) -> list[str]:
    """Each word as JSON in four spellings that mean the same: as it is, in capitals, with blanks, both."""
    return [
        json.dumps(text) for word in words for text in (word, word.upper(), f"{word} ", f" {word.upper()}")
    ]


def spelling_of(stream: np.random.Generator, index_N: np.ndarray) -> list[int]:
    """Positions in `spellings` for words: nine of ten as they are, or for the first words in capitals."""
    form_N = np.searchsorted([0.6, 0.92, 0.97], stream.random(len(index_N)))
    return (4 * index_N + np.where((index_N > 5) & (form_N == 1), 0, form_N)).tolist()


def end_texts(objects: Objects) -> list[str]:
    """Each object as an end of a relationship: `name`, or `names` and what was merged into it."""
    words = [noun(index) for index in range(NUM_SYNSETS + 1)]
    synsets = [f"{word}.n.0{1 + index % 3}" for index, word in enumerate(words)]
    texts = []
    columns = (objects.noun_N, objects.form_N, objects.id_N, objects.box_N4)
    for at, form, object_id, (x, y, w, h) in zip(*(column.tolist() for column in columns), strict=True):
        named = json.dumps(synsets[at : at + 1] if form == 0 else [] if form == 1 else synsets[at : at + 2])
        rest = f'"h": {h}, "object_id": {object_id}, "synsets": {named}, "w": {w}, "y": {y}, "x": {x}'
        if object_id % 10 == 0:
            texts.append(
                f'{{{rest}, "merged_object_ids": [{object_id + 500_000_000}], "names": ["{words[at]}"]}}'
            )
        else:
            texts.append(f'{{"name": "{words[at]}", {rest}}}')
    return texts


def relationship_records(seed: int, first: int, images: int) -> Iterator[str]:
    """One record of relationships.json an image; ends are objects of objects.json."""
    stream, objects = np.random.default_rng([seed, 3, first]), block_objects(seed, first)
    ends = end_texts(objects)
    start_B = np.searchsorted(objects.image_N, first + 1 + np.arange(BLOCK + 1))
    have_B = np.diff(start_B)
    count_B = (-np.log1p(-stream.random(BLOCK)) * RELATIONSHIPS_PER_IMAGE).astype(int) * (have_B > 1)
    row_N = np.repeat(np.arange(BLOCK), count_B)
    end_N2 = start_B[row_N, None] + (stream.random((len(row_N), 2)) * have_B[row_N, None]).astype(int)
    predicate_N = ranks(stream, NUM_PREDICATES, len(row_N), 1.35)
    predicates = spellings([noun(index, FREQUENT_PREDICATES) for index in range(NUM_PREDICATES)])
    synset_N = np.where(stream.random(len(row_N)) < 0.85, predicate_N, -1)
    lines = [
        f'{{"predicate": {predicates[form]}, "object": {ends[to]}, "relationship_id": {first * 64 + at}, '
        f'"synsets": {[] if synset < 0 else json.dumps([f"p{synset}.v.01"])}, "subject": {ends[start]}}}'
        for at, (form, synset, (start, to)) in enumerate(
            zip(spelling_of(stream, predicate_N), synset_N.tolist(), end_N2.tolist(), strict=True)
        )
    ]
    cut_B = np.concatenate([[0], np.cumsum(count_B)]).tolist()
    for row in range(images):
        listed = ", ".join(lines[cut_B[row] : cut_B[row + 1]])
        yield f'{{"relationships": [{listed}], "image_id": {first + row + 1}}}'


def attribute_records(seed: int, first: int, images: int) -> Iterator[str]:
    """One record of attributes.json an image: all objects of objects.json, half of them with attributes."""
    stream, objects = np.random.default_rng([seed, 4, first]), block_objects(seed, first)
    ends = end_texts(objects)
    count_N = np.searchsorted([0.52, 0.82, 0.945, 0.985], stream.random(len(ends)))
    attribute_M = ranks(stream, NUM_ATTRIBUTES, int(count_N.sum()), 1.1)
    attributes = spellings([noun(index, FREQUENT_ATTRIBUTES) for index in range(NUM_ATTRIBUTES)])
    texts = [attributes[form] for form in spelling_of(stream, attribute_M)]
    cut_N = np.concatenate([[0], np.cumsum(count_N)]).tolist()
    lines = [
        f'{text[:-1]}, "attributes": [{", ".join(texts[start:end])}]}}' if end > start else text
        for text, start, end in zip(ends, cut_N[:-1], cut_N[1:], strict=True)
    ]
    cut_B = np.searchsorted(objects.image_N, first + 1 + np.arange(BLOCK + 1)).tolist()
    for row in range(images):
        listed = ", ".join(lines[cut_B[row] : cut_B[row + 1]])
        yield f'{{"image_id": {first + row + 1}, "attributes": [{listed}]}}'


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
    make_files(options.out, options.images, options.seed)


def make_files(folder: Path, images: int, seed: int = 0) -> None:
    """Write the four files into an existing folder."""
    blocks = [(first, min(BLOCK, images - first)) for first in range(0, images, BLOCK)]
    records_by_name: dict[str, Callable[[int, int], Iterator[str]]] = {
        "objects": lambda first, number: object_records(block_objects(seed, first), number),
        "image_data": lambda first, number: image_records(seed, first, number),
        "relationships": lambda first, number: relationship_records(seed, first, number),
        "attributes": lambda first, number: attribute_records(seed, first, number),
    }
    for name, records in records_by_name.items():
        write_array(folder / f"{name}.json", (text for block in blocks for text in records(*block)))


if __name__ == "__main__":
    main()
