"""What every score update must keep. Updates are found, not listed."""

import dataclasses
import pkgutil
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from tiny_models import (
    ARMS,
    NUM_CLASSES,
    detect,
    random_graph,
    random_regions,
    squares,
    tiny_config,
    tiny_model,
)
from torch import Tensor

import detector.reasoning
from detector.interfaces import Regions, UpdateConfig, UpdateInputs
from detector.positions import POSITIONS, PositionCounts
from detector.rcnn import build_model
from detector.reasoning.class_lift import ClassLiftConfig

IMAGES = [1, 0, 0, 1, 0, 1, 1]
CONFIGS = [
    value(learned=learned)
    for module in pkgutil.iter_modules(detector.reasoning.__path__)
    for value in vars(import_module(f"detector.reasoning.{module.name}")).values()
    if dataclasses.is_dataclass(value) and {"build", "needs_counts"} <= set(dir(value))
    for learned in (False, True)
] + [ClassLiftConfig(positions=True)]
every_update = pytest.mark.parametrize("config", CONFIGS, ids=str)


def random_counts(seed: int = 3) -> Tensor:
    counts = (20 * random_graph(seed=seed)).round()
    return counts + counts.T


def inputs_of(seed: int = 3, order: Tensor | None = None) -> UpdateInputs:
    """Counts of everything, with the classes in an order."""
    order = torch.arange(NUM_CLASSES) if order is None else order
    counts, own = (random_counts(number)[order][:, order] for number in (seed, 4))
    by_position = torch.stack([random_counts(number) for number in range(10, 10 + len(POSITIONS))])
    by_position = by_position[:, order][:, :, order].double()
    index = by_position.nonzero().T
    positions = PositionCounts(NUM_CLASSES, index, by_position[tuple(index)])
    return UpdateInputs(NUM_CLASSES, counts, own, positions)


def build(config: UpdateConfig, seed: int = 3) -> torch.nn.Module:
    update = config.build(inputs_of(seed))
    assert isinstance(update, torch.nn.Module)
    return update.eval()


def example(seed: int = 0) -> tuple[Tensor, Regions]:
    regions = random_regions(IMAGES, 2, width=4, seed=seed)
    corner = 80 * torch.arange(len(IMAGES))[:, None] * torch.tensor([[1.0, 0.0]])
    overlapping = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [2, 3, 4, 2]])
    boxes = torch.cat([corner, corner + 30], dim=1)
    boxes[2] = boxes[1] + overlapping[2]
    assert regions.logits_RK is not None
    return 3 * regions.logits_RK, replace(regions, boxes_R4=boxes)


def test_there_is_one() -> None:
    assert {type(config).__name__ for config in CONFIGS} >= {"ClassLiftConfig"}


@every_update
def test_it_changes_scores_and_keeps_their_shape(config: UpdateConfig) -> None:
    logits, regions = example()
    changed = build(config)(logits, regions)
    assert changed.shape == logits.shape
    assert not torch.allclose(changed, logits)


@every_update
def test_permuting_the_regions_permutes_the_scores(config: UpdateConfig) -> None:
    update, (logits, regions) = build(config), example()
    order = torch.tensor([4, 2, 6, 0, 5, 1, 3])
    torch.testing.assert_close(update(logits[order], regions[order]), update(logits, regions)[order])


@every_update
def test_regions_of_one_image_do_not_see_another(config: UpdateConfig) -> None:
    update, (logits, regions), (other, _) = build(config), example(), example(seed=9)
    mine = regions.image_R == 0
    before = update(logits, regions)
    after = update(torch.where(mine[:, None], logits, other), regions)
    assert torch.equal(after[mine], before[mine])
    assert not torch.allclose(after[~mine], before[~mine])
    alone = replace(
        regions[mine], image_R=torch.zeros(int(mine.sum()), dtype=torch.int64), sizes_B2=regions.sizes_B2[:1]
    )
    torch.testing.assert_close(update(logits[mine], alone), before[mine])


