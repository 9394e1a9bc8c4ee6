"""Trust in the rows of a corpus: against loops over its equations, its laws, and what it must tell apart."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_data

from detector.annotations import load_annotations
from detector.interfaces import UpdateInputs
from detector.knowledge import lift_of
from detector.overrides import override
from detector.preparation import build_from, load_inputs
from detector.reasoning.class_lift import ClassLiftConfig
from detector.recipes import load_recipe
from detector.trust import count_pairs, row_trust, trusted_lift
from kgtool.graph import make_graph, save_graph
from kgtool.sample_world import World


def loops(lift: np.ndarray, pairs: np.ndarray) -> list[float]:
    """The equations at the top of trust.py, one sum at a time, and many more rounds."""
    classes = range(len(lift))
    share = [(sum(pairs[c][d] for c in classes) + 1) / (pairs.sum() + len(lift)) for d in classes]
    evidence = []
    for c in classes:
        total = sum(share[e] * lift[c][e] for e in classes)
        evidence.append(sum(pairs[c][d] * math.log(lift[c][d] / total) for d in classes))
    right = 0.5
    for _ in range(5000):
        trust = [1 / (1 + (1 - right) / right * math.exp(-value)) for value in evidence]
        right = (1 + sum(trust)) / (2 + len(lift))
    return trust


def random_pairs(num_classes: int, largest: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, largest + 1, (num_classes, num_classes), generator=generator).double()
    return counts + counts.T


@pytest.mark.parametrize("seed", range(4))
def test_trust_is_that_of_loops_over_the_equations(seed: int) -> None:
    lift = lift_of(random_pairs(5, 6, seed), 1.0)
    pairs = random_pairs(5, 3, seed + 100)
    np.testing.assert_allclose(row_trust(lift, pairs), loops(lift.numpy(), pairs.numpy()), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.sampled_from([0, 1, 30, 100_000]), st.integers(0, 2**31))
def test_trust_is_a_share_and_follows_the_order_of_the_classes(
    num_classes: int, largest: int, seed: int
) -> None:
    lift, pairs = lift_of(random_pairs(num_classes, 9, seed), 1.0), random_pairs(num_classes, largest, ~seed)
    trust = row_trust(lift, pairs)
    assert ((trust >= 0) & (trust <= 1)).all()
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    moved = row_trust(lift[order][:, order], pairs[order][:, order])
    torch.testing.assert_close(moved, trust[order], atol=1e-6, rtol=0)


def test_where_nothing_is_known_trust_is_one_half() -> None:
    lift, pairs = lift_of(random_pairs(4, 9, 0), 1.0), random_pairs(4, 9, 1)
    half = torch.full((4,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(row_trust(lift, torch.zeros(4, 4)), half)
    torch.testing.assert_close(row_trust(torch.ones(4, 4), pairs), half)


def test_a_lift_of_one_stays_one_to_the_bit_and_full_trust_changes_nothing() -> None:
    trust = torch.rand(4, dtype=torch.float64)
    assert torch.equal(trusted_lift(torch.ones(4, 4), trust), torch.ones(4, 4, dtype=torch.float64))
    lift = lift_of(random_pairs(4, 9, 0), 1.0)
    torch.testing.assert_close(trusted_lift(lift, torch.ones(4)), lift)
    assert torch.equal(trusted_lift(lift, torch.zeros(4)), torch.ones(4, 4, dtype=torch.float64))


def test_pairs_are_ordered_pairs_of_different_boxes_without_crowds(tmp_path: Path) -> None:
    annotations = load_annotations(write_data(tmp_path / "data"), "train")
    annotations = replace(annotations, crowd_N=np.arange(len(annotations.class_N)) % 5 == 0)
    expected = np.zeros((annotations.num_classes, annotations.num_classes))
    image_N = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))
    for one in np.flatnonzero(~annotations.crowd_N):
        for two in np.flatnonzero(~annotations.crowd_N):
            if one != two and image_N[one] == image_N[two]:
                expected[annotations.class_N[one], annotations.class_N[two]] += 1
    assert expected.sum() > 0
    np.testing.assert_array_equal(count_pairs(annotations), expected)


# ---- what it is for


@cache
def sample_pairs(split: str, num_images: int) -> torch.Tensor:
    """Pairs of objects of a world whose classes context tells apart."""
    world = World("W", seed=0)
    pairs = torch.zeros(len(world.names), len(world.names), dtype=torch.float64)
    for image in range(num_images):
        of_class = torch.bincount(
            torch.from_numpy(world.annotations(split, image).labels), minlength=len(pairs)
        ).double()
        pairs += torch.outer(of_class, of_class) - torch.diag(of_class)
    return pairs


def shuffled(counts: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """Counts whose classes have changed places among some of them, each with another."""
    order = torch.arange(len(counts))
    chosen = among[torch.randperm(len(among), generator=torch.Generator().manual_seed(0))]
    order[chosen] = chosen.roll(1)
    return counts[order][:, order]


@pytest.mark.parametrize("num_images", [100, 400])
def test_a_right_corpus_is_trusted_and_a_shuffled_one_is_not(num_images: int) -> None:
    corpus, own = sample_pairs("corpus", 2000), sample_pairs("train", num_images)
    assert row_trust(lift_of(corpus, 1.0), own).mean() > 0.95
    wrong = shuffled(corpus, torch.arange(len(corpus)))
    assert row_trust(lift_of(wrong, 1.0), own).mean() < 0.1


def test_of_a_corpus_that_is_wrong_about_half_of_the_classes_the_other_half_is_trusted() -> None:
    corpus, own = sample_pairs("corpus", 2000), sample_pairs("train", 400)
    wrong = torch.arange(0, len(corpus), 2)
    trust = row_trust(lift_of(shuffled(corpus, wrong), 1.0), own)
    assert trust[wrong].mean() < 0.15
    assert trust[wrong + 1].mean() > 0.75


def test_a_corpus_with_noisy_labels_or_without_some_classes_is_still_trusted() -> None:
    corpus, own = sample_pairs("corpus", 2000), sample_pairs("train", 100)
    num_classes = len(corpus)
    known = (torch.arange(num_classes) % 2).double()
    assert row_trust(lift_of(corpus * torch.outer(known, known), 1.0), own).mean() > 0.85
    mixed = 0.5 * torch.eye(num_classes, dtype=torch.float64) + 0.5 / num_classes
    assert row_trust(lift_of(mixed.T @ corpus @ mixed, 1.0), own).mean() > 0.95


# ---- in the detector


def test_a_run_asks_its_training_images_and_says_how_far_it_trusts(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    annotations = load_annotations(data, "train")
    own = count_pairs(annotations)
    graph = make_graph(
        classes=("red", "green", "blue"),
        synsets=("", "", ""),
        weight=np.ones((3, 3)),
        counts=np.array([[9, 1, 0], [1, 9, 0], [0, 0, 5]]),
        kind="relation",
        recipe={"name": "paper"},
        dataset="test",
    )
    save_graph(graph, tmp_path / "graph.npz")
    lift = lift_of(torch.from_numpy(graph.counts), 1.0)
    trust = row_trust(lift, own)
    for wanted, expected in ((True, trusted_lift(lift, trust)), (False, lift)):
        config = override(load_recipe("class_lift_sample"), {"model.stages.0.score_update.trust": wanted})
        inputs = load_inputs(config, data, [tmp_path / "graph.npz"], ("train", "train"), None)
        model, _ = build_from(config, inputs, None)
        torch.testing.assert_close(model.stages[0].score_update.excess_CC, (expected - 1).float())
        found = model.diagnostics().get("stage1_lift_trust")
        assert found == (pytest.approx(float(trust.mean())) if wanted else None)


def test_without_training_images_to_ask_counts_are_taken_as_they_are() -> None:
    counts = random_pairs(4, 9, 0)
    update = ClassLiftConfig().build(UpdateInputs(4, counts))
    torch.testing.assert_close(update.excess_CC, (lift_of(counts, 1.0) - 1).float())
