"""What every duplicate removal must keep, whichever it is. They are found, not listed."""

import dataclasses
import inspect
import itertools
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from tiny_models import NUM_CLASSES, random_regions, squares, tiny_model
from torch import Tensor, nn

import detector.reasoning
from detector import nms
from detector.config import ModelConfig
from detector.interfaces import DuplicateRemoval, Regions, RemovalConfig, RemovalInputs, SharedHeadConfig

WIDTH, LIMIT = 12, 9
IMAGES = [1, 0, 0, 1, 0, 1, 1, 3, 1, 0, 0, 3]
NUM_IMAGES = 4  # image 2 has no region

MODULES = [
    nms,
    *(
        import_module(f"detector.reasoning.{module.name}")
        for module in pkgutil.iter_modules(detector.reasoning.__path__)
    ),
]


def builds_removal(value: object) -> bool:
    if not (inspect.isclass(value) and dataclasses.is_dataclass(value) and hasattr(value, "build")):
        return False
    return RemovalInputs in get_type_hints(value.build).values()


def variants() -> Iterator[RemovalConfig]:
    """Every combination of the words that the options allow."""
    for module in MODULES:
        for config in vars(module).values():
            if builds_removal(config) and config.__module__ == module.__name__:
                fields = [field for field in dataclasses.fields(config) if get_origin(field.type) is Literal]
                for words in itertools.product(*(get_args(field.type) for field in fields)):
                    yield config(**{field.name: word for field, word in zip(fields, words, strict=True)})


VARIANTS = list(variants())
#: The first variant of each kind: compiling takes seconds.
KINDS = list({type(config): config for config in reversed(VARIANTS)}.values())

every_removal = pytest.mark.parametrize(
    "config",
    VARIANTS,
    ids=lambda config: "-".join(
        [type(config).__name__, *(value for value in vars(config).values() if isinstance(value, str))]
    ),
)


def build(config: RemovalConfig, seed: int = 0, limit: int = LIMIT) -> DuplicateRemoval:
    torch.manual_seed(seed)
    return config.build(RemovalInputs(WIDTH, NUM_CLASSES, score_threshold=1e-4, limit=limit))


def example(seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Regions]:
    """Scores, boxes, features and regions; boxes overlap, since they lie in a small image."""
    generator = torch.Generator().manual_seed(seed)
    regions = random_regions(IMAGES, NUM_IMAGES, width=WIDTH, seed=seed)
    scores = (torch.randn(len(IMAGES), NUM_CLASSES + 1, generator=generator) * 2).softmax(dim=1)
    return scores, regions.boxes_R4, torch.randn(len(IMAGES), WIDTH, generator=generator), regions


def detect(removal: DuplicateRemoval, rows: Tensor | None = None, seed: int = 1) -> list[dict[str, Tensor]]:
    scores, boxes, features, regions = example(seed)
    rows = torch.arange(len(regions)) if rows is None else rows
    with torch.no_grad():
        detections, losses = removal(scores[rows], boxes[rows], features[rows], regions[rows], None)
    assert losses == {}
    return detections


def learn(removal: DuplicateRemoval) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    scores, boxes, features, regions = example()
    targets = [
        {"boxes": boxes[regions.image_R == image][:2] + 1, "labels": torch.tensor([1, 3, 2, 5][:2])}
        for image in (0, 1)
    ]
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return removal(scores, boxes, features, regions, [*targets, nothing, nothing])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(one[name], other[name])


def test_the_plain_one_is_greedy_and_all_kinds_are_held_to_the_same() -> None:
    assert ModelConfig.__dataclass_fields__["duplicate_removal"].default_factory is nms.GreedyNMSConfig
    assert {"GreedyNMSConfig", "SoftNMSConfig"} <= {type(config).__name__ for config in VARIANTS}


@every_removal
def test_detections_come_best_first_without_background_and_within_the_limit(config: RemovalConfig) -> None:
    detections = detect(build(config, limit=4))
    assert [len(found["boxes"]) for found in detections] == [4, 4, 0, 4]
    for found in detections:
        assert len(found["scores"]) == len(found["labels"]) == len(found["boxes"])
        assert found["boxes"].shape[1:] == (4,)
        assert found["labels"].dtype == torch.int64
        assert ((found["labels"] >= 1) & (found["labels"] <= NUM_CLASSES)).all()
        assert torch.equal(found["scores"], found["scores"].sort(descending=True).values)
        assert ((found["scores"] > 0) & (found["scores"] <= 1)).all()


@every_removal
def test_the_order_of_the_regions_does_not_matter(config: RemovalConfig) -> None:
    removal = build(config)
    order = torch.tensor([5, 2, 11, 9, 0, 8, 1, 7, 3, 10, 4, 6])
    for one, other in zip(detect(removal), detect(removal, order), strict=True):
        assert_same(one, other)


