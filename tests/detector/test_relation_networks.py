"""Relation Networks against NumPy loops written from the paper, on five regions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import NUM_CLASSES, head_inputs, random_regions, squares, tiny_model
from torch import Tensor, nn

from detector.config import StageConfig
from detector.errors import ConfigError
from detector.interfaces import RemovalInputs, TwoLinearConfig
from detector.object_relation import ObjectRelation, embed, pair_weights, sinusoids
from detector.reasoning.relation_networks import (
    LearnedRemoval,
    LearnedRemovalConfig,
    RelationConfig,
    correct_boxes,
)

WIDTH, HEADS, KEY_WIDTH = 16, 4, 3
SMALL = {"width": WIDTH, "heads": HEADS, "key_width": KEY_WIDTH}
BOXES = np.array(
    [[10, 10, 30, 40], [12, 11, 33, 38], [50, 5, 60, 9], [0, 0, 64, 64], [30.5, 20.25, 41, 60]], dtype=float
)
Weights = dict[str, np.ndarray]


def relation_module(geometry: str, seed: int = 0) -> ObjectRelation:
    """A module whose weights are large enough that attention is far from even."""
    torch.manual_seed(seed)
    module = ObjectRelation(WIDTH, HEADS, KEY_WIDTH, geometry)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.5)
    return module


def waves_of_pairs(boxes: Tensor, seen: Tensor, form: str) -> Tensor:
    """E_G, (N, M, 64): w_G of a module with a head for each wave, which it takes as it is."""
    module = ObjectRelation(64, 64, 1, "full")
    nn.init.eye_(module.geometry.weight)
    nn.init.constant_(module.geometry.bias, 2.0)  # keeps w_G above 0
    with torch.no_grad():
        (weight,) = pair_weights([module], boxes, seen, form)
        return torch.cat(weight, dim=1).movedim(0, -1) - 2


def to_numpy(module: nn.Module) -> Weights:
    return {name: weight.detach().double().numpy() for name, weight in module.state_dict().items()}


def slow_waves(value: float, width: int) -> list[float]:
    """Sines, then cosines, of wave lengths 2 pi 1000^(k / (width / 2))."""
    angles = [value / 1000 ** (k / (width // 2)) for k in range(width // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def slow_geometry(boxes: np.ndarray, n: int, m: int, form: str) -> list[float]:
    """E_G(b_m, b_n): the text below equation 5, times 100."""

    def place(box: np.ndarray) -> tuple[float, float, float, float]:
        return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]

    (x_n, y_n, w_n, h_n), (x_m, y_m, w_m, h_m) = place(boxes[n]), place(boxes[m])
    w, h = (w_m, h_m) if form == "printed" else (w_n, h_n)
    numbers = [
        math.log(max(abs(x_m - x_n) / w, 1e-3)),
        math.log(max(abs(y_m - y_n) / h, 1e-3)),
        math.log(w_n / w_m),
        math.log(h_n / h_m),
    ]
    return [wave for number in numbers for wave in slow_waves(100 * number, 16)]


def slow_relation(
    weights: Weights, features: np.ndarray, boxes: np.ndarray, seen: list[int], geometry: str, form: str
) -> np.ndarray:
    """Algorithm 1, with equations 2 to 6, one pair and one head at a time."""
    if geometry == "unary":
        features = features.copy()
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            features[n] += [wave for number in numbers for wave in slow_waves(number, WIDTH // 4)]
    result = features.copy()
    part = WIDTH // HEADS
    for n in range(len(features)):
        for head in range(HEADS):
            keys = slice(head * KEY_WIDTH, (head + 1) * KEY_WIDTH)
            values = slice(head * part, (head + 1) * part)
            query = (weights["query.weight"] @ features[n] + weights["query.bias"])[keys]
            share, value = [], []
            for m in seen:
                key = (weights["key.weight"] @ features[m] + weights["key.bias"])[keys]
                appearance = math.exp(query @ key / math.sqrt(KEY_WIDTH))
                place = 1.0
                if geometry == "full":
                    waves = np.array(slow_geometry(boxes, n, m, form))
                    place = max(
                        weights["geometry.weight"][head] @ waves + weights["geometry.bias"][head], 1e-6
                    )
                share.append(place * appearance)
                value.append(weights["value.weight"][values] @ features[m] + weights["value.bias"][values])
            for weight, row in zip(share, value, strict=True):
                result[n, values] += weight / sum(share) * row
    return result


@pytest.mark.parametrize("form", ["printed", "released"])
def test_the_geometry_of_two_boxes_is_the_four_logs_as_waves(form: str) -> None:
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    place = waves_of_pairs(boxes, boxes[:3], form)
    assert place.shape == (5, 3, 64)
    expected = [[slow_geometry(BOXES, n, m, form) for m in range(3)] for n in range(5)]
    np.testing.assert_allclose(place.numpy(), expected, atol=2e-4)


def test_the_forms_differ_in_whose_width_a_distance_is_divided_by() -> None:
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    printed, released = (waves_of_pairs(boxes, boxes, form) for form in ("printed", "released"))
    torch.testing.assert_close(printed[..., 32:], released[..., 32:])
    torch.testing.assert_close(printed[..., :32], released[..., :32].transpose(0, 1))
    assert not torch.allclose(printed, released)


@given(
    st.floats(-500, 500),
    st.floats(-500, 500),
    st.floats(0.5, 4),
    st.sampled_from(["printed", "released"]),
)
def test_geometry_is_the_same_wherever_and_however_large(x: float, y: float, scale: float, form: str) -> None:
    boxes = torch.tensor(BOXES, dtype=torch.float64)
    moved = (boxes + torch.tensor([x, y, x, y], dtype=torch.float64)) * scale
    one, other = (waves_of_pairs(each, each, form) for each in (boxes, moved))
    near = (one - other).abs() < 0.1  # a centre distance of 0 is floored, and float32 rounds the others
    assert near.float().mean() > 0.98


@pytest.mark.parametrize("seen", [[0, 1, 2, 3, 4], [0, 2, 3]], ids=["all", "some"])
@pytest.mark.parametrize("form", ["printed", "released"])
@pytest.mark.parametrize("geometry", ["full", "unary", "none"])
def test_a_module_is_algorithm_1_done_by_hand(geometry: str, form: str, seen: list[int]) -> None:
    module = relation_module(geometry)
    features = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    (place,) = embed([module], boxes, boxes[seen], form)
    mask = torch.tensor([row in seen for row in range(5)])
    found = module(features, mask, place)
    expected = slow_relation(to_numpy(module), features.double().numpy(), BOXES, seen, geometry, form)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("r1", "r2"), [(1, 0), (0, 1), (1, 1), (2, 2), (4, 4)])
def test_modules_stand_after_each_linear_layer_and_before_its_relu(r1: int, r2: int) -> None:
    torch.manual_seed(0)
    head = RelationConfig(**SMALL, r1=r1, r2=r2).build(head_inputs(width=WIDTH))
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.2)
    pooled = torch.randn(5, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    regions = replace(
        random_regions([0] * 5, 1, width=WIDTH), boxes_R4=torch.tensor(BOXES, dtype=torch.float32)
    )
    weights = to_numpy(head)
    features = pooled.flatten(1).double().numpy()
    for layer, modules in ((6, head.relations6), (7, head.relations7)):
        features = features @ weights[f"fc{layer}.weight"].T + weights[f"fc{layer}.bias"]
        for module in modules:
            features = slow_relation(to_numpy(module), features, BOXES, list(range(5)), "full", "printed")
        features = np.maximum(features, 0)
    np.testing.assert_allclose(head(pooled, regions)[0].detach().numpy(), features, rtol=2e-3, atol=2e-3)
    assert (len(head.relations6), len(head.relations7)) == (r1, r2)


def test_without_modules_it_is_the_plain_head_by_the_same_names() -> None:
    inputs = head_inputs(width=WIDTH)
    head, plain = RelationConfig(**SMALL, r1=0, r2=0).build(inputs), TwoLinearConfig(WIDTH).build(inputs)
    plain.load_state_dict(head.state_dict())
    pooled, regions = torch.randn(4, 6, 3, 3), random_regions([0, 1, 1, 0], 2, width=WIDTH)
    torch.testing.assert_close(head(pooled, regions)[0], plain(pooled, regions)[0])


def test_ground_truth_that_joined_looks_but_is_not_looked_at() -> None:
    torch.manual_seed(0)
    head = RelationConfig(**SMALL).build(head_inputs(width=WIDTH))
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.3)
    pooled = torch.randn(6, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    regions = random_regions([0, 1, 0, 0, 1, 0], 2, width=WIDTH)
    proposed = torch.tensor([True, True, False, True, True, True])
    with_truth = head(pooled, replace(regions, proposed_R=proposed))[0]
    without = head(pooled[proposed], replace(regions, proposed_R=None)[proposed])[0]
    torch.testing.assert_close(with_truth[proposed], without)
    changed = torch.where(torch.tensor([1, 0, 0, 0, 0, 0])[:, None, None, None] > 0, -pooled, pooled)
    other = head(changed, replace(regions, proposed_R=proposed))[0]
    assert not torch.allclose(other[2], with_truth[2])


def test_a_module_and_the_released_removal_have_the_parameters_of_the_official_code() -> None:
    def count(module: nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters())

    assert count(ObjectRelation(1024, 16, 64, "full")) == 3_149_840
    assert count(ObjectRelation(1024, 16, 64, "none")) == 3_149_840 - (64 * 16 + 16)
    inputs = RemovalInputs(1024, 80, 0.001, 100)
    assert count(LearnedRemovalConfig(form="released").build(inputs)) == 544_789
    assert count(LearnedRemovalConfig().build(inputs)) == 544_789 - (1024 - 128) * 128
    plain, head = (
        config.build(replace(head_inputs(width=WIDTH), in_channels=256, roi_size=7))
        for config in (TwoLinearConfig(), RelationConfig())
    )
    assert count(head) - count(plain) == 2 * 3_149_840


def test_modules_start_as_a_small_change_of_the_plain_head() -> None:
    torch.manual_seed(0)
    head = RelationConfig().build(head_inputs(width=1024))
    plain = TwoLinearConfig().build(head_inputs(width=1024))
    plain.load_state_dict(head.state_dict(), strict=False)
    pooled, regions = torch.randn(9, 6, 3, 3), random_regions([0] * 9, 1, width=1024)
    with torch.no_grad():
        one, other = head(pooled, regions)[0], plain(pooled, regions)[0]
    assert 0 < (one - other).norm() / other.norm() < 0.5


EXTREME = torch.tensor(
    [[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 1e-6, 1e-6], [0, 0, 1333, 800], [1332, 799, 1333, 800]]
)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("geometry", ["full", "unary", "none"])
def test_flat_equal_and_distant_boxes_are_finite_in_half_precision(
    geometry: str, precision: torch.dtype
) -> None:
    torch.manual_seed(0)
    head = RelationConfig(geometry=geometry).build(head_inputs(width=1024))
    regions = replace(random_regions([0] * 5, 1, width=1024), boxes_R4=EXTREME)
    pooled = torch.randn(5, 6, 3, 3) * 300
    with torch.autocast("cpu", dtype=precision):
        features, _ = head(pooled, regions)
    features.float().mean().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(weight.grad).all() for weight in head.parameters())


def test_a_region_without_any_relation_is_defined() -> None:
    """Where every w_G is 0, equation 3 as printed is 0 / 0; the floor makes it the plain attention."""
    module = relation_module("full")
    nn.init.zeros_(module.geometry.weight)
    nn.init.constant_(module.geometry.bias, -1.0)
    plain = relation_module("none")
    plain.load_state_dict(
        {name: weight for name, weight in module.state_dict().items() if "geom" not in name}
    )
    features, boxes = torch.randn(5, WIDTH), torch.tensor(BOXES, dtype=torch.float32)
    (place,) = embed([module], boxes, boxes, "printed")
    torch.testing.assert_close(module(features, slice(None), place), plain(features, slice(None), None))


@pytest.mark.parametrize("block", [1, 3])
def test_boxes_taken_a_few_at_a_time_give_what_all_at_once_give(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head = RelationConfig(**SMALL).build(head_inputs(width=WIDTH))
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.3)
    pooled, regions = torch.randn(7, 6, 3, 3), random_regions([0, 1, 1, 0, 0, 1, 0], 2, width=WIDTH)
    expected = head(pooled, regions)[0], head.region_weights(pooled, regions)
    monkeypatch.setattr("detector.object_relation.BLOCK", block)
    found = head(pooled, regions)[0], head.region_weights(pooled, regions)
    torch.testing.assert_close(found, expected)


def test_a_compiled_head_gives_the_same() -> None:
    torch.manual_seed(0)
    head = RelationConfig(**SMALL).build(head_inputs(width=WIDTH))
    pooled, regions = torch.randn(7, 6, 3, 3), random_regions([0, 1, 1, 0, 0, 1, 0], 2, width=WIDTH)
    compiled = torch.compile(head, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(pooled, regions)[0], head(pooled, regions)[0])


def test_two_steps_of_training_give_the_losses_on_record() -> None:
    removal = LearnedRemovalConfig(form="released", **SMALL, first=20)
    stages = (StageConfig(RelationConfig(**SMALL), hard_regions=20),)
    model = tiny_model(stages=stages, duplicate_removal=removal, **WITHOUT_CHANCE)
    assert two_losses(model) == pytest.approx([3.14882, 2.34925], rel=1e-3)


# Duplicate removal


def learned(seed: int = 0, **changes: object) -> LearnedRemoval:
    torch.manual_seed(seed)
    config = LearnedRemovalConfig(**({"width": WIDTH, "heads": HEADS, "key_width": KEY_WIDTH} | changes))
    removal = config.build(RemovalInputs(WIDTH, NUM_CLASSES, score_threshold=1e-4, limit=100))
    for name, weight in removal.named_parameters():
        if name != "classifier.bias":
            nn.init.normal_(weight, std=0.4)
    return removal


def slow_removal(removal: LearnedRemoval, features: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """s1 of boxes of one class that come best first: section 4.3 and figure 3b."""
    weights, config = to_numpy(removal), removal.config
    start, width = (1, 128) if config.form == "printed" else (0, 1024)
    rows = []
    for place, row in enumerate(features):
        rank = np.array(slow_waves(start + place, width))
        rows.append(
            weights["rank.weight"] @ rank
            + weights["rank.bias"]
            + weights["appearance.weight"] @ row
            + weights["appearance.bias"]
        )
    module, everyone = to_numpy(removal.relation), list(range(len(rows)))
    related = slow_relation(module, np.array(rows), boxes, everyone, config.geometry, config.form)
    logits = np.maximum(related, 0) @ weights["classifier.weight"].T + weights["classifier.bias"]
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("form", ["printed", "released"])
@pytest.mark.parametrize("geometry", ["full", "unary", "none"])
def test_the_probability_of_being_no_duplicate_is_that_of_the_paper_done_by_hand(
    form: str, geometry: str
) -> None:
    removal = learned(form=form, geometry=geometry)
    features = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(3))
    orders = torch.tensor([[2, 0, 4], [1, 3, 0]])
    found = removal.classify(features, torch.tensor(BOXES, dtype=torch.float32), orders).detach().numpy()
    assert found.shape == (2, 3, 5)
    for place, order in enumerate(orders.tolist()):
        expected = slow_removal(removal, features.double().numpy()[order], BOXES[order])
        np.testing.assert_allclose(found[place], expected, rtol=2e-3, atol=1e-3)


def slow_iou(one: np.ndarray, other: np.ndarray) -> float:
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0.0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (areas[0] + areas[1] - width * height)


def slow_correct(boxes: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Boxes best first: each goes to the ground truth it overlaps most; the first there is correct."""
    correct = np.zeros((len(boxes), len(thresholds)))
    for column, threshold in enumerate(thresholds):
        taken = set()
        for row, box in enumerate(boxes):
            overlaps = [slow_iou(box, other) for other in truth]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best >= 0 and overlaps[best] >= threshold and best not in taken:
                taken.add(best)
                correct[row, column] = 1
    return correct


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 9), st.integers(0, 3))
def test_the_first_box_on_a_ground_truth_is_correct_and_later_ones_are_duplicates(
    seed: int, count: int, num_truth: int
) -> None:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([corner := generator.uniform(0, 30, (num_truth, 2)), corner + 20], axis=1)
    places = truth if num_truth else np.array([[10, 10, 30, 30]])
    boxes = generator.uniform(-4, 4, (count, 4)) + places[generator.integers(len(places), size=count)]
    thresholds = (0.5, 0.6, 0.7, 0.8, 0.9)
    found = correct_boxes(torch.tensor(boxes), torch.tensor(truth), thresholds)
    np.testing.assert_array_equal(found.numpy(), slow_correct(boxes, truth, thresholds))
    assert (found.sum(dim=0) <= num_truth).all()


