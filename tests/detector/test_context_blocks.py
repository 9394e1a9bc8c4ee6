"""What every context block must keep, whichever paper it is from, and the equations of the plain rivals.

Blocks and variants are found, not listed.
"""

import dataclasses
import itertools
import math
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from random_weights import arrays, batch_norm, num_parameters, random_map, randomised
from torch import nn

import detector.reasoning
from detector import context_blocks
from detector.context_blocks import (
    CBAM,
    CBAMConfig,
    GlobalContext,
    GlobalContextConfig,
    NonLocal,
    NonLocalConfig,
    SqueezeExcitation,
    SqueezeExcitationConfig,
)
from detector.errors import ConfigError
from detector.interfaces import BlockConfig, BlockPlace
from detector.resnet import build_resnet

CHANNELS = 64
PAPERS = [
    import_module(f"detector.reasoning.{module.name}")
    for module in pkgutil.iter_modules(detector.reasoning.__path__)
]


def block_configs(module: ModuleType) -> list[type]:
    """Dataclasses of a module that build a block."""
    return [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and hasattr(value, "place") and value.__module__ == module.__name__
    ]


def variants(config: type) -> Iterator[BlockConfig]:
    """Every combination of the words that a block's options allow, and allow together."""
    hints = get_type_hints(config)
    fields = [f.name for f in dataclasses.fields(config) if get_origin(hints[f.name]) is Literal]
    for words in itertools.product(*(get_args(hints[name]) for name in fields)):
        try:
            yield config(**dict(zip(fields, words, strict=True)))
        except ConfigError:
            continue


VARIANTS = [
    variant
    for module in (context_blocks, *PAPERS)
    for config in block_configs(module)
    for variant in variants(config)
]


def name_of(config: BlockConfig) -> str:
    words = [str(value) for value in vars(config).values() if isinstance(value, str)]
    return "-".join([type(config).__name__.removesuffix("Config"), *words])


#: Of each kind the first and the last of its variants: compiling takes a second.
KINDS = [
    config
    for _, same in itertools.groupby(VARIANTS, type)
    for kinds in [list(same)]
    for config in dict.fromkeys((kinds[0], kinds[-1]))
]

every_block = pytest.mark.parametrize("config", VARIANTS, ids=name_of)

#: What a block is at the start: the identity, the ReLU whose place it takes, or something else.
AT_THE_START = {
    "GloReConfig": "identity",
    "GlobalContextConfig": "identity",
    "NonLocalConfig": "identity",
    "VCRConfig": "relu",
    "SqueezeExcitationConfig": "other",
    "CBAMConfig": "other",
}


def build(config: BlockConfig, seed: int = 0) -> nn.Module:
    """A block with every weight drawn, in evaluation mode."""
    return randomised(config.build(CHANNELS), seed)


def test_the_blocks_of_both_papers_and_their_rivals_are_held_to_this() -> None:
    assert {type(config).__name__ for config in VARIANTS} == set(AT_THE_START)
    assert all(config.place in get_args(BlockPlace) for config in VARIANTS)


@every_block
@pytest.mark.parametrize("sides", [(5, 7), (1, 1), (1, 6)])
def test_a_map_keeps_its_shape_whatever_its_sides(config: BlockConfig, sides: tuple[int, int]) -> None:
    maps = random_map(2, CHANNELS, *sides)
    with torch.no_grad():
        enriched = build(config)(maps)
    assert enriched.shape == maps.shape
    assert torch.isfinite(enriched).all()


@every_block
def test_at_the_start_a_block_is_what_it_says(config: BlockConfig) -> None:
    torch.manual_seed(0)
    block, maps = config.build(CHANNELS), random_map(2, CHANNELS, 5, 7)
    kind = AT_THE_START[type(config).__name__]
    for mode in (True, False):
        enriched = block.train(mode)(maps)
        assert torch.allclose(enriched, maps, atol=1e-6) == (kind == "identity")
        assert torch.allclose(enriched, maps.relu(), atol=1e-6) == (kind == "relu")


