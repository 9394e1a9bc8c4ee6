"""A run and a data folder: annotated objects as points, and how well their features tell classes apart."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from detector.annotations import Annotations, load_annotations
from detector.checkpoint import Weights, load_run
from detector.coco_file import read_supercategories
from detector.device import pick_device
from detector.embedding import (
    NEIGHBOURS,
    Method,
    chance_agreement,
    check_method,
    join_parts,
    neighbour_agreement,
    project,
    spread_of,
)
from detector.embedding_plots import save_embedding
from detector.errors import InputError
from detector.files import atomic_path, check_folder_free, save_json
from detector.plotting import check_matplotlib
from detector.region_features import RegionFeatures, region_features

DOCUMENT_FILE = "embedding.json"
TABLE_FILE = "embedding.csv"
PICTURE_FILE = "embedding.png"

#: Columns of the table for the features, in their order.
_PLACES = ("before", "after", "both")

#: Fewer objects make no picture.
_LEAST_OBJECTS = 5


def embed_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    split: str = "test",
    max_images: int = 200,
    method: Method = "tsne",
    seed: int = 0,
    weights: Weights = "last",
    device: str = "auto",
    pictures: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Bring the features of annotated objects into a plane; write embedding.json, .csv and .png.

    Args:
        run: the run folder.
        data: the data folder.
        out: folder to write into; made if its parent exists.
        split: of the data.
        max_images: the first so many images with boxes.
        method: "tsne" or "umap".
        seed: of the method.
        weights: "last", or "best" of a run with several evaluations.
        device: "auto", "cpu" or "cuda".
        pictures: draw embedding.png.
        overwrite: write into a folder that already holds something.

    Returns:
        what embedding.json holds.

    Raises:
        InputError: the run or the data is not what it should be, or there are too few objects.
        ClassMatchError: they do not name the same classes.
        OutputExistsError: `out` holds something and `overwrite` is false.
        MissingResourceError: no such device, or a package that is needed is not installed.
    """
    check_method(method, f"--out {out}")
    if pictures:
        check_matplotlib(f"--out {out}")
    check_folder_free(out, overwrite=overwrite)
    trained = load_run(run, pick_device(device), weights=weights)
    annotations = load_annotations(data, split, max_images=max_images)
    annotations = annotations.with_classes(trained.classes.names, owner=f"the run {run}")
    found = region_features(trained.model, annotations)
    if len(found.class_N) < _LEAST_OBJECTS or len(np.unique(found.image_N)) < 2:
        raise InputError(
            f"{annotations.path}: found {len(found.class_N)} objects in {annotations.num_images} images; "
            f"expected {_LEAST_OBJECTS} or more in two or more images"
        )
    groups, labels = _groups(annotations), {"same_class": found.class_N}
    if groups != annotations.class_names:
        labels["same_group"] = np.unique(groups, return_inverse=True)[1][found.class_N]
    features = dict(found.parts)
    if found.joined:
        features[f"[{'; '.join(features)}]"] = join_parts(list(features.values()))
    points_N2 = {name: project(features_ND, method, seed) for name, features_ND in features.items()}
    document = {
        "run": str(run),
        "data": str(annotations.path),
        "images": annotations.num_images,
        "objects": len(found.class_N),
        "method": method,
        "seed": seed,
        "coloured_by": "supercategory" if "same_group" in labels else "class",
        "spread": {name: float(f"{spread_of(part_ND):.4g}") for name, part_ND in found.parts.items()},
        **_agreement(features, labels, found.image_N),
    }
    out.mkdir(exist_ok=True)
    for name in (DOCUMENT_FILE, TABLE_FILE, PICTURE_FILE):
        (out / name).unlink(missing_ok=True)  # of another run
    _save_table(annotations, found, groups, points_N2, out / TABLE_FILE)
    if pictures:
        titles = [
            f"{row['name']}\n{row['same_class']:.0%} of near objects share the class"
            for row in document["features"]
        ]
        panels = dict(zip(titles, points_N2.values(), strict=True))
        save_embedding(panels, [groups[index] for index in found.class_N], out / PICTURE_FILE)
    save_json(document, out / DOCUMENT_FILE)
    return document


def _groups(annotations: Annotations) -> tuple[str, ...]:
    """The group of each class: its supercategory, or where these say nothing, itself."""
    supercategories = read_supercategories(annotations.path)
    groups = tuple(supercategories[name] or name for name in annotations.class_names)
    return groups if 1 < len(set(groups)) < len(groups) else annotations.class_names


def _agreement(
    features: dict[str, np.ndarray], labels: dict[str, np.ndarray], image_N: np.ndarray
) -> dict[str, Any]:
    """How well features tell classes and groups apart, and how well chance does."""
    rows = []
    for name, features_ND in features.items():
        shares = {
            what: round(neighbour_agreement(features_ND, label_N, image_N), 4)
            for what, label_N in labels.items()
        }
        rows.append({"name": name, "width": features_ND.shape[1], **shares})
    chance = {what: round(chance_agreement(label_N, image_N), 4) for what, label_N in labels.items()}
    return {"neighbours": NEIGHBOURS, "chance": chance, "features": rows}


def _save_table(
    annotations: Annotations,
    found: RegionFeatures,
    groups: tuple[str, ...],
    points_N2: dict[str, np.ndarray],
    path: Path,
) -> None:
    """A row an object: image, class, group, box in px, and its points."""
    names = [f"{axis}_{place}" for place, _ in zip(_PLACES, points_N2, strict=False) for axis in "xy"]
    points = np.concatenate(list(points_N2.values()), axis=1)
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "class", "group", "left", "top", "right", "bottom", *names])
        for image, index, box_4, point in zip(
            found.image_N, found.class_N, found.boxes_N4, points, strict=True
        ):
            writer.writerow(
                [annotations.file_names[image], annotations.class_names[index], groups[index]]
                + [f"{side:.2f}" for side in box_4]
                + [f"{value:.4f}" for value in point]
            )
