"""Which images an epoch shows: against the definitions, and the same however many processes share them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import write_data

from detector.annotations import Annotations, load_annotations
from detector.sampling import batches_of, epoch_length, epoch_order, parts_of, repeat_factors


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Annotations:
    return load_annotations(write_data(tmp_path_factory.mktemp("data"), train=9), "train")


def classes_of(annotations: Annotations, image: int) -> set[int]:
    first, end = annotations.offsets[image : image + 2]
    return {int(c) for row, c in enumerate(annotations.class_N) if first <= row < end}


def order_of(annotations: Annotations, images: np.ndarray, sampling: str, seed: int = 0) -> np.ndarray:
    return epoch_order(annotations, images, sampling, 0.9, np.random.default_rng(seed))  # type: ignore[arg-type]


def test_repeat_factors_are_those_of_lvis(annotations: Annotations) -> None:
    images = annotations.usable_images()[1:]
    found = repeat_factors(annotations, images, 0.9)
    for place, image in enumerate(images):
        shares = [
            sum(c in classes_of(annotations, other) for other in images) / len(images)
            for c in classes_of(annotations, image)
        ]
        assert found[place] == pytest.approx(max(max(1.0, (0.9 / share) ** 0.5) for share in shares))
    assert found.max() > 1


def test_a_uniform_epoch_shows_every_image_once_in_another_order_each_time(annotations: Annotations) -> None:
    images = annotations.usable_images()
    orders = [order_of(annotations, images, "uniform", seed) for seed in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(len(images)))
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_repeated_images_come_as_often_as_their_factor_says(annotations: Annotations) -> None:
    images = annotations.usable_images()
    factors = repeat_factors(annotations, images, 0.9)
    length = epoch_length(annotations, images, "repeat_factor", 0.9)
    counts = np.zeros(len(images))
    for seed in range(400):
        order = order_of(annotations, images, "repeat_factor", seed)
        assert len(order) == length, "the schedule counts on it"
        counts += np.bincount(order, minlength=len(images))
    assert counts / 400 == pytest.approx(factors * length / factors.sum(), abs=0.1)


def test_class_balanced_epochs_show_each_class_equally_often(annotations: Annotations) -> None:
    images = annotations.usable_images()
    chance = np.zeros(len(images))
    for c in range(annotations.num_classes):
        showing = [place for place, image in enumerate(images) if c in classes_of(annotations, image)]
        chance[showing] += 1 / annotations.num_classes / len(showing)
    drawn = np.concatenate([order_of(annotations, images, "class_balanced", seed) for seed in range(600)])
    shares = np.bincount(drawn, minlength=len(images)) / len(drawn)
    assert shares == pytest.approx(chance, abs=0.025)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_grouping_by_shape_keeps_every_image_and_the_number_of_batches(
    count: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    order, wide = rng.permutation(count), rng.random(count) < 0.6
    plain, grouped = batches_of(order, size), batches_of(order, size, wide)
    assert sorted(np.concatenate(grouped).tolist()) == list(range(count))
    assert len(plain) == len(grouped)
    mixed = sum(len(set(wide[batch].tolist())) == 2 for batch in grouped)
    assert mixed <= 2, "only what is left over is mixed"


@given(st.integers(1, 24), st.integers(1, 5), st.integers(1, 4))
def test_processes_share_a_batch_evenly_and_completely(images: int, processes: int, accumulate: int) -> None:
    batch = np.arange(images)
    shares = [parts_of(batch, rank, processes, accumulate) for rank in range(processes)]
    assert len({tuple(len(part) for part in parts) for parts in shares}) == 1, "in step with each other"
    seen = np.concatenate([np.concatenate(parts) for parts in shares])
    assert set(seen.tolist()) == set(range(images))
    assert len(seen) - images < processes
    assert all(len(part) for parts in shares for part in parts)
