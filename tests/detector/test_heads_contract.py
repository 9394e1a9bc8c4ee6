"""What every box head must keep, whichever paper it is from. Heads and variants are found, not listed."""

import dataclasses
import itertools
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Literal, get_args, get_origin

import pytest
import torch
from tiny_models import head_inputs, random_regions
from torch import Tensor, nn

import detector.reasoning
from detector import heads, interfaces
from detector.errors import ConfigError
from detector.interfaces import BoxHead, FeatureMaps, HeadConfig, HeadInputs, Regions

WIDTH = 12
IMAGES = [1, 0, 0, 1, 0, 1, 1]

PAPERS = [
    import_module(f"detector.reasoning.{module.name}")
    for module in pkgutil.iter_modules(detector.reasoning.__path__)
]


def head_configs(module: ModuleType) -> list[type]:
    """Dataclasses of a module that build a head; those of context blocks have no `needs_graph`."""
    return [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value)
        and {"build", "needs_graph"} <= set(dir(value))
        and value.__module__ == module.__name__
    ]


def variants(config: type) -> Iterator[HeadConfig]:
    """Every combination of the words that a head's options allow."""
    fields = [field for field in dataclasses.fields(config) if get_origin(field.type) is Literal]
    for words in itertools.product(*(get_args(field.type) for field in fields)):
        yield config(**{field.name: word for field, word in zip(fields, words, strict=True)})


def name_of(config: HeadConfig) -> str:
    words = [str(value) for value in vars(config).values() if isinstance(value, str)]
    return "-".join([type(config).__name__.removesuffix("Config"), *words])


VARIANTS = [
    variant
    for module in (interfaces, heads, *PAPERS)
    for config in head_configs(module)
    for variant in variants(config)
]
every_head = pytest.mark.parametrize("config", VARIANTS, ids=name_of)
every_half = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])

#: One of each kind: compiling takes a second.
KINDS = [config() for module in (interfaces, *PAPERS) for config in head_configs(module)]


def build(config: HeadConfig, seed: int = 0) -> tuple[BoxHead, nn.ModuleList, HeadInputs]:
    """A head, the modules that hold its weights (own, previous stage's), and what it was built from."""
    torch.manual_seed(seed)
    inputs = head_inputs(width=WIDTH)
    head = config.build(inputs)
    return head, nn.ModuleList([head, inputs.previous]), inputs


def builds_alone(config: HeadConfig) -> bool:
    """Whether a head needs no stage before it."""
    try:
        config.build(replace(head_inputs(width=WIDTH), previous=None))
    except ConfigError:
        return False
    return True


def pooled_maps(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 6, 3, 3, generator=torch.Generator().manual_seed(seed))


def example() -> tuple[Tensor, Regions]:
    return pooled_maps(len(IMAGES)), random_regions(IMAGES, 2, width=WIDTH)


def test_every_paper_that_fills_box_head_has_one_and_the_plain_ones_are_held_to_the_same() -> None:
    for paper in PAPERS:
        says_so = re.search(r"^Fills: BoxHead", paper.__doc__ or "", flags=re.MULTILINE) is not None
        assert bool(head_configs(paper)) == says_so, paper.__name__
    assert any(head_configs(paper) for paper in PAPERS)
    assert {"TwoLinearConfig", "SharedHeadConfig"} <= {type(config).__name__ for config in VARIANTS}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda module: module.__name__.split(".")[-1])
def test_a_paper_opens_with_what_it_is_and_where_we_depart(paper: ModuleType) -> None:
    labels = (
        "Paper",
        "Official code",
        "Fills",
        "Needs",
        "Equations",
        "Shapes",
        "Departs from the paper",
        "Numbers",
    )
    found = re.findall(rf"^({'|'.join(labels)}):", paper.__doc__ or "", flags=re.MULTILINE)
    assert tuple(found) == labels


