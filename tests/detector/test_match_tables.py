"""AP of resampled images: that of COCOeval on images that really stand there so often."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_examples import random_detections, with_crowds
from tiny_data import write_data

from detector.annotations import Annotations, load_annotations
from detector.coco_metrics import coco_curves, coco_metrics
from detector.detections import Detections
from detector.match_tables import match_tables, needed_matches, resample_ap


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    path = write_data(tmp_path / "data", train=30) / "train.json"
    with_crowds(path, seed=0)
    return load_annotations(path.parent, "train")


def untied(detections: Detections) -> Detections:
    """The same with scores that all differ."""
    scores = np.random.default_rng(9).permutation(len(detections)).astype(np.float32)
    return replace(detections, score_N=scores / len(detections))


def repeated(
    annotations: Annotations, detections: Detections, times_I: np.ndarray
) -> tuple[Annotations, Detections]:
    """A data set in which every image stands as often as said, copies beside each other."""
    images = np.repeat(np.arange(annotations.num_images), times_I)
    longer = replace(annotations.select(images), image_ids=np.arange(len(images)) + 1)
    rows = [np.flatnonzero(detections.image_N == image) for image in images]
    copies = detections.select(np.concatenate(rows))
    copy_N = np.repeat(np.arange(len(images)), [len(part) for part in rows])
    return longer, replace(copies, image_N=copy_N)


@pytest.mark.parametrize("seed", range(4))
def test_without_resampling_ap_is_that_of_coco_metrics(annotations: Annotations, seed: int) -> None:
    found = random_detections(annotations, seed)
    ap_CT = resample_ap(match_tables(annotations, found), np.ones((1, annotations.num_images), np.int64))[0]
    wanted = coco_metrics(annotations, found)
    assert np.nanmean(ap_CT) == pytest.approx(wanted["AP"], abs=1e-6)
    assert np.nanmean(ap_CT[:, 0]) == pytest.approx(wanted["AP50"], abs=1e-6)
    curves = coco_curves(annotations, found)
    by_place = curves.precision_TRCA[..., 0].mean(axis=1).T
    np.testing.assert_allclose(ap_CT[curves.class_C], by_place, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_cocoeval_on_the_images_repeated(annotations: Annotations, seed: int) -> None:
    found = untied(random_detections(annotations, seed))
    count = annotations.num_images
    times_BI = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), 3)
    times_BI[2] = 0
    times_BI[2, :3] = 5  # some classes may have no box at all
    resampled_BCT = resample_ap(match_tables(annotations, found), times_BI)
    for times_I, ap_CT in zip(times_BI, resampled_BCT, strict=True):
        curves = coco_curves(*repeated(annotations, found, times_I))
        by_place = curves.precision_TRCA[..., 0].mean(axis=1).T
        np.testing.assert_allclose(np.nan_to_num(ap_CT[curves.class_C], nan=-1), by_place, atol=1e-6)


def test_resamples_worked_through_in_small_steps_are_the_same(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = match_tables(annotations, random_detections(annotations, seed=1))
    times_BI = np.random.default_rng(0).integers(0, 3, (20, annotations.num_images))
    whole = resample_ap(tables, times_BI)
    monkeypatch.setattr("detector.match_tables.STEP_SIZE", 300)
    np.testing.assert_array_equal(resample_ap(tables, times_BI), whole)


def test_a_detector_that_finds_nothing_has_ap_zero_where_there_is_something(annotations: Annotations) -> None:
    nothing = random_detections(annotations, seed=0).select(np.zeros(0, dtype=np.int64))
    tables = match_tables(annotations, nothing)
    ap_BCT = resample_ap(
        tables,
        np.stack([np.ones(annotations.num_images, np.int64), np.zeros(annotations.num_images, np.int64)]),
    )
    assert (ap_BCT[0] == 0).all()
    assert np.isnan(ap_BCT[1]).all()


def test_needed_matches_are_those_of_a_search_in_floating_point() -> None:
    counts = np.array([0, 1, 3, 10, 100, 7])
    for count, needed_R in zip(counts, needed_matches(counts), strict=True):
        for recall, needed in zip(np.linspace(0, 1, 101), needed_R, strict=True):
            if count:
                assert needed / count >= recall
                assert needed == 0 or (needed - 1) / count < recall