@every_removal
def test_regions_of_one_image_do_not_see_another(config: RemovalConfig) -> None:
    removal = build(config)
    mine = torch.nonzero(torch.tensor(IMAGES) == 1).flatten()
    alone, together = detect(removal, mine), detect(removal)
    assert_same(alone[1], together[1])
    assert all(len(found["boxes"]) == 0 for image, found in enumerate(alone) if image != 1)


@every_removal
def test_no_regions_and_one_region_work(config: RemovalConfig) -> None:
    removal = build(config)
    assert all(len(found["boxes"]) == 0 for found in detect(removal, torch.zeros(0, dtype=torch.int64)))
    one = detect(removal, torch.tensor([7]))
    assert len(one[3]["boxes"]) > 0
    assert torch.isfinite(one[3]["scores"]).all()


@every_removal
def test_training_gives_losses_alone_and_they_reach_every_weight(config: RemovalConfig) -> None:
    removal = build(config)
    detections, losses = learn(removal)
    assert detections == []
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    assert bool(losses) == bool(list(nn.ModuleList([removal]).parameters()))
    if losses:
        torch.stack(list(losses.values())).sum().backward()
    for name, weight in nn.ModuleList([removal]).named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), name


@every_removal
def test_training_without_regions_or_objects_is_finite(config: RemovalConfig) -> None:
    removal = build(config)
    scores, boxes, features, regions = example()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    none = torch.zeros(0, dtype=torch.int64)
    for rows in (none, torch.arange(len(regions))):
        _, losses = removal(scores[rows], boxes[rows], features[rows], regions[rows], [nothing] * NUM_IMAGES)
        assert all(torch.isfinite(loss) for loss in losses.values())


@every_removal
def test_ground_truth_that_joined_the_proposals_is_not_learnt_from(config: RemovalConfig) -> None:
    removal = build(config)
    _, expected = learn(removal)
    scores, boxes, features, regions = example()
    joined = torch.tensor([0, 3, *range(len(regions))])
    regions = replace(regions[joined], proposed_R=torch.arange(len(joined)) >= 2)
    targets = [
        {"boxes": boxes[torch.tensor(IMAGES) == image][:2] + 1, "labels": torch.tensor([1, 3])}
        for image in (0, 1)
    ]
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    _, losses = removal(
        scores[joined], boxes[joined], features[joined], regions, [*targets, nothing, nothing]
    )
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name])


@every_removal
def test_half_precision_is_finite_and_near(config: RemovalConfig) -> None:
    removal = build(config)
    exact = detect(removal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = detect(removal)
        _, losses = learn(removal)
    assert all(torch.isfinite(loss) for loss in losses.values())
    for one, other in zip(exact, rough, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"].float(), rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated")  # torchvision's, in its NMS
@pytest.mark.parametrize("config", KINDS, ids=lambda config: type(config).__name__)
def test_a_compiled_removal_gives_what_the_plain_one_gives(config: RemovalConfig) -> None:
    """Traced with its gradients and run by torch itself: no compiler is needed. One image: each is traced."""
    torch.compiler.reset()
    removal = build(config)
    mine = torch.tensor(IMAGES) == 0
    scores, boxes, features, regions = example()
    alone = replace(regions[mine], sizes_B2=regions.sizes_B2[:1])
    inputs = (scores[mine], boxes[mine], features[mine], alone)
    targets = [{"boxes": boxes[mine][:2] + 1, "labels": torch.tensor([1, 3])}]
    found = []
    for run in (removal, torch.compile(removal, backend="aot_eager")):
        with torch.no_grad():
            ((detections,), _) = run(*inputs, None)
        _, losses = run(*inputs, targets)
        weights = list(nn.ModuleList([removal]).parameters())
        gradients = torch.autograd.grad(list(losses.values()), weights) if losses else ()
        found.append([detections, losses, gradients])
    assert len(found[0][0]["boxes"]) > 1
    torch.testing.assert_close(found[1], found[0])


class Witness(nn.Module):
    """Keeps what a detector hands to its duplicate removal."""

    def forward(self, *seen: object) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        self.seen = seen
        empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
        return ([empty, empty], {}) if seen[-1] is None else ([], {"seen": torch.tensor(0.5)})


def test_a_detector_hands_on_scores_boxes_and_features_of_its_last_stage_in_one_order() -> None:
    model = tiny_model(SharedHeadConfig())
    model.duplicate_removal = Witness()
    images, targets = squares(2)
    for mode in (True, False):
        model.train(mode)
        outputs = []
        model.stages[1].register_forward_hook(lambda _, __, output, seen=outputs: seen.append(output))
        result = model(images, targets)
        scores, boxes, features, regions, given = model.duplicate_removal.seen
        torch.testing.assert_close(scores, outputs[0].logits_RK.softmax(dim=1))
        assert features is outputs[0].features_RD
        assert torch.equal(boxes, regions.boxes_R4)
        assert (given is not None) == mode
        if mode:
            assert float(result["duplicates_seen"]) == 0.5
            added = sum(len(target["boxes"]) for target in targets)
            assert int((~regions.proposed_R).sum()) == added
