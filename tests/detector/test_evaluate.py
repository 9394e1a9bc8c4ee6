"""The twelve numbers, by two backends, against pycocotools used by hand."""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_examples import ground_truth, random_detections, with_crowds
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny_data import change_json, write_data
from torch import Tensor, nn

from detector.annotations import Annotations, load_annotations
from detector.coco_metrics import METRICS, coco_metrics
from detector.detections import Detections, to_detections
from detector.errors import MissingResourceError
from detector.evaluate import detect

BACKENDS = ("pycocotools", "hotcoco")


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return load_annotations(write_data(tmp_path / "data", train=30), "train")


def by_hand(path: Path, annotations: Annotations, detections: Detections) -> dict[str, float]:
    """pycocotools as its documentation says: the file as it is, results as a list of dictionaries."""
    results = [
        {
            "image_id": int(annotations.image_ids[image]),
            "category_id": int(annotations.category_ids[class_index]),
            "bbox": [
                float(box[0]),
                float(box[1]),
                float(box[2]) - float(box[0]),
                float(box[3]) - float(box[1]),
            ],
            "score": float(score),
        }
        for image, box, class_index, score in zip(
            detections.image_N, detections.boxes_xyxy, detections.class_N, detections.score_N, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", BACKENDS)
def test_both_backends_give_the_numbers_of_pycocotools(
    annotations: Annotations, backend: str, seed: int
) -> None:
    pytest.importorskip(backend)
    with_crowds(annotations.path, seed)
    annotations = load_annotations(annotations.path.parent, "train")
    assert annotations.crowd_N.sum() > 3
    detections = random_detections(annotations, seed)
    expected = by_hand(annotations.path, annotations, detections)
    assert 0.05 < expected["AP"] < 0.95
    assert coco_metrics(annotations, detections, backend=backend) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_true_boxes_are_perfect_and_absent_sizes_are_minus_one(
    annotations: Annotations, backend: str
) -> None:
    pytest.importorskip(backend)
    metrics = coco_metrics(annotations, ground_truth(annotations), backend=backend)
    assert metrics["AP"] == metrics["AP75"] == metrics["APs"] == metrics["AR100"] == pytest.approx(1)
    assert metrics["APm"] == metrics["ARl"] == -1  # no box has 32 x 32 px


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_are_zero_and_no_ground_truth_is_minus_one(
    annotations: Annotations, backend: str
) -> None:
    pytest.importorskip(backend)
    nothing = to_detections([], [])
    assert coco_metrics(annotations, nothing, backend=backend)["AP"] == 0
    change_json(annotations.path, lambda document: document.update(annotations=[]))
    empty = load_annotations(annotations.path.parent, "train")
    assert set(coco_metrics(empty, nothing, backend=backend).values()) == {-1.0}


def test_the_order_of_classes_does_not_matter(annotations: Annotations) -> None:
    detections = random_detections(annotations, seed=5)
    names = annotations.class_names
    permuted = annotations.with_classes((names[2], names[0], names[1]), owner="the run")
    renumbered = np.array([1, 2, 0])[detections.class_N]
    moved = Detections(detections.image_N, detections.boxes_xyxy, renumbered, detections.score_N)
    assert coco_metrics(permuted, moved) == coco_metrics(annotations, detections)


def test_nothing_is_printed(annotations: Annotations, capfd: pytest.CaptureFixture[str]) -> None:
    for backend in BACKENDS:
        coco_metrics(annotations, random_detections(annotations, 0), backend=backend)
    assert capfd.readouterr().out == ""


def test_a_backend_that_is_not_installed_is_named(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(MissingResourceError, match="hotcoco is not installed: pip install hotcoco"):
        coco_metrics(annotations, ground_truth(annotations), backend="hotcoco")


class BrightSquares(nn.Module):
    """A detector without learning: the true boxes, by looking at how many images it has been given."""

    def __init__(self, annotations: Annotations) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.annotations = annotations
        self.given = 0

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert not self.training
        truth = ground_truth(self.annotations)
        outputs = []
        for _ in images:
            rows = truth.image_N == self.given
            self.given += 1
            outputs.append(
                {
                    "boxes": torch.from_numpy(truth.boxes_xyxy[rows]),
                    "labels": torch.from_numpy(truth.class_N[rows]) + 1,
                    "scores": torch.from_numpy(truth.score_N[rows]),
                }
            )
        return outputs


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_image_is_detected_once_in_order_and_the_mode_is_left_alone(
    annotations: Annotations, batch_size: int
) -> None:
    model = BrightSquares(annotations).train()
    detections = detect(model, annotations, batch_size=batch_size)
    assert model.given == 30
    assert model.training
    assert coco_metrics(annotations, detections)["AP"] == pytest.approx(1)


def test_real_coco_annotations_give_the_numbers_of_pycocotools() -> None:
    folder = Path(__file__).parents[2] / "../shared/real_data/coco"
    if not folder.is_dir():
        pytest.skip("the COCO sample is not beside the repository")
    annotations = load_annotations(folder, "val")
    assert annotations.num_classes == len(json.loads(annotations.path.read_text())["categories"])
    detections = random_detections(annotations, seed=0, count=3000)
    expected = by_hand(annotations.path, annotations, detections)
    for backend in BACKENDS:
        pytest.importorskip(backend)
        assert coco_metrics(annotations, detections, backend=backend) == expected
