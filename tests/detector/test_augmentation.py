"""Jitter, copy-paste and random sizes: boxes stay with their pixels, and chance is tied to the image."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_data import COLOURS, SIDE, write_data
from tiny_models import tiny_model
from torch import Tensor

from detector.annotations import Annotations, load_annotations
from detector.augmentation import Augmentation, paste_objects
from detector.data import ImageDataset
from detector.errors import ConfigError
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train

Target = dict[str, Tensor]

EVERYTHING = Augmentation(flip=0.5, jitter=(0.5, 2.0), canvas=SIDE, copy_paste=0.5, short_sides=(48, 64))


def random_objects(rng: np.random.Generator, height: int, width: int, count: int, masks: bool) -> Target:
    """Boxes of any place and size inside an image, and masks that fill random parts of them."""
    xs = np.sort(rng.uniform(0, width, (count, 2)), axis=1)
    ys = np.sort(rng.uniform(0, height, (count, 2)), axis=1)
    boxes = np.stack([xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]], axis=1).astype(np.float32).reshape(-1, 4)
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.arange(1, count + 1)}
    if masks:
        shape = np.zeros((count, height, width), dtype=np.uint8)
        for number, (left, top, right, bottom) in enumerate(boxes.astype(int)):
            shape[number, top : bottom + 1, left : right + 1] = 1
        shape &= rng.random(shape.shape) < 0.8
        target["masks"] = torch.from_numpy(shape)
    return target


sides = st.integers(1, 80)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(sides, sides),
    count=st.integers(0, 4),
    masks=st.booleans(),
    canvas=st.integers(8, 60),
    scales=st.tuples(st.floats(0.01, 1), st.floats(1, 3)),
)
@example(seed=127, size=(2, 2), count=0, masks=False, canvas=8, scales=(0.125, 1.0))
def test_objects_of_a_jittered_image_lie_inside_it_and_are_not_empty(
    seed: int, size: tuple[int, int], count: int, masks: bool, canvas: int, scales: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    target = random_objects(rng, *size, count, masks)
    pixels = torch.zeros(3, *size, dtype=torch.uint8)
    found, left = Augmentation(0.5, scales, canvas).apply(pixels, target, rng)
    assert found.shape == (3, canvas, canvas)
    assert found.dtype == torch.uint8
    boxes = left["boxes"]
    assert boxes.dtype == torch.float32
    assert type(boxes) is Tensor
    assert len(boxes) == len(left["labels"]) <= count
    assert ((boxes >= 0) & (boxes <= canvas)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert set(left["labels"].tolist()) <= set(target["labels"].tolist())
    if masks:
        assert left["masks"].shape == (len(boxes), canvas, canvas)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), counts=st.tuples(st.integers(0, 4), st.integers(0, 4)), masks=st.booleans()
)
def test_pasting_is_what_a_loop_over_pixels_does(seed: int, counts: tuple[int, int], masks: bool) -> None:
    height, width = 12, 15
    rng = np.random.default_rng(seed)
    below, above = (random_objects(rng, height, width, count, masks) for count in counts)
    images = [torch.full((3, height, width), value, dtype=torch.uint8) for value in (10, 200)]
    drawn = np.random.default_rng(seed).random(counts[1]) < 0.5
    pixels, target = paste_objects(images[0], below, images[1], above, np.random.default_rng(seed))

    def holds(objects: Target, number: int, row: int, column: int) -> bool:
        if masks:
            return bool(objects["masks"][number, row, column])
        left, top, right, bottom = objects["boxes"][number].tolist()
        return left < column + 1 and column < right and top < row + 1 and row < bottom

    cells = [(row, column) for row in range(height) for column in range(width)]
    covered = {
        cell for cell in cells for number in range(counts[1]) if drawn[number] and holds(above, number, *cell)
    }
    for row, column in cells:
        assert pixels[0, row, column] == (200 if (row, column) in covered else 10)
    expected = []
    for number in range(counts[0]):
        whole = {cell for cell in cells if holds(below, number, *cell)}
        visible = whole - covered
        box = below["boxes"][number].tolist()
        if visible != whole and visible:
            rows, columns = zip(*visible, strict=True)
            box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        if visible:
            expected.append((box, number + 1, len(visible)))
    for number in np.flatnonzero(drawn):
        size = sum(holds(above, number, *cell) for cell in cells)
        expected.append((above["boxes"][number].tolist(), number + 1, size))
    assert target["boxes"].tolist() == [box for box, _, _ in expected]
    assert target["labels"].tolist() == [label for _, label, _ in expected]
    if masks:
        assert target["masks"].sum(dim=(1, 2)).tolist() == [size for _, _, size in expected]


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return load_annotations(write_data(tmp_path / "data"), "train")


def colour_distance(pixels: Tensor, box: list[float], colour: tuple[int, ...]) -> float:
    """How far the middle of a box is from a colour."""
    x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
    return float((pixels[:, y, x].float() - torch.tensor(colour).float()).abs().max())


def test_boxes_follow_their_pixels_through_flips_and_jitter(annotations: Annotations) -> None:
    dataset = ImageDataset(annotations, np.arange(6), augmentation=replace(EVERYTHING, copy_paste=0.0))
    seen = 0
    for dataset.epoch in range(20):
        for pixels, target in (dataset[index] for index in range(6)):
            assert pixels.shape == (3, SIDE, SIDE)
            assert int(target["short_side"]) in (48, 64)
            for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
                if min(box[2] - box[0], box[3] - box[1]) > 6:  # small ones are blurred
                    assert colour_distance(pixels, box, COLOURS[annotations.class_names[label - 1]]) < 25
                    seen += 1
    assert seen > 100


def test_what_is_random_depends_on_seed_epoch_and_image_alone(annotations: Annotations) -> None:
    def show(order: np.ndarray, epoch: int, seed: int = 0) -> dict[int, tuple[Tensor, Target]]:
        dataset = ImageDataset(annotations, np.arange(6), augmentation=EVERYTHING, seed=seed)
        dataset.epoch = epoch
        return {int(index): dataset[int(index)] for index in order}

    def same(one: tuple[Tensor, Target], other: tuple[Tensor, Target]) -> bool:
        return torch.equal(one[0], other[0]) and all(
            torch.equal(one[1][name], other[1][name]) for name in one[1]
        )

    first = show(np.arange(6), 1)
    state = torch.get_rng_state()
    torch.rand(3)
    again = show(np.arange(6)[::-1], 1)
    torch.set_rng_state(state)
    show(np.arange(6), 1)
    assert torch.equal(torch.get_rng_state(), state), "the generator of the training goes on undisturbed"
    assert all(same(first[index], again[index]) for index in range(6))
    assert not any(torch.equal(first[i][0], show(np.arange(6), 2)[i][0]) for i in range(6))
    assert not any(torch.equal(first[i][0], show(np.arange(6), 1, seed=1)[i][0]) for i in range(6))


def test_short_sides_are_those_that_the_model_resizes_to() -> None:
    model = tiny_model(min_sizes=(32, 96), max_size=120).train()
    images = [torch.rand(3, 40, 80), torch.rand(3, 50, 50)]
    box = torch.tensor([[10.0, 5.0, 30.0, 25.0]])
    targets = [
        {"boxes": box.clone(), "labels": torch.tensor([1]), "short_side": torch.tensor(side)}
        for side in (32, 96)
    ]
    batch, resized = model._resize(images, targets)
    assert batch.image_sizes == [(32, 64), (96, 96)]
    assert torch.allclose(resized[0]["boxes"], box * 0.8)
    assert torch.allclose(resized[1]["boxes"], box * 96 / 50)
    assert torch.equal(targets[0]["boxes"], box), "what was given is left as it was"
    without = [{"boxes": box, "labels": torch.tensor([1])} for _ in range(2)]
    plain, _ = model._resize(images, without)
    named, _ = model._resize(images, [{**target, "short_side": torch.tensor(64)} for target in without])
    assert torch.equal(plain.tensors, named.tensors)


@pytest.mark.parametrize("recipe", ["faster_rcnn_sample", "retinanet_sample"])
def test_a_detector_trains_on_images_whose_objects_were_all_cut_off(recipe: str, tmp_path: Path) -> None:
    changes = {
        "train.jitter": "40,40", "train.epochs": 1, "train.batch_size": 2, "train.warmup_iterations": 0,
    }  # fmt: skip
    config = override(load_recipe(recipe), changes)
    data = write_data(tmp_path / "data", train=4, test=1)
    train(config, data, tmp_path / "run", quiet=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) for record in records if "lr" in record)


def test_any_number_of_workers_trains_to_the_same_bits(tmp_path: Path) -> None:
    """In other interpreters: forking beside pytest's threads would warn."""
    write_data(tmp_path / "data")
    values = [
        "train.jitter=0.5,2.0", "train.copy_paste=0.5", "model.min_sizes=96,128", "train.epochs=2",
        "train.batch_size=2",
    ]  # fmt: skip
    weights = []
    for workers in (0, 2):
        arguments = ["train", "--data=data", "--recipe=faster_rcnn_sample", f"--out=run{workers}"]
        arguments += [f"--set={value}" for value in [*values, f"train.workers={workers}"]]
        subprocess.run(
            [sys.executable, "-m", "detector", *arguments], cwd=tmp_path, capture_output=True, check=True
        )
        weights.append((tmp_path / f"run{workers}" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.jitter", "2.0,0.1", "two scales above 0, the smaller one first"),
        ("train.jitter", "0.1", "two scales above 0"),
        ("train.copy_paste", "0.5", "expected 0 without train.jitter"),
        ("model.min_sizes", "0,64", "px sizes from 1 on"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(load_recipe("faster_rcnn_sample"), {key: value})
