"""A data folder of small images with coloured squares, made for each test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 230)}
SIDE = 64


def write_data(folder: Path, *, train: int = 6, test: int = 3, seed: int = 0) -> Path:
    """Write train.json, test.json and images/; category ids have gaps and are not in order in the file."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        documents = [write_image(folder / "images" / f"{split}_{index}.png", rng) for index in range(count)]
        save_coco(folder / f"{split}.json", documents, [f"{split}_{index}.png" for index in range(count)])
    return folder


def write_image(path: Path, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """Paint one to three squares on grey noise; return their class names and xywh boxes."""
    pixels = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
    squares = []
    for column in rng.permutation(3)[: rng.integers(1, 4)]:
        name = str(rng.choice(list(COLOURS)))
        side = int(rng.integers(10, 18))
        left, top = int(column * 21 + rng.integers(0, 4)), int(rng.integers(0, SIDE - side))
        pixels[top : top + side, left : left + side] = COLOURS[name]
        squares.append((name, [left, top, side, side]))
    Image.fromarray(pixels).save(path)
    return squares


def categories() -> list[dict[str, Any]]:
    ids = {"red": 7, "green": 2, "blue": 30}
    return [{"id": ids[name], "name": name, "synset": f"{name}.n.01"} for name in COLOURS]


def save_coco(path: Path, images: list[list[tuple[str, list[int]]]], file_names: list[str]) -> None:
    ids = {category["name"]: category["id"] for category in categories()}
    annotations = [
        {
            "image_id": 100 + image,
            "category_id": ids[name],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for image, squares in enumerate(images)
        for name, box in squares
    ]
    document = {
        "images": [
            {"id": 100 + index, "file_name": name, "width": SIDE, "height": SIDE}
            for index, name in enumerate(file_names)
        ],
        "categories": categories(),
        "annotations": [
            {"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)
        ],
    }
    path.write_text(json.dumps(document))


def change_json(path: Path, change: Any) -> None:
    """Load a document, let `change` edit it, write it back."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def write_graph(path: Path, classes: tuple[str, ...] = ("blue", "green", "red")) -> Path:
    """Write a class graph of these classes, in this order."""
    from kgtool.graph import make_graph, save_graph

    size = len(classes)
    counts = np.arange(size * size).reshape(size, size)
    counts = counts + counts.T
    graph = make_graph(
        classes=classes,
        synsets=[f"{name}.n.01" for name in classes],
        weight=counts / counts.max(),
        counts=counts,
        kind="relation",
        recipe={"name": "paper", "num_terms": 0},
        dataset="squares",
    )
    save_graph(graph, path)
    return path
