"""VCRNet against the paper's equations in loops, its published parameter counts and costs."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from random_weights import arrays, batch_norm, num_parameters, random_map, randomised
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detector.errors import ConfigError
from detector.reasoning.vcrnet import (
    ConceptModulator,
    ConceptReasoner,
    ConceptSampler,
    Edges,
    Modulation,
    Sampler,
    VCRConfig,
)
from detector.resnet import build_resnet

CONCEPTS, WIDTH, STATE = 3, 5, 4
LEVELS = ("channel", "pixel")
VARIANTS = [
    VCRConfig(concepts=CONCEPTS, sampler=sampler, edges=edges, modulator=modulator, level=level)
    for sampler, edges, modulator, level in itertools.product(
        get_args(Sampler), get_args(Edges), get_args(Modulation), LEVELS
    )
    if (sampler, level) != ("pool", "pixel")
]


def name_of(config: VCRConfig) -> str:
    return f"{config.sampler}-{config.edges}-{config.modulator}-{config.level}"


def rows_times(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A row vector times a matrix, in loops."""
    rows, columns = matrix.shape
    return np.array([sum(vector[i] * matrix[i, j] for i in range(rows)) for j in range(columns)])


def attention_by_hand(
    features_pL: np.ndarray, concept: int, kind: str, weights: dict[str, np.ndarray]
) -> np.ndarray:
    """The softmax of equation 2 for one concept, with a key for every position."""
    width, positions = features_pL.shape
    scores = []
    if kind == "dynamic":
        query = rows_times(gap_by_hand(features_pL), weights["query"][concept])
    for position in range(positions):
        if kind == "dynamic":
            key = rows_times(features_pL[:, position], weights["key"][concept])
            product = sum(query[i] * key[i] for i in range(len(key)))
        else:
            product = sum(weights["direction"][concept, i] * features_pL[i, position] for i in range(width))
        scores.append(product / math.sqrt(STATE))
    total = sum(math.exp(score) for score in scores)
    return np.array([math.exp(score) / total for score in scores])


def gap_by_hand(features_pL: np.ndarray) -> np.ndarray:
    width, positions = features_pL.shape
    return np.array([sum(features_pL[i]) / positions for i in range(width)])


