"""Class lift against loops over its equations, and its laws."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_data
from tiny_models import NUM_CLASSES, random_graph, random_image, tiny_config, tiny_model
from torch import Tensor

from detector.checkpoint import load_run
from detector.config import StageConfig
from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, Regions, TwoLinearConfig, UpdateInputs
from detector.knowledge import lift_of, load_knowledge
from detector.overrides import override
from detector.rcnn import build_model
from detector.reasoning.class_lift import ClassLift, ClassLiftConfig
from detector.recipes import load_recipe
from detector.train import train
from kgtool.graph import make_graph, save_graph

#: Three objects; the second is covered by two proposals, and the last proposal is background.
BOXES = [[0, 0, 10, 10], [50, 0, 60, 10], [51, 0, 61, 10], [0, 50, 10, 60], [80, 80, 90, 90]]
PAIRS = np.array([[6, 4, 0, 1], [4, 2, 1, 0], [0, 1, 8, 3], [1, 0, 3, 0]], dtype=np.float64)


def loops(logits: np.ndarray, boxes: np.ndarray, lift: np.ndarray, strength: float) -> np.ndarray:
    """The equations at the top of reasoning/class_lift.py, one sum at a time."""
    num_regions, num_columns = logits.shape
    classes = range(1, num_columns)
    probability = [
        [math.exp(value) / sum(math.exp(other) for other in row) for value in row] for row in logits
    ]

    def overlap(one: np.ndarray, two: np.ndarray) -> float:
        width = min(one[2], two[2]) - max(one[0], two[0])
        height = min(one[3], two[3]) - max(one[1], two[1])
        common = max(width, 0) * max(height, 0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
        return common / (sum(areas) - common)

    changed = np.array(logits, dtype=np.float64)
    for i in range(num_regions):
        context = dict.fromkeys(classes, 0.0)
        for j in range(num_regions):
            if overlap(boxes[i], boxes[j]) >= 0.3:
                continue
            voices = sum(
                1 - probability[k][0] for k in range(num_regions) if overlap(boxes[j], boxes[k]) > 0.4
            )
            for c in classes:
                heard = probability[j][0] + sum(probability[j][d] * lift[d - 1, c - 1] for d in classes)
                context[c] += math.log(heard) / max(1.0, voices)
        before = sum(math.exp(logits[i][c]) for c in classes)
        after = sum(math.exp(logits[i][c] + strength * context[c]) for c in classes)
        for c in classes:
            changed[i, c] += strength * context[c] - math.log(after / before)
    return changed


def regions_of(boxes: Tensor) -> Regions:
    return Regions(
        boxes_R4=boxes,
        image_R=torch.zeros(len(boxes), dtype=torch.int64),
        sizes_B2=torch.tensor([[100, 100]]),
        context=FeatureMaps((), ()),
    )


def example(num_classes: int = 4, seed: int = 0) -> tuple[Tensor, Regions]:
    logits = 2 * torch.randn(len(BOXES), num_classes + 1, generator=torch.Generator().manual_seed(seed))
    logits[-1, 0] = 9
    return logits, regions_of(torch.tensor(BOXES, dtype=torch.float32))


def build(lift: Tensor, **options: float) -> ClassLift:
    return ClassLift(ClassLiftConfig(**options), lift).eval()


@pytest.mark.parametrize("strength", [0.5, 1.7, -0.3])
def test_scores_are_those_of_loops_over_the_equations(strength: float) -> None:
    lift = lift_of(torch.from_numpy(PAIRS), 1.0)
    for seed in range(4):
        logits, regions = example(seed=seed)
        expected = loops(logits.double().numpy(), np.array(BOXES), lift.numpy(), strength)
        found = build(lift, strength=strength)(logits, regions)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.3, 1.0])
def test_lift_is_that_of_loops_over_the_counts(smoothing: float) -> None:
    found = lift_of(torch.from_numpy(PAIRS), smoothing)
    total = sum(PAIRS[c][d] for c in range(4) for d in range(4))
    for c in range(4):
        for d in range(4):
            expected = sum(PAIRS[c]) * sum(PAIRS[d]) / total
            assert found[c, d] == pytest.approx((PAIRS[c, d] + smoothing) / (expected + smoothing))


def test_lift_of_independent_classes_and_of_no_counts_is_one() -> None:
    share = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(lift_of(torch.outer(share, share), 1.0), torch.ones(3, 3, dtype=torch.float64))
    assert torch.equal(lift_of(torch.zeros(3, 3), 1.0), torch.ones(3, 3, dtype=torch.float64))


def test_lift_of_one_and_strength_zero_and_one_region_change_no_bit() -> None:
    logits, regions = example()
    lift = lift_of(torch.from_numpy(PAIRS), 1.0)
    assert torch.equal(build(torch.ones(4, 4))(logits, regions), logits)
    assert torch.equal(build(lift, strength=0.0)(logits, regions), logits)
    one = torch.tensor([1])
    assert torch.equal(build(lift)(logits[one], regions[one]), logits[one])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(-3, 3), st.integers(1, 30), st.sampled_from([1.0, 10.0, 1e6]))
def test_the_share_of_foreground_stays_and_all_is_finite(
    seed: int, strength: float, num_regions: int, largest: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 20 * torch.randn(num_regions, 6, generator=generator)
    corner = 100 * torch.rand(num_regions, 2, generator=generator)
    boxes = torch.cat([corner, corner + 40 * torch.rand(num_regions, 2, generator=generator)], dim=1)
    counts = (largest * torch.rand(5, 5, generator=generator)).round()
    found = build(lift_of(counts + counts.T, 1.0), strength=strength)(logits, regions_of(boxes))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.softmax(1)[:, 0], logits.softmax(1)[:, 0], rtol=1e-3, atol=1e-5)


def test_an_object_speaks_once_however_many_proposals_cover_it() -> None:
    logits, regions = example()
    logits[:, 0] = -20.0  # all are surely objects
    logits[2] = logits[1]
    regions = replace(regions, boxes_R4=regions.boxes_R4[[0, 1, 1, 3, 4]])
    update = build(lift_of(torch.from_numpy(PAIRS), 1.0))
    fewer = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(update(logits, regions)[fewer], update(logits[fewer], regions[fewer]))


def test_only_the_surest_objects_speak_and_all_listen() -> None:
    logits, regions = example()
    lift = lift_of(torch.from_numpy(PAIRS), 1.0)
    surest = int(logits.softmax(1)[:, 0].argmin())
    quiet = build(lift, speakers=1)(logits, regions)
    others = [row for row in range(len(BOXES)) if row != surest]
    silenced = logits.clone()
    silenced[others, 0] = 90.0  # background says nothing
    expected = build(lift).listen(silenced.softmax(1), regions)
    torch.testing.assert_close(build(lift, speakers=1).listen(logits.softmax(1), regions), expected)
    assert torch.equal(quiet[surest], logits[surest])
    assert torch.equal(build(lift, speakers=5)(logits, regions), build(lift)(logits, regions))


def test_background_says_nothing() -> None:
    logits, regions = example()
    logits[3, 0] = 60.0
    update = build(lift_of(torch.from_numpy(PAIRS), 1.0))
    others = torch.tensor([0, 1, 2, 4])
    torch.testing.assert_close(update(logits, regions)[others], update(logits[others], regions[others]))


def test_a_fixed_strength_leaves_training_alone_and_a_learned_one_does_not() -> None:
    logits, regions = example()
    lift = lift_of(torch.from_numpy(PAIRS), 1.0)
    fixed = build(lift).train()
    assert fixed(logits, regions) is logits
    assert list(fixed.parameters()) == []
    learned = ClassLift(ClassLiftConfig(learned=True), lift).train()
    torch.testing.assert_close(learned(logits, regions), build(lift)(logits, regions))
    assert [name for name, _ in learned.named_parameters()] == ["strength"]


def test_the_strength_grows_where_context_is_right_and_falls_where_it_is_wrong() -> None:
    """Class 1 and 2 go together; the uncertain region is 2 in one task and 3 in the other."""
    counts = torch.tensor([[0.0, 50, 1], [50, 0, 1], [1, 1, 50]])
    logits = torch.tensor([[-9.0, 6, 0, 0], [-9, 0, 1, 1]])
    regions = regions_of(torch.tensor([[0.0, 0, 10, 10], [50, 0, 60, 10]]))
    for label, direction in ((2, -1), (3, 1)):
        update = ClassLift(ClassLiftConfig(learned=True), lift_of(counts, 1.0)).train()
        torch.nn.functional.cross_entropy(update(logits, regions), torch.tensor([1, label])).backward()
        assert isinstance(update.strength, Tensor)
        assert update.strength.grad is not None
        assert update.strength.grad.sign() == direction


def lifted(**options: object) -> StageConfig:
    return StageConfig(TwoLinearConfig(16), score_update=ClassLiftConfig(**options))


def test_a_detector_without_knowledge_is_the_plain_one_to_the_bit() -> None:
    plain = tiny_model(score_threshold=0.0).eval()
    counts = (10 * random_graph()).round()
    images = [random_image(1), random_image(2)]
    for update, same in ((lifted(strength=0.0), True), (lifted(strength=4.0), False)):
        model = build_model(
            tiny_config(stages=(update,), score_threshold=0.0), NUM_CLASSES, None, counts + counts.T
        )
        missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
        assert missing == ["stages.0.score_update.excess_CC"]
        with torch.no_grad():
            pairs = list(zip(model.eval()(images), plain(images), strict=True))
        assert all(torch.equal(one["scores"], two["scores"]) for one, two in pairs) == same
    assert model.diagnostics()["stage1_lift_strength"] == 4.0


def test_counts_come_in_the_order_of_the_data_in_both_directions(tmp_path: Path) -> None:
    counts = np.array([[3, 5, 0], [1, 0, 2], [0, 4, 7]])
    for kind, found_counts in (("relation", counts), ("attribute", counts), ("relation", counts + counts.T)):
        graph = make_graph(
            classes=("dog", "cat", "car"),
            synsets=("", "", ""),
            weight=np.ones((3, 3)),
            counts=found_counts,
            kind=kind,
            recipe={"name": "paper"},
            dataset="test",
        )
        save_graph(graph, tmp_path / "graph.npz", overwrite=True)
        found = load_knowledge(tmp_path / "graph.npz", ("car", "dog"), ("", "")).counts_CC
        if kind == "attribute":
            assert found is None
        else:
            assert found is not None
            assert found.tolist() == [[14, 0], [0, 6]]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="found no counts of class pairs in the class graph"):
        ClassLiftConfig().build(UpdateInputs(3, None))
    with pytest.raises(ConfigError, match=r"found \(2, 2\); expected \(3, 3\)"):
        ClassLiftConfig().build(UpdateInputs(3, torch.ones(2, 2)))
    with pytest.raises(ConfigError, match="smoothing: found 0"):
        ClassLiftConfig(smoothing=0.0)
    with pytest.raises(ConfigError, match="speakers: found 0"):
        ClassLiftConfig(speakers=0)
    with pytest.raises(ConfigError, match="strength: found nan"):
        ClassLiftConfig(strength=math.nan)


def test_a_run_with_class_lift_comes_back_and_its_strength_can_be_learned_alone(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
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
    few = {"train.epochs": 1, "train.batch_size": 3, "model.stages.0.score_update.trust": False}
    config = override(load_recipe("class_lift_sample"), few)
    train(config, data, tmp_path / "run", graphs=[tmp_path / "graph.npz"], quiet=True)
    loaded = load_run(tmp_path / "run", torch.device("cpu")).model
    expected = (lift_of(torch.tensor(graph.counts), 1.0) - 1).float()
    assert torch.equal(loaded.state_dict()["stages.0.score_update.excess_CC"], expected)

    settings = {"model.stages.0.score_update.learned": True, "train.part": "stages.0.score_update"}
    train(
        override(config, settings),
        data,
        tmp_path / "learned",
        graphs=[tmp_path / "graph.npz"],
        init=tmp_path / "run",
        quiet=True,
    )
    learned = load_run(tmp_path / "learned", torch.device("cpu")).model.state_dict()
    assert learned.pop("stages.0.score_update.strength") != 0.5
    assert all(torch.equal(learned[name], tensor) for name, tensor in loaded.state_dict().items())