@every_block
def test_images_of_a_batch_do_not_see_each_other_in_evaluation(config: BlockConfig) -> None:
    block = build(config)
    maps, other = random_map(3, CHANNELS, 4, 5), random_map(3, CHANNELS, 4, 5, seed=9)
    other[1] = maps[1]
    with torch.no_grad():
        before, after, alone = block(maps), block(other), block(maps[1:2])
    torch.testing.assert_close(after[1], before[1])
    torch.testing.assert_close(alone[0], before[1], rtol=1e-3, atol=1e-3)  # other batch, other order of sums
    assert not torch.allclose(after[0], before[0])


@every_block
def test_a_position_sees_the_whole_map(config: BlockConfig) -> None:
    """Context: a change in one corner is felt in the other, where the features are the same as before."""
    block = build(config)
    maps = 0.05 * random_map(1, CHANNELS, 9, 9)  # small, so that no softmax sees one position alone
    changed = maps.clone()
    changed[:, :, 0, 0] += 0.1
    with torch.no_grad():
        assert not torch.equal(block(changed)[:, :, 8, 8], block(maps)[:, :, 8, 8])


@every_block
def test_every_parameter_gets_a_gradient(config: BlockConfig) -> None:
    block = build(config).train()
    maps = random_map(2, CHANNELS, 5, 7).requires_grad_()
    (block(maps) * random_map(2, CHANNELS, 5, 7, seed=2)).sum().backward()
    # a bias before batch statistics cannot matter: the mean takes it away
    without_effect = {"NonLocalConfig": ["extend.bias"]}.get(type(config).__name__, [])
    silent = [
        name
        for name, weight in block.named_parameters()
        if weight.grad is None or not torch.isfinite(weight.grad).all() or not weight.grad.any()
    ]
    assert [name for name in silent if name not in without_effect] == []
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


@every_block
def test_the_state_of_another_gives_its_outputs(config: BlockConfig) -> None:
    one, two, maps = build(config, seed=1), build(config, seed=2), random_map(2, CHANNELS, 4, 4)
    with torch.no_grad():
        expected, before = one(maps), two(maps)
        two.load_state_dict(one.state_dict())
        torch.testing.assert_close(two(maps), expected)
    assert not torch.allclose(before, expected)


@every_block
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_near_and_keeps_its_type(config: BlockConfig, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block, maps = config.build(CHANNELS), random_map(2, CHANNELS, 5, 7)
    exact = block(maps)
    with torch.autocast("cpu", dtype=dtype):
        enriched = block(maps.to(dtype))
    enriched.float().square().sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in block.parameters() if w.grad is not None)
    torch.testing.assert_close(enriched.float(), exact, rtol=0.05, atol=0.05)


@every_block
def test_a_block_trains_on_one_image(config: BlockConfig) -> None:
    block = config.build(CHANNELS).train()
    block(random_map(1, CHANNELS, 3, 3)).sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in block.parameters() if w.grad is not None)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@pytest.mark.parametrize("config", KINDS, ids=name_of)
def test_a_compiled_block_gives_what_the_plain_one_gives(config: BlockConfig) -> None:
    """Traced whole with its gradients, and run by torch itself: no compiler is needed."""
    torch.compiler.reset()
    block, maps = build(config).train(), random_map(2, CHANNELS, 3, 4)
    weights = random_map(2, CHANNELS, 3, 4, seed=2)
    found = []
    for run in (block, torch.compile(block, backend="aot_eager", fullgraph=True)):
        block.zero_grad()
        enriched = run(maps)
        (enriched * weights).sum().backward()
        found.append([enriched, *(weight.grad for weight in block.parameters())])
    torch.testing.assert_close(found[1], found[0])


# --- the plain rivals, in loops


def linear_by_hand(vector: list[float], weights: dict[str, np.ndarray], name: str) -> list[float]:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    weight = weight.reshape(len(weight), -1)
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)
    ]