def test_a_box_is_correct_up_to_the_threshold_that_it_overlaps_by() -> None:
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 6.5], [0.0, 0.0, 10.0, 9.5], [0.0, 0.0, 10.0, 10.0]])
    found = correct_boxes(boxes, truth, (0.5, 0.6, 0.7, 0.8, 0.9))
    assert found.tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]


def one_image(seed: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with class 7 nowhere above 0.01, boxes and features of five regions."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, NUM_CLASSES + 1, generator=generator)
    logits[:, 7] = -9
    features = torch.randn(5, WIDTH, generator=generator)
    return logits.softmax(dim=1), torch.tensor(BOXES, dtype=torch.float32), features


@pytest.mark.parametrize("form", ["printed", "released"])
def test_the_loss_is_the_cross_entropy_of_the_product_of_both_scores(form: str) -> None:
    removal = learned(form=form, first=4)
    scores, boxes, features = one_image()
    target = {"boxes": boxes[[0, 3, 1]] + 1, "labels": torch.tensor([2, 5, 7])}
    regions = random_regions([0] * 5, 1, width=WIDTH)
    _, losses = removal(scores, boxes, features, regions, [target])
    total = 0.0
    for label in range(1, NUM_CLASSES + 1):
        order = np.argsort(-scores[:, label].numpy())[:4]
        probability = slow_removal(removal, features.double().numpy()[order], BOXES[order])
        truth = (BOXES[[0, 3, 1]] + 1)[target["labels"].numpy() == label]
        correct = slow_correct(BOXES[order], truth, removal.config.thresholds)
        for (place, column), right in np.ndenumerate(correct):
            score = float(scores[order[place], label]) * probability[place, column]
            if right:
                total -= math.log(score) * (4 if form == "released" else 1)
            else:
                total -= math.log(1 - score)
    expected = total / (4 * 5) / (1 if form == "released" else NUM_CLASSES)
    np.testing.assert_allclose(float(losses["score"].detach()), expected, rtol=2e-3)


def test_a_score_is_multiplied_by_the_mean_over_thresholds_and_nothing_is_suppressed_after() -> None:
    removal = learned(first=4)
    scores, boxes, features = one_image()
    regions = random_regions([0] * 5, 1, width=WIDTH)
    with torch.no_grad():
        (found,), _ = removal(scores, boxes, features, regions, None)
    expected = []
    for label in range(1, NUM_CLASSES):  # not the last: below 0.01 everywhere
        order = np.argsort(-scores[:, label].numpy())[:4]
        probability = slow_removal(removal, features.double().numpy()[order], BOXES[order]).mean(axis=1)
        expected += [
            (float(scores[row, label]) * probability[place], label, row) for place, row in enumerate(order)
        ]
    expected = [entry for entry in sorted(expected, reverse=True) if entry[0] > 1e-4]
    assert len(expected) == 4 * (NUM_CLASSES - 1)
    np.testing.assert_allclose(found["scores"].numpy(), [score for score, _, _ in expected], rtol=2e-3)
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    assert torch.equal(found["boxes"], boxes[[row for _, _, row in expected]])


def test_end_to_end_the_loss_of_duplicates_reaches_head_and_backbone() -> None:
    model = tiny_model(duplicate_removal=LearnedRemovalConfig(**SMALL))
    losses = model(*squares(2))
    losses["duplicates_score"].backward()
    for part in (model.backbone, model.stages[0].head, model.stages[0].class_layer):
        assert any(weight.grad is not None and weight.grad.any() for weight in part.parameters())
    assert model.stages[0].box_layer.weight.grad is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RelationConfig(geometry="binary"), 'head.geometry: found "binary"; expected one of full'),
        (lambda: RelationConfig(width=100), "head.width: found 100; expected a multiple of 8 and of the 16"),
        (lambda: RelationConfig(r1=-1), "head.r1: found -1; expected 0 or more"),
        (lambda: RelationConfig(heads=0), "head.heads: found 0; expected 1 or more"),
        (lambda: LearnedRemovalConfig(form="best"), 'model.duplicate_removal.form: found "best"'),
        (lambda: LearnedRemovalConfig(first=0), "model.duplicate_removal.first: found 0"),
        (lambda: LearnedRemovalConfig(thresholds=()), "thresholds: found .*expected numbers from 0 to 1"),
        (lambda: LearnedRemovalConfig(class_threshold=2.0), "class_threshold: found .*2.0"),
    ],
)
def test_a_wrong_option_is_told(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_waves_start_with_sines_and_end_with_cosines() -> None:
    np.testing.assert_allclose(
        sinusoids(torch.tensor([0.0, 3.0]), 4).numpy(), [slow_waves(0, 4), slow_waves(3, 4)], atol=1e-6
    )