@every_head
def test_a_head_returns_one_row_a_region_of_the_width_it_says(config: HeadConfig) -> None:
    head, _, _ = build(config)
    features, losses = head(*example())
    assert features.shape == (len(IMAGES), head.out_features)
    assert torch.isfinite(features).all()
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())


@every_head
def test_permuting_the_regions_permutes_the_output(config: HeadConfig) -> None:
    head, _, _ = build(config)
    pooled, regions = example()
    order = torch.tensor([4, 2, 6, 0, 5, 1, 3])
    torch.testing.assert_close(head(pooled[order], regions[order])[0], head(pooled, regions)[0][order])


@every_head
def test_regions_of_one_image_do_not_see_another(config: HeadConfig) -> None:
    head, _, _ = build(config)
    pooled, regions = example()
    mine = regions.image_R == 0
    other = random_regions(IMAGES, 2, width=WIDTH, seed=9)
    maps = tuple(
        torch.cat([own[:1], theirs[1:]])
        for own, theirs in zip(regions.context.maps, other.context.maps, strict=True)
    )
    assert regions.logits_RK is not None
    assert other.logits_RK is not None
    changed = replace(
        regions,
        context=FeatureMaps(maps, regions.context.strides),
        boxes_R4=torch.where(mine[:, None], regions.boxes_R4, other.boxes_R4),
        logits_RK=torch.where(mine[:, None], regions.logits_RK, other.logits_RK),
    )
    changed_pooled = torch.where(mine[:, None, None, None], pooled, pooled_maps(len(IMAGES), seed=5))
    before, after = head(pooled, regions)[0], head(changed_pooled, changed)[0]
    torch.testing.assert_close(after[mine], before[mine])
    assert not torch.allclose(after[~mine], before[~mine])


@every_head
def test_an_image_alone_gives_what_it_gives_in_a_batch(config: HeadConfig) -> None:
    head, _, _ = build(config)
    pooled, regions = example()
    mine = regions.image_R == 1
    alone = replace(
        regions[mine],
        image_R=torch.zeros(int(mine.sum()), dtype=torch.int64),
        sizes_B2=regions.sizes_B2[1:],
        context=FeatureMaps(tuple(part[1:] for part in regions.context.maps), regions.context.strides),
    )
    torch.testing.assert_close(head(pooled[mine], alone)[0], head(pooled, regions)[0][mine])


@every_head
def test_no_regions_and_images_without_regions_work(config: HeadConfig) -> None:
    head, _, _ = build(config)
    pooled, regions = example()
    none = torch.zeros(0, dtype=torch.int64)
    features, _ = head(pooled[none], regions[none])
    assert features.shape == (0, head.out_features)
    mine = regions.image_R == 0
    torch.testing.assert_close(head(pooled[mine], regions[mine])[0], head(pooled, regions)[0][mine])


@every_head
def test_one_region_works_and_is_finite_with_its_gradients(config: HeadConfig) -> None:
    head, owners, _ = build(config)
    pooled, regions = example()
    one = torch.tensor([2])
    features, _ = head(pooled[one], regions[one])
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(weight.grad).all() for weight in owners.parameters() if weight.grad is not None)


@every_head
def test_every_parameter_gets_a_gradient(config: HeadConfig) -> None:
    head, owners, _ = build(config)
    features, losses = head(*example())
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (torch.stack([(features * weights).sum(), *losses.values()])).sum().backward()
    silent = [
        name
        for name, weight in owners.named_parameters()
        if weight.grad is None or not torch.isfinite(weight.grad).all() or not weight.grad.any()
    ]
    if builds_alone(config):  # a head of the first stage uses its own layers only
        silent = [name for name in silent if name.startswith("0.")]
    assert silent == []