def sample_by_hand(
    features_CpL: np.ndarray, kind: str, weights: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Equations 1 and 2: states (C, p') and attention maps (C, L)."""
    states, attentions = [], []
    for concept, features_pL in enumerate(features_CpL):
        value = weights["value"][concept]
        if kind == "pool":
            states.append(rows_times(gap_by_hand(features_pL), value))
            continue
        attention = attention_by_hand(features_pL, concept, kind, weights)
        picked = np.array([sum(attention[i] * row[i] for i in range(len(attention))) for row in features_pL])
        states.append(rows_times(picked, value))
        attentions.append(attention)
    return np.array(states), np.array(attentions) if attentions else None


def reason_by_hand(states_Cq: np.ndarray, kind: str, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Equation 3."""
    concepts, width = states_Cq.shape
    updated = np.zeros_like(states_Cq)
    for c in range(concepts):
        edges = np.zeros(concepts)
        if kind == "static":
            edges = weights["adjacency"][c]
        if kind == "dynamic":
            edges = np.tanh(rows_times(states_Cq[c], weights["edge.weight"].T))
        for q in range(width):
            summed = states_Cq[c, q] + sum(edges[other] * states_Cq[other, q] for other in range(concepts))
            updated[c, q] = max(0.0, batch_norm(summed, weights, "norm", q, eps=1e-5))
    return updated


def modulate_by_hand(
    features_CpL: np.ndarray,
    states_Cq: np.ndarray,
    attention_CL: np.ndarray | None,
    kind: str,
    weights: dict[str, np.ndarray],
) -> np.ndarray:
    """The modulator; with an attention map that of the pixel level."""
    concepts, width, positions = features_CpL.shape
    out = np.zeros_like(features_CpL)
    for c in range(concepts):
        for position in range(positions):
            state = states_Cq[c]
            if attention_CL is not None:
                state = attention_CL[c, position] / max(attention_CL[c]) * state
            alpha, beta = weights["scale_bias"][c], weights["shift_bias"][c]
            if kind != "shift":
                alpha = alpha + rows_times(state, weights["scale"][c])
            if kind != "scale":
                beta = beta + rows_times(state, weights["shift"][c])
            for i in range(width):
                out[c, i, position] = max(0.0, alpha[i] * features_CpL[c, i, position] + beta[i])
    return out


def features(seed: int = 1) -> torch.Tensor:
    return random_map(2, CONCEPTS, WIDTH, 6, seed=seed)


@pytest.mark.parametrize("kind", get_args(Sampler))
def test_the_sampler_is_equations_one_and_two(kind: Sampler) -> None:
    sampler = randomised(ConceptSampler(kind, CONCEPTS, WIDTH, STATE))
    with torch.no_grad():
        states, relative = sampler(features())
    for image in range(2):
        expected, attention = sample_by_hand(features()[image].double().numpy(), kind, arrays(sampler))
        np.testing.assert_allclose(states[image].numpy(), expected, rtol=1e-4, atol=1e-5)
        if attention is None:
            assert relative is None
        else:
            expected = attention / attention.max(axis=1, keepdims=True)
            np.testing.assert_allclose(relative[image].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", get_args(Edges))
def test_the_reasoner_is_equation_three(kind: Edges) -> None:
    reasoner = randomised(ConceptReasoner(kind, CONCEPTS, STATE))
    states = random_map(2, CONCEPTS, STATE)
    with torch.no_grad():
        found = reasoner(states)
    for image in range(2):
        expected = reason_by_hand(states[image].double().numpy(), kind, arrays(reasoner))
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", get_args(Modulation))
@pytest.mark.parametrize("level", LEVELS)
def test_the_modulator_is_the_papers(kind: Modulation, level: str) -> None:
    modulator = randomised(ConceptModulator(kind, CONCEPTS, WIDTH, STATE))
    states, attention = random_map(2, CONCEPTS, STATE), random_map(2, CONCEPTS, 6, seed=7).softmax(dim=2)
    given = attention if level == "pixel" else None
    relative = None if given is None else given / given.amax(dim=2, keepdim=True)
    with torch.no_grad():
        found = modulator(features(), states, relative)
    for image in range(2):
        expected = modulate_by_hand(
            features()[image].double().numpy(),
            states[image].double().numpy(),
            None if given is None else given[image].double().numpy(),
            kind,
            arrays(modulator),
        )
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", VARIANTS, ids=name_of)
def test_a_block_is_sampler_reasoner_and_modulator_on_the_groups_of_its_channels(config: VCRConfig) -> None:
    block = randomised(config.build(CONCEPTS * WIDTH))
    maps = random_map(2, CONCEPTS * WIDTH, 2, 3)
    with torch.no_grad():
        found = block(maps)
    for image in range(2):
        groups = maps[image].double().numpy().reshape(CONCEPTS, WIDTH, 6)
        states, attention = sample_by_hand(groups, config.sampler, arrays(block.sampler))
        updated = reason_by_hand(states, config.edges, arrays(block.reasoner))
        level = attention if config.level == "pixel" else None
        expected = modulate_by_hand(groups, updated, level, config.modulator, arrays(block.modulator))
        np.testing.assert_allclose(found[image].numpy(), expected.reshape(-1, 2, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", VARIANTS, ids=name_of)
def test_a_block_starts_as_the_relu_of_the_plain_network(config: VCRConfig) -> None:
    maps = random_map(2, CONCEPTS * WIDTH, 3, 3)
    torch.testing.assert_close(config.build(CONCEPTS * WIDTH)(maps), maps.relu())


@pytest.mark.parametrize("level", LEVELS)
def test_a_position_with_the_most_attention_is_modulated_alike_at_both_levels(level: str) -> None:
    maps = random_map(1, CONCEPTS * WIDTH, 2, 3)
    blocks = [randomised(VCRConfig(concepts=CONCEPTS, level=name).build(CONCEPTS * WIDTH)) for name in LEVELS]
    with torch.no_grad():
        channel, pixel = (block(maps).reshape(CONCEPTS, WIDTH, 6) for block in blocks)
        _, relative = blocks[0].sampler(maps.reshape(1, CONCEPTS, WIDTH, 6))
    for concept in range(CONCEPTS):
        most = relative[0, concept].argmax()
        torch.testing.assert_close(pixel[concept, :, most], channel[concept, :, most])
    assert not torch.allclose(pixel, channel, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "million", "exact"),
    [
        ("resnext50_32x4d", {}, 25.26, 25_259_072),
        ("resnext50_32x4d", {"level": "pixel"}, 25.26, 25_259_072),
        ("resnext101_32x4d", {}, 44.60, 44_601_672),
        ("resnext50_32x4d", {"sampler": "pool"}, 25.17, 25_174_080),
        ("resnext50_32x4d", {"sampler": "static"}, 25.18, 25_181_632),  # 25.17 printed
        ("resnext50_32x4d", {"edges": "none"}, 25.26, 25_256_640),
        ("resnext50_32x4d", {"edges": "static"}, 25.27, 25_273_024),  # 25.28 printed
        ("resnext50_32x4d", {"modulator": "scale"}, 25.22, 25_216_576),
        ("resnext50_32x4d", {"modulator": "shift"}, 25.22, 25_216_576),
    ],
)
def test_the_networks_and_ablations_have_the_published_parameters(
    name: str, options: dict[str, str], million: float, exact: int
) -> None:
    with torch.device("meta"):
        network = build_resnet(name, nn.BatchNorm2d, [VCRConfig(**options)])
    assert num_parameters(network) == exact
    assert round(exact / 1e6, 2) == million


@pytest.mark.parametrize(("channels", "state"), [(128, 4), (256, 4), (512, 4), (1024, 8)])
def test_states_have_a_quarter_of_the_width_and_at_least_four_numbers(channels: int, state: int) -> None:
    block = VCRConfig().build(channels)
    assert block.sampler.value.shape == (32, channels // 32, state)
    assert block.reasoner.norm.num_features == state


def test_the_modules_add_at_most_the_published_flops() -> None:
    """4.26 against 4.24 GFLOPs at 224 px (table 1), where a product and its sum are one."""

    def gflops(blocks: list[VCRConfig]) -> float:
        network = build_resnet("resnext50_32x4d", nn.BatchNorm2d, blocks).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
        return counter.get_total_flops() / 2e9

    assert 0 < gflops([VCRConfig()]) - gflops([]) <= 4.26 - 4.24


def test_concepts_do_not_mix_before_the_reasoner() -> None:
    """Without edges a concept sees its own features alone; with them it sees the others'."""
    maps = random_map(1, CONCEPTS * WIDTH, 2, 3)
    changed = maps.clone()
    changed[:, :WIDTH] += 1
    for edges, sees in (("none", False), ("static", True), ("dynamic", True)):
        block = randomised(VCRConfig(concepts=CONCEPTS, edges=edges).build(CONCEPTS * WIDTH))
        with torch.no_grad():
            same = torch.equal(block(changed)[:, WIDTH:], block(maps)[:, WIDTH:])
        assert same is not sees


def test_strong_scores_do_not_overflow() -> None:
    block = randomised(VCRConfig(concepts=CONCEPTS, level="pixel").build(CONCEPTS * WIDTH))
    with torch.no_grad():
        assert torch.isfinite(block(random_map(1, CONCEPTS * WIDTH, 2, 3) * 1e3)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "max"}, 'blocks.sampler: found "max"; expected one of pool, static, dynamic'),
        ({"edges": "all"}, 'blocks.edges: found "all"; expected one of none, static, dynamic'),
        ({"modulator": "gate"}, 'blocks.modulator: found "gate"; expected one of scale, shift, both'),
        ({"level": "voxel"}, 'blocks.level: found "voxel"; expected one of channel, pixel'),
        ({"level": "pixel", "sampler": "pool"}, "which has no attention map"),
    ],
)
def test_options_that_make_no_block_are_one_clear_line(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VCRConfig(**options)


def test_concepts_must_divide_the_channels() -> None:
    with pytest.raises(
        ConfigError, match="found 32 for a map of 48 channels; expected a number that divides"
    ):
        VCRConfig().build(48)