@every_update
def test_no_regions_and_images_without_regions_work(config: UpdateConfig) -> None:
    update, (logits, regions) = build(config), example()
    none = torch.zeros(0, dtype=torch.int64)
    assert update(logits[none], regions[none]).shape == (0, NUM_CLASSES + 1)
    mine = regions.image_R == 0
    torch.testing.assert_close(update(logits[mine], regions[mine]), update(logits, regions)[mine])


@every_update
def test_permuting_the_classes_permutes_the_scores(config: UpdateConfig) -> None:
    logits, regions = example()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    columns = torch.cat([torch.tensor([0]), order + 1])
    moved = config.build(inputs_of(order=order))
    assert isinstance(moved, torch.nn.Module)
    torch.testing.assert_close(
        moved.eval()(logits[:, columns], regions), build(config)(logits, regions)[:, columns]
    )


@every_update
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_is_finite_and_near(config: UpdateConfig, half: torch.dtype) -> None:
    update, (logits, regions) = build(config), example()
    with torch.autocast("cpu", dtype=half):
        changed = update(logits.to(half), regions)
    torch.testing.assert_close(changed.float(), update(logits, regions), rtol=0.05, atol=0.1)


@every_update
def test_loading_the_state_of_another_gives_its_scores(config: UpdateConfig) -> None:
    one, two, (logits, regions) = build(config), build(config, seed=5), example()
    assert not torch.allclose(one(logits, regions), two(logits, regions))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(logits, regions), two(logits, regions))


@every_update
def test_every_parameter_and_the_scores_given_get_a_gradient(config: UpdateConfig) -> None:
    update, (logits, regions) = build(config), example()
    logits = logits.clone().requires_grad_()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (update.train()(logits, regions) * weights).sum().backward()
    for tensor in (logits, *update.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()


@every_update
def test_diagnostics_are_scalars_that_a_step_of_the_optimiser_does_not_change(config: UpdateConfig) -> None:
    update = build(config)
    update(*example())
    found = update.diagnostics()
    before = {name: value.item() for name, value in found.items()}
    assert all(isinstance(value, Tensor) and not value.requires_grad for value in found.values())
    for parameter in update.parameters():
        parameter.data.add_(1)
    assert {name: value.item() for name, value in found.items()} == before


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@every_update
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_compiled_update_gives_what_the_plain_one_gives(config: UpdateConfig, training: bool) -> None:
    """Traced with its gradients and run by torch itself: no compiler is needed, and it takes a second."""
    torch.compiler.reset()
    update, (logits, regions) = build(config).train(training), example()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    found = []
    for run in (update, torch.compile(update, backend="aot_eager")):
        update.zero_grad()
        given = logits.clone().requires_grad_()
        changed = run(given, regions)
        (changed * weights).sum().backward()
        found.append([changed, given.grad, *(weight.grad for weight in update.parameters())])
    torch.testing.assert_close(found[1], found[0])


def test_without_an_update_a_stage_has_none() -> None:
    assert all(stage.score_update is None for stage in tiny_model().stages)


@pytest.mark.parametrize("arm", ARMS)
def test_it_goes_behind_any_head_in_training_and_evaluation(arm: str) -> None:
    update = ClassLiftConfig(strength=3.0, learned=True)
    config = tiny_config(*ARMS[arm], score_threshold=0.0)
    stages = (*config.stages[:-1], replace(config.stages[-1], score_update=update))
    torch.manual_seed(0)
    model = build_model(replace(config, stages=stages), NUM_CLASSES, random_graph(), random_counts().double())
    losses = model(*squares(2))
    torch.stack(list(losses.values())).sum().backward()
    strength = model.stages[-1].score_update.strength
    assert strength.grad is not None
    assert strength.grad != 0
    before = detect(model, squares(1)[0])[0]["scores"]
    model.stages[-1].score_update = None
    assert not torch.equal(detect(model, squares(1)[0])[0]["scores"], before)