@every_head
def test_loading_the_state_of_another_gives_its_outputs_even_after_an_evaluation(config: HeadConfig) -> None:
    one, one_owners, _ = build(config, seed=1)
    two, two_owners, _ = build(config, seed=2)
    one_owners.eval()
    two_owners.eval()
    with torch.no_grad():
        expected, before = one(*example())[0], two(*example())[0]
        two_owners.load_state_dict(one_owners.state_dict())
        after = two(*example())[0]
    assert not torch.allclose(before, expected)
    torch.testing.assert_close(after, expected)


@every_head
def test_no_tensor_is_in_the_state_twice(config: HeadConfig) -> None:
    """Safetensors, and so a checkpoint, has a tensor once."""
    _, owners, _ = build(config)
    places = [tensor.data_ptr() for tensor in owners.state_dict().values()]
    assert len(places) == len(set(places))


@every_head
def test_evaluation_gives_what_training_gives_and_again(config: HeadConfig) -> None:
    """No head here has dropout or batch statistics."""
    head, owners, _ = build(config)
    trained = head(*example())[0].detach()
    owners.eval()
    with torch.no_grad():
        torch.testing.assert_close(head(*example())[0], trained)
        torch.testing.assert_close(head(*example())[0], trained)


@every_head
def test_evaluation_follows_the_class_layer_of_the_stage_before(config: HeadConfig) -> None:
    """Whatever a head keeps from one evaluation step to the next must not go stale."""
    used, owners, _ = build(config)
    fresh, fresh_owners, _ = build(config)
    owners.eval()
    fresh_owners.eval()
    pooled, regions = example()
    assert regions.weight_KD1 is not None
    changed = replace(regions, weight_KD1=regions.weight_KD1.flip(0))
    with torch.no_grad():
        used(pooled, regions)
        torch.testing.assert_close(used(pooled, changed)[0], fresh(pooled, changed)[0])


@every_half
@every_head
def test_half_precision_is_finite_and_near(config: HeadConfig, half: torch.dtype) -> None:
    head, owners, _ = build(config)
    exact = head(*example())[0]
    with torch.autocast("cpu", dtype=half):
        features, _ = head(*example())
    features.float().sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(weight.grad).all() for weight in owners.parameters() if weight.grad is not None)
    torch.testing.assert_close(features.float(), exact, rtol=0.05, atol=0.05)


@every_half
@every_head
def test_maps_in_half_precision_are_taken_too(config: HeadConfig, half: torch.dtype) -> None:
    """Under autocast the backbone hands on maps in half precision."""
    head, _, _ = build(config)
    pooled, regions = example()
    maps = tuple(part.to(half) for part in regions.context.maps)
    with torch.autocast("cpu", dtype=half):
        features, _ = head(pooled, replace(regions, context=FeatureMaps(maps, regions.context.strides)))
    assert torch.isfinite(features).all()


@every_head
def test_diagnostics_are_scalars_that_a_later_pass_does_not_change(config: HeadConfig) -> None:
    head, _, _ = build(config)
    head(*example())
    found = head.diagnostics()
    before = {name: value.item() for name, value in found.items()}
    assert all(isinstance(value, Tensor) and not value.requires_grad for value in found.values())
    head(pooled_maps(len(IMAGES), seed=5), random_regions(IMAGES, 2, width=WIDTH, seed=5))
    assert {name: value.item() for name, value in found.items()} == before


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@pytest.mark.parametrize("config", KINDS, ids=name_of)
def test_a_compiled_head_gives_what_the_plain_one_gives(config: HeadConfig) -> None:
    head, owners, _ = build(config)
    pooled, regions = example()
    weights = torch.randn(len(IMAGES), head.out_features, generator=torch.Generator().manual_seed(2))
    found = []
    for run in (head, torch.compile(head, backend="aot_eager")):
        owners.zero_grad()
        features, _ = run(pooled, regions)
        (features * weights).sum().backward()
        found.append([features, *(weight.grad for weight in owners.parameters())])
    torch.testing.assert_close(found[1], found[0])
