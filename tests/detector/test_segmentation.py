"""Segmentations of COCO files: read, flipped, evaluated with both backends, predicted and drawn."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from tiny_data import change_json, write_data

from detector import load
from detector.annotations import Annotations, load_annotations
from detector.augmentation import Augmentation
from detector.cli.output import echo_metrics
from detector.coco_metrics import coco_metrics
from detector.data import ImageDataset
from detector.detections import Detections
from detector.errors import InputError
from detector.overrides import override
from detector.pictures import tint
from detector.predict import predict
from detector.recipes import load_recipe
from detector.segmentation import decode_mask, encode_masks, to_run_lengths
from detector.train import train

REAL_COCO = Path(__file__).parents[2] / "../shared/real_data/coco"
TRIANGLE = b"[[10, 10, 40, 10, 10, 40]]"


def write_masks(data: Path) -> Path:
    """Give every box of a data folder the polygon of its lower left triangle."""

    def add(document: dict[str, Any]) -> None:
        for box in document["annotations"]:
            x, y, width, height = box["bbox"]
            box["segmentation"] = [[x, y, x + width, y + height, x, y + height]]
            box["area"] = width * height / 2

    for split in ("train", "test"):
        change_json(data / f"{split}.json", add)
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masks(write_data(tmp_path_factory.mktemp("masks") / "data"))


def test_a_polygon_becomes_the_mask_that_a_painter_fills() -> None:
    runs = to_run_lengths(TRIANGLE, 50, 60)
    assert runs is not None
    picture = Image.new("L", (60, 50))
    ImageDraw.Draw(picture).polygon([(10, 10), (40, 10), (10, 40)], fill=1)
    mask, painted = decode_mask(runs), np.asarray(picture)
    assert mask.shape == (50, 60)
    assert (mask & painted).sum() / (mask | painted).sum() > 0.85, "a painter fills the border too"
    assert mask.sum() == pytest.approx(30 * 30 / 2, rel=0.05)


def test_run_lengths_are_read_compressed_and_plain() -> None:
    mask = np.zeros((3, 4), dtype=np.uint8)
    mask[1:, 2] = 1  # column by column: 7 zeros, 2 ones, 3 zeros
    plain = b'{"size": [3, 4], "counts": [7, 2, 3]}'
    (runs,) = encode_masks(mask[None])
    for text in (plain, json.dumps(runs).encode()):
        found = to_run_lengths(text, 3, 4)
        assert found == runs
        assert np.array_equal(decode_mask(found), mask)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), share=st.floats(0, 1), seed=st.integers(0, 1000)
)
def test_any_mask_goes_through_run_lengths_and_back(shape: tuple[int, int], share: float, seed: int) -> None:
    mask = (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)
    (runs,) = encode_masks(mask[None])
    assert np.array_equal(decode_mask(runs), mask)
    assert to_run_lengths(json.dumps(runs).encode(), *shape) == runs


def test_two_polygons_are_one_mask_and_one_without_area_is_left_out() -> None:
    both = to_run_lengths(b"[[0, 0, 4, 0, 4, 4, 0, 4], [6, 6, 9, 6, 9, 9, 6, 9], [1, 2, 3, 4]]", 10, 10)
    assert both is not None
    assert decode_mask(both).sum() == 16 + 9
    assert to_run_lengths(b"[[1, 2, 3, 4]]", 10, 10) is None
    assert to_run_lengths(b"[]", 10, 10) is None


def test_a_target_has_the_masks_of_its_boxes_and_both_are_flipped(data: Path) -> None:
    annotations = load_annotations(data, "train", masks=True)
    plain, flipped = (
        ImageDataset(annotations, np.arange(annotations.num_images), augmentation=Augmentation(flip=flip))
        for flip in (0.0, 1.0)
    )
    for index in range(len(plain)):
        (_, target), (_, mirror) = plain[index], flipped[index]
        assert target["masks"].dtype == torch.uint8
        assert target["masks"].shape == (len(target["boxes"]), 64, 64)
        assert torch.equal(mirror["masks"], target["masks"].flip(-1))
        for box, mask in zip(mirror["boxes"].int().tolist(), mirror["masks"], strict=True):
            left, top, right, bottom = box
            assert mask.sum() == mask[top:bottom, left:right].sum() > 0
            assert mask[bottom - 1, right - 2] == 1, "the right angle is at the right after the flip"
            assert mask[top + 1, left + 1] == 0


def test_a_box_without_a_whole_polygon_is_not_trained_on(tmp_path: Path) -> None:
    data = write_masks(write_data(tmp_path / "data"))
    change_json(data / "train.json", lambda document: document["annotations"][0].update(segmentation=[]))
    annotations = load_annotations(data, "train", masks=True)
    assert annotations.usable_N.sum() == len(annotations.usable_N) - 1
    assert load_annotations(data, "train").usable_N.all()
    kept = annotations.select(np.array([1, 0]))
    assert kept.segmentation_N is not None
    assert len(kept.segmentation_N) == len(kept.class_N)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "annotation 1: no segmentation; expected polygons"),
        ("text", "annotation 1: segmentation: Expected"),
        ([["a"] * 6], "annotation 1: segmentation: Expected `float`"),
        ([[1, 2, 3, 4, 5, 6, 7]], "annotation 1: segmentation: a polygon of 7 numbers"),
        ([[0, 0, 1e9, 0, 0, 5]], "annotation 1: segmentation: a polygon with a corner more than 128 px away"),
        ({"size": [5, 5], "counts": [25]}, r"annotation 1: segmentation: run lengths for \(5, 5\)"),
        ({"size": [64, 64], "counts": [5]}, "annotation 1: segmentation: run lengths of 5 pixels"),
        ({"size": [64, 64], "counts": "garbage"}, "annotation 1: segmentation: run lengths"),
    ],
)
def test_a_segmentation_that_is_none_is_one_clear_line(tmp_path: Path, value: Any, message: str) -> None:
    data = write_masks(write_data(tmp_path / "data"))

    def spoil(document: dict[str, Any]) -> None:
        document["annotations"][1]["segmentation"] = value
        if value is None:
            del document["annotations"][1]["segmentation"]

    change_json(data / "train.json", spoil)
    with pytest.raises(InputError, match=rf"train\.json, {message}") as error:
        load_annotations(data, "train", masks=True)
    assert "\n" not in str(error.value)
    load_annotations(data, "train")  # without masks nobody looks


def perfect(annotations: Annotations) -> Detections:
    image_N = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
    boxes = annotations.boxes_xywh.astype(np.float32)
    return Detections(
        image_N=image_N,
        boxes_xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        class_N=annotations.class_N,
        score_N=np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        masks_N=[annotations.run_lengths(row, int(image)) for row, image in enumerate(image_N)],
    )


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_mask_metrics_look_at_masks_and_box_metrics_at_boxes(data: Path, backend: str) -> None:
    annotations = load_annotations(data, "train", masks=True)
    found = perfect(annotations)
    assert coco_metrics(annotations, found, backend=backend, overlap="segm")["AP"] == pytest.approx(1.0)
    assert found.masks_N is not None
    masks = [decode_mask(runs) for runs in found.masks_N]
    mirrored = np.stack([mask[:, ::-1] for mask in masks])
    wrong = Detections(found.image_N, found.boxes_xyxy, found.class_N, found.score_N, encode_masks(mirrored))
    assert coco_metrics(annotations, wrong, backend=backend)["AP"] == pytest.approx(1.0)
    assert coco_metrics(annotations, wrong, backend=backend, overlap="segm")["AP"] < 0.2


def test_both_backends_give_the_same_mask_metrics(data: Path) -> None:
    annotations = load_annotations(data, "train", masks=True)
    found = perfect(annotations)
    assert found.masks_N is not None
    rng = np.random.default_rng(0)
    shifted = [np.roll(decode_mask(runs), rng.integers(0, 4), axis=1) for runs in found.masks_N]
    found = Detections(
        found.image_N, found.boxes_xyxy, found.class_N, found.score_N, encode_masks(np.stack(shifted))
    )
    one, other = (
        coco_metrics(annotations, found, backend=backend, overlap="segm")
        for backend in ("pycocotools", "hotcoco")
    )
    assert 0.1 < one["AP"] < 0.9
    assert one == pytest.approx(other, abs=1e-6)


def small_config() -> Any:
    changes = {
        "train.epochs": 1,
        "train.batch_size": 3,
        "model.min_size": 64,
        "model.max_size": 64,
        "model.mask.roi_size": 7,
        "model.mask.convolutions": 1,
    }
    return override(load_recipe("mask_rcnn_r18_small"), changes)


def test_train_load_and_predict_with_masks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = train(small_config(), data, run, quiet=True)
    assert result["metrics"].keys() - {"VOC50"} == result["mask_metrics"].keys()
    assert json.loads((run / "metrics.json").read_text()) == result
    echo_metrics(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test.json, 3 images, box and mask metrics in percent"
    assert len(lines[1].split()) == 3
    detect = load(run, threshold=0.001, device="cpu")
    done = predict(detect, [data / "images" / "test_0.png"], tmp_path / "out")
    assert len(done.results) > 0
    [same] = detect([data / "images" / "test_0.png"])
    assert same.masks.shape == (len(done.results), 64, 64)
    assert same.masks.dtype == bool
    assert [mask.sum() for mask in same.masks] == [decode_mask(r["segmentation"]).sum() for r in done.results]
    mirrored = load(run, threshold=0.001, device="cpu", flip=True)
    [joined] = mirrored([data / "images" / "test_0.png"])
    assert joined.masks.shape == (len(joined), 64, 64)
    for found in json.loads((tmp_path / "out" / "detections.json").read_text()):
        assert decode_mask(found["segmentation"]).shape == (64, 64)
        assert set(decode_mask(found["segmentation"]).ravel()) <= {0, 1}


def test_data_without_segmentations_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with pytest.raises(InputError, match="annotation 0: no segmentation"):
        train(small_config(), data, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_mask_is_tinted_and_the_rest_is_as_it_was() -> None:
    pixels = np.full((4, 5, 3), 100, dtype=np.uint8)
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[1:3, 2:4] = 1
    painted = tint(pixels, [mask], np.array([2]))
    assert np.array_equal(painted[mask == 0], pixels[mask == 0])
    assert (painted[mask == 1] != 100).any(axis=1).all()
    assert (pixels == 100).all()


def test_real_coco_masks_lie_in_their_boxes_and_have_their_areas() -> None:
    if not REAL_COCO.is_dir():
        pytest.skip("no real COCO images beside the repository (../shared/real_data/coco)")
    began = time.monotonic()
    annotations = load_annotations(REAL_COCO, "val", masks=True)
    image_N = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
    crowds, distances = 0, []
    for row, image in enumerate(image_N):
        runs = annotations.run_lengths(row, int(image))
        raw = {**runs, "counts": runs["counts"].encode()}
        assert coco_mask.area(raw) == pytest.approx(annotations.area_N[row], rel=0.15, abs=30)
        left, top, width, height = coco_mask.toBbox(raw)
        expected = annotations.boxes_xywh[row]
        distances.append(np.abs(np.array([left, top, width, height]) - expected).max())
        crowds += bool(annotations.crowd_N[row])
    assert np.mean(np.array(distances) < 3) > 0.97
    assert crowds > 0, "run lengths that are not compressed"
    assert time.monotonic() - began < 20