def two_layers_by_hand(vector: list[float], weights: dict[str, np.ndarray]) -> list[float]:
    hidden = [max(0.0, value) for value in linear_by_hand(vector, weights, "excite.0")]
    return linear_by_hand(hidden, weights, "excite.2")


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def squeeze_excitation_by_hand(map_CHW: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    means = [channel.sum() / channel.size for channel in map_CHW]
    gates = [sigmoid(value) for value in two_layers_by_hand(means, weights)]
    return np.stack([channel * gate for channel, gate in zip(map_CHW, gates, strict=True)])


def cbam_by_hand(map_CHW: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    means = two_layers_by_hand([channel.mean() for channel in map_CHW], weights)
    peaks = two_layers_by_hand([channel.max() for channel in map_CHW], weights)
    gates = [sigmoid(mean + peak) for mean, peak in zip(means, peaks, strict=True)]
    weighed = np.stack([channel * gate for channel, gate in zip(map_CHW, gates, strict=True)])
    _, height, width = weighed.shape
    summary = np.stack([weighed.mean(axis=0), weighed.max(axis=0)])
    kernel = weights["spatial.weight"][0]
    reach = kernel.shape[-1] // 2
    out = np.zeros_like(weighed)
    for y, x in itertools.product(range(height), range(width)):
        total = 0.0
        for layer, dy, dx in itertools.product(range(2), range(-reach, reach + 1), range(-reach, reach + 1)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                total += kernel[layer, dy + reach, dx + reach] * summary[layer, y + dy, x + dx]
        out[:, y, x] = weighed[:, y, x] * sigmoid(batch_norm(total, weights, "norm", 0, eps=1e-5))
    return out


def global_context_by_hand(map_CHW: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    positions = list(map_CHW.reshape(len(map_CHW), -1).T)
    attention = softmax([linear_by_hand(list(position), weights, "attend")[0] for position in positions])
    context = [sum(a * p[c] for a, p in zip(attention, positions, strict=True)) for c in range(len(map_CHW))]
    hidden = np.array(linear_by_hand(context, weights, "squeeze.0"))
    normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    normed = normed * weights["squeeze.1.weight"] + weights["squeeze.1.bias"]
    added = linear_by_hand([max(0.0, value) for value in normed], weights, "extend")
    return map_CHW + np.array(added)[:, None, None]


def non_local_by_hand(map_CHW: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    positions = list(map_CHW.reshape(len(map_CHW), -1).T)
    theta, phi, value = (
        [linear_by_hand(list(position), weights, name) for position in positions]
        for name in ("theta", "phi", "value")
    )
    out = np.zeros((len(map_CHW), len(positions)))
    for i, position in enumerate(positions):
        similarity = softmax([sum(t * p for t, p in zip(theta[i], other, strict=True)) for other in phi])
        taken = [sum(s * v[k] for s, v in zip(similarity, value, strict=True)) for k in range(len(value[0]))]
        extended = linear_by_hand(taken, weights, "extend")
        for c, number in enumerate(extended):
            out[c, i] = position[c] + batch_norm(number, weights, "norm", c, eps=1e-5)
    return out.reshape(map_CHW.shape)


@pytest.mark.parametrize(
    ("block", "by_hand"),
    [
        (SqueezeExcitation(6, 2), squeeze_excitation_by_hand),
        (CBAM(6, 2, 3), cbam_by_hand),
        (CBAM(6, 2, 7), cbam_by_hand),
        (GlobalContext(6, 3), global_context_by_hand),
        (NonLocal(6, 3), non_local_by_hand),
    ],
    ids=["se", "cbam-3", "cbam-7", "gc", "non-local"],
)
def test_the_rivals_are_the_equations_of_their_papers(block: nn.Module, by_hand: object) -> None:
    block, maps = randomised(block, seed=4), random_map(2, 6, 3, 4)
    with torch.no_grad():
        found = block(maps)
    for image in range(2):
        expected = by_hand(maps[image].double().numpy(), arrays(block))
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "fifty", "hundred_and_one"),
    [
        (SqueezeExcitationConfig(), 27.56, 48.96),
        (CBAMConfig(), 27.56, 48.96),
        (GlobalContextConfig(), 27.58, 48.99),
    ],
    ids=["se", "cbam", "gc"],
)
def test_resnext_with_the_rivals_has_the_parameters_of_vcrnets_table_one(
    config: BlockConfig, fifty: float, hundred_and_one: float
) -> None:
    with torch.device("meta"):
        counts = [
            num_parameters(build_resnet(name, nn.BatchNorm2d, [config]))
            for name in ("resnext50_32x4d", "resnext101_32x4d")
        ]
    assert [round(count / 1e6, 2) for count in counts] == [fifty, hundred_and_one]


def test_numbers_that_make_no_block_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="reduction: found 0; expected 1 or more"):
        NonLocalConfig(reduction=0).build(8)
    with pytest.raises(ConfigError, match="kernel_size: found 4; expected an odd number"):
        CBAMConfig(kernel_size=4).build(8)
