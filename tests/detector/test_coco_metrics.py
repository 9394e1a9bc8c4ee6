"""Precision and recall to the bit, whatever the backend and the block; groups of classes; single classes."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_examples import ground_truth, random_detections, with_crowds
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny_data import change_json, write_data

from detector.annotations import Annotations, load_annotations
from detector.coco_metrics import (
    Curves,
    class_metrics,
    coco_curves,
    coco_metrics,
    frequency_metrics,
    summarize,
)
from detector.detections import Detections
from detector.frequencies import frequencies_of, stated_frequency
from detector.segmentation import encode_masks

BACKENDS = ("pycocotools", "hotcoco")


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    path = write_data(tmp_path / "data", train=30) / "train.json"
    with_crowds(path, seed=0)
    return load_annotations(path.parent, "train")


def by_hand(path: Path, annotations: Annotations, detections: Detections) -> dict[str, np.ndarray]:
    """What pycocotools accumulates over the file as it is, all classes at once."""
    columns = zip(
        annotations.image_ids[detections.image_N].tolist(),
        annotations.category_ids[detections.class_N].tolist(),
        detections.boxes_xyxy.astype(float).tolist(),
        detections.score_N.tolist(),
        strict=True,
    )
    results = [
        {"image_id": image, "category_id": category, "bbox": [x, y, right - x, low - y], "score": score}
        for image, category, (x, y, right, low), score in columns
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


@pytest.mark.parametrize("block_size", [1, 2, 256])
@pytest.mark.parametrize("backend", BACKENDS)
def test_precision_and_recall_are_those_of_pycocotools_to_the_bit(
    annotations: Annotations, backend: str, block_size: int
) -> None:
    pytest.importorskip(backend)
    detections = random_detections(annotations, seed=1)
    expected = by_hand(annotations.path, annotations, detections)
    curves = coco_curves(annotations, detections, backend=backend, block_size=block_size)
    assert 0.05 < expected["precision"][..., 0, 2].mean() < 0.95
    assert curves.precision_TRCA.tobytes() == np.ascontiguousarray(expected["precision"][..., 2]).tobytes()
    assert curves.recall_TCAM.tobytes() == expected["recall"].tobytes()


def test_the_backends_agree_to_the_bit_on_many_classes_with_ties() -> None:
    pytest.importorskip("hotcoco")
    annotations = many_classes(classes=300, images=40, seed=0)
    detections = random_detections(annotations, seed=1, count=3000)
    one, other = (coco_curves(annotations, detections, backend=backend) for backend in BACKENDS)
    assert (one.precision_TRCA > 0).mean() > 0.05
    assert one.precision_TRCA.tobytes() == other.precision_TRCA.tobytes()
    assert one.recall_TCAM.tobytes() == other.recall_TCAM.tobytes()


def test_the_backends_agree_to_the_bit_on_masks(annotations: Annotations) -> None:
    pytest.importorskip("hotcoco")
    rng = np.random.default_rng(0)
    texts = [json.dumps([square(box)]).encode() for box in annotations.boxes_xywh]
    masked = replace(annotations, segmentation_N=np.array(texts, dtype=object))
    boxes = random_detections(annotations, seed=2, count=200)
    pixels = np.zeros((len(boxes), 64, 64), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(pixels, boxes.boxes_xyxy.astype(int).clip(0), strict=True):
        mask[top : bottom + 1, left : right + 1] = rng.random() > 0.05
    found = Detections(boxes.image_N, boxes.boxes_xyxy, boxes.class_N, boxes.score_N, encode_masks(pixels))
    one, other = (coco_curves(masked, found, backend=name, overlap="segm") for name in BACKENDS)
    assert one.precision_TRCA.max() > 0.2
    assert one.precision_TRCA.tobytes() == other.precision_TRCA.tobytes()


def test_metrics_of_a_class_are_those_of_a_split_that_has_no_other(annotations: Annotations) -> None:
    detections = random_detections(annotations, seed=3)
    found = class_metrics(coco_curves(annotations, detections))
    for index in range(annotations.num_classes):
        rows = np.flatnonzero(annotations.class_N == index)
        images = np.searchsorted(annotations.offsets, rows, side="right") - 1
        alone = replace(
            annotations,
            class_names=annotations.class_names[index : index + 1],
            category_ids=annotations.category_ids[index : index + 1],
            class_N=np.zeros(len(rows), dtype=np.int64),
            offsets=np.searchsorted(images, np.arange(annotations.num_images + 1)),
            **{name: getattr(annotations, name)[rows] for name in ("boxes_xywh", "area_N", "crowd_N")},
        )
        mine = detections.select(np.flatnonzero(detections.class_N == index))
        mine = Detections(mine.image_N, mine.boxes_xyxy, np.zeros(len(mine), dtype=np.int64), mine.score_N)
        expected = coco_metrics(alone, mine, backend="pycocotools")
        assert found.ap_C[index] == pytest.approx(expected["AP"])
        assert found.ap50_C[index] == pytest.approx(expected["AP50"])
        assert found.ar_C[index] == pytest.approx(expected["AR100"])


def test_metrics_of_classes_follow_the_order_of_the_classes(annotations: Annotations) -> None:
    names = annotations.class_names
    permuted = annotations.with_classes((names[2], names[0], names[1]), owner="the run")
    detections = random_detections(annotations, seed=5)
    moved = Detections(
        detections.image_N, detections.boxes_xyxy, np.array([1, 2, 0])[detections.class_N], detections.score_N
    )
    here, there = (
        class_metrics(coco_curves(*pair)) for pair in ((annotations, detections), (permuted, moved))
    )
    assert len(set(here.ap_C)) == 3
    assert there.ap_C.tolist() == here.ap_C[[2, 0, 1]].tolist()


def test_ap_of_rare_common_and_frequent_classes_is_the_mean_over_each() -> None:
    rng = np.random.default_rng(0)
    precision = rng.random((10, 101, 7, 4))
    precision[:, :, 3] = -1  # nothing to find
    order = np.array([4, 0, 2, 6, 1, 3, 5])
    curves = Curves(order, precision, np.zeros((10, 7, 4, 3)))
    groups = ["r", "c", "r", "f", "c", "f", "r"]
    found = frequency_metrics(curves, groups)
    for group in "rcf":
        mine = [
            precision[:, :, place, 0].mean()
            for place, index in enumerate(order)
            if groups[index] == group and place != 3
        ]
        assert found[f"AP{group}"] == pytest.approx(np.mean(mine))
    assert frequency_metrics(curves, ["r", ""] * 3 + ["f"]) == frequency_metrics(curves, ()) == {}
    assert frequency_metrics(curves, ["r"] * 7)["APf"] == -1


def test_groups_are_those_of_lvis() -> None:
    assert frequencies_of([0, 1, 10, 11, 100, 101]) == ("r", "r", "r", "c", "c", "f")
    assert [stated_frequency(None, count) for count in (10, 11, None, "many", True)] == ["r", "c", "", "", ""]
    assert stated_frequency("f", 3) == "f"
    assert stated_frequency(0.7, 3) == "r"


def test_lvis_names_the_groups_that_its_counts_make() -> None:
    path = Path(__file__).parents[2] / "../shared/real_data/lvis/lvis_v1_train_cat_info.json"
    if not path.is_file():
        pytest.skip("LVIS's list of categories is not beside the repository")
    categories = json.loads(path.read_text())
    assert len(categories) == 1203
    for category in categories:
        assert stated_frequency(None, category["image_count"]) == category["frequency"]


def test_frequencies_are_read_with_the_categories_and_move_with_them(tmp_path: Path) -> None:
    path = write_data(tmp_path / "data") / "train.json"

    def edit(document: dict) -> None:
        for category, more in zip(
            document["categories"],
            ({"frequency": "f"}, {"image_count": 50}, {"frequency": 0.5, "image_count": "2"}),
            strict=True,
        ):
            category.update(more)

    change_json(path, edit)
    annotations = load_annotations(path.parent, "train")
    stated = dict(zip(annotations.class_names, annotations.frequencies, strict=True))
    assert stated == {"red": "f", "green": "c", "blue": ""}
    moved = annotations.with_classes(("blue", "red", "green"), owner="the run")
    assert moved.frequencies == ("", "f", "c")


def test_images_and_boxes_of_a_class_are_counted_without_crowds(annotations: Annotations) -> None:
    document = json.loads(annotations.path.read_text())
    for index, category in enumerate(annotations.category_ids):
        boxes = [
            box for box in document["annotations"] if box["category_id"] == category and not box["iscrowd"]
        ]
        assert annotations.boxes_per_class()[index] == len(boxes) > 0
        assert annotations.images_per_class()[index] == len({box["image_id"] for box in boxes})


def test_true_boxes_of_a_thousand_classes_are_perfect_in_blocks() -> None:
    annotations = many_classes(classes=1000, images=20, seed=1)
    curves = coco_curves(annotations, ground_truth(annotations), block_size=64)
    assert summarize(curves)["AP"] == pytest.approx(1)
    with_boxes = np.bincount(annotations.class_N, minlength=1000) > 0
    assert class_metrics(curves).ap_C[with_boxes] == pytest.approx(1)
    assert set(class_metrics(curves).ap_C[~with_boxes]) == {-1.0}


def many_classes(*, classes: int, images: int, seed: int) -> Annotations:
    """A split of random boxes, without files; category ids fall as classes rise."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 20, images)
    total = counts.sum()
    boxes = np.concatenate([rng.uniform(0, 300, (total, 2)), rng.uniform(4, 150, (total, 2))], axis=1)
    return Annotations(
        path=Path("many.json"),
        image_folder=Path("images"),
        class_names=tuple(f"class {index}" for index in range(classes)),
        synsets=("",) * classes,
        frequencies=("",) * classes,
        category_ids=np.arange(classes, 0, -1) * 3,
        image_ids=np.arange(images) + 7,
        file_names=np.array([f"{index}.png" for index in range(images)]),
        sizes_I2=np.full((images, 2), 450, dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        boxes_xywh=boxes,
        class_N=(classes * rng.random(total) ** 3).astype(np.int64),
        area_N=boxes[:, 2] * boxes[:, 3],
        crowd_N=np.zeros(total, dtype=bool),
        usable_N=np.ones(total, dtype=bool),
    )


def square(box: np.ndarray) -> list[float]:
    left, top, width, height = box.tolist()
    return [left, top, left + width, top, left + width, top + height, left, top + height]
