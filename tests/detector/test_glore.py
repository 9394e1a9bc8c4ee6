"""GloRe against the paper's equations in loops, the published parameter counts and costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_weights import arrays, batch_norm, num_parameters, random_map, randomised
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detector.errors import ConfigError
from detector.reasoning.glore import PLACES_50, PLACES_101, GloReConfig, GloReUnit
from detector.resnet import build_resnet


def unit_by_hand(
    features_CL: np.ndarray, weights: dict[str, np.ndarray], graph_convolutions: int, *, normalize: bool
) -> np.ndarray:
    """Sections 3.2 to 3.4, one number at a time: features of L positions in, features of L positions out."""
    channels, positions = features_CL.shape
    theta, phi = weights["state.weight"], weights["project.weight"]
    states, nodes = len(theta), len(phi)
    state_of = np.zeros((positions, states))
    share_of = np.zeros((positions, nodes))
    for position in range(positions):
        for s in range(states):
            weighed = sum(theta[s, c].item() * features_CL[c, position] for c in range(channels))
            state_of[position, s] = weighed + weights["state.bias"][s]
        for n in range(nodes):
            weighed = sum(phi[n, c].item() * features_CL[c, position] for c in range(channels))
            share_of[position, n] = weighed + weights["project.bias"][n]
    node_states = np.zeros((nodes, states))
    for n in range(nodes):
        for s in range(states):
            gathered = sum(share_of[position, n] * state_of[position, s] for position in range(positions))
            node_states[n, s] = gathered / positions if normalize else gathered
    for layer in range(graph_convolutions):
        edge, edge_bias = weights[f"graph.{layer}.exchange.weight"], weights[f"graph.{layer}.exchange.bias"]
        transform = weights[f"graph.{layer}.transform.weight"]
        active = np.zeros_like(node_states)
        for n in range(nodes):
            for s in range(states):
                others = sum(edge[n, m].item() * node_states[m, s] for m in range(nodes))
                active[n, s] = max(0.0, node_states[n, s] + others + edge_bias[n])
        for n in range(nodes):
            for s in range(states):
                node_states[n, s] = sum(transform[s, t].item() * active[n, t] for t in range(states))
    out = np.zeros_like(features_CL)
    for position in range(positions):
        spread = [sum(node_states[n, s] * share_of[position, n] for n in range(nodes)) for s in range(states)]
        for c in range(channels):
            extended = sum(weights["extend.weight"][c, s].item() * spread[s] for s in range(states))
            update = batch_norm(extended, weights, "norm", c, eps=1e-4)
            out[c, position] = features_CL[c, position] + update
    return out


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("graph_convolutions", [1, 2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_unit_is_the_equations_of_the_paper(dims: int, graph_convolutions: int, normalize: bool) -> None:
    unit = randomised(
        GloReUnit(6, 2, graph_convolutions=graph_convolutions, dims=dims, normalize=normalize), seed=3
    )
    sides = {1: (5,), 2: (2, 3), 3: (2, 1, 3)}[dims]
    maps = random_map(2, 6, *sides)
    with torch.no_grad():
        found = unit(maps).flatten(2)
    for image in range(2):
        features_CL = maps[image].flatten(1).double().numpy()
        expected = unit_by_hand(features_CL, arrays(unit), graph_convolutions, normalize=normalize)
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "mid", "expected"), [(512, 128, 411_136), (1024, 256, 1_641_472)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_units_have_the_parameters_of_the_official_ones(
    channels: int, mid: int, expected: int, dims: int
) -> None:
    assert num_parameters(GloReUnit(channels, mid, dims=dims)) == expected
    if dims == 2:
        assert num_parameters(GloReConfig().build(channels)) == expected


def test_each_more_graph_convolution_adds_its_edges_and_transform() -> None:
    one, two, three = (num_parameters(GloReUnit(512, 128, graph_convolutions=g)) for g in (1, 2, 3))
    assert two - one == three - two == 128 * 128 + 128 + 256 * 256


@pytest.mark.parametrize(
    ("name", "places", "million", "exact"),
    [
        ("resnext50_32x4d", PLACES_50, 30.79, 30_775_592),
        ("resnext101_32x4d", PLACES_101, 49.93, 49_924_392),
    ],
)
def test_resnext_with_units_at_the_published_places_has_the_published_parameters(
    name: str, places: tuple[str, ...], million: float, exact: int
) -> None:
    with torch.device("meta"):
        network = build_resnet(name, nn.BatchNorm2d, [GloReConfig(at=places)])
    assert num_parameters(network) == exact
    assert abs(exact / 1e6 - million) < 0.015
    assert sum(isinstance(module, GloReUnit) for module in network.modules()) == 5


def test_units_add_the_published_flops() -> None:
    """5.86 against 4.24 GFLOPs at 224 px (VCRNet, table 1), where a product and its sum are one."""

    def convolution_gflops(blocks: list[GloReConfig]) -> float:
        network = build_resnet("resnext50_32x4d", nn.BatchNorm2d, blocks).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
        return counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2e9

    plain, enriched = convolution_gflops([]), convolution_gflops([GloReConfig()])
    assert plain == pytest.approx(4.24, abs=0.015)
    assert enriched - plain == pytest.approx(5.86 - 4.24, abs=0.015)
    assert enriched <= 5.86


def test_a_unit_is_the_identity_at_the_start_and_then_learns() -> None:
    unit, maps = GloReUnit(16, 4), random_map(2, 16, 5, 7)
    assert torch.equal(unit(maps), maps)
    (unit(maps) * random_map(2, 16, 5, 7, seed=2)).sum().backward()
    assert unit.norm.weight.grad.abs().min() > 0
    assert not unit.state.weight.grad.any(), "nothing behind the scale moves before the scale does"


@pytest.mark.parametrize("sides", [(2, 7), (1, 1), (9, 4)])
def test_a_map_laid_side_by_side_with_itself_gives_the_same_when_normalised(sides: tuple[int, int]) -> None:
    """Why a detector, whose images have many sizes, divides by the number of positions."""
    unit = randomised(GloReUnit(8, 3))
    one = random_map(1, 8, *sides)
    twice = torch.cat([one, one], dim=3)
    with torch.no_grad():
        torch.testing.assert_close(unit(twice)[..., : sides[1]], unit(one), rtol=1e-4, atol=1e-4)
        unit.normalize = False
        assert not torch.allclose(unit(twice)[..., : sides[1]], unit(one), rtol=1e-2, atol=1e-2)


def test_positions_may_stand_anywhere() -> None:
    """The unit reasons over a set of positions: moving them moves the result, and the shape is no matter."""
    unit, maps = randomised(GloReUnit(8, 3)), random_map(1, 8, 4, 6)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        moved = unit(maps.flatten(2)[:, :, order].reshape(1, 8, 3, 8))
        torch.testing.assert_close(moved.flatten(2), unit(maps).flatten(2)[:, :, order])


def test_one_two_and_three_dimensions_are_the_same_arithmetic() -> None:
    image, clip, line = (randomised(GloReUnit(8, 3, dims=dims)) for dims in (2, 3, 1))
    maps = random_map(2, 8, 4, 6)
    with torch.no_grad():
        expected = image(maps).flatten(2)
        torch.testing.assert_close(line(maps.flatten(2)), expected)
        torch.testing.assert_close(clip(maps.reshape(2, 8, 2, 2, 6)).flatten(2), expected)


@pytest.mark.parametrize(
    ("channels", "mid", "shape"), [(512, 128, (2, 512, 4, 28, 28)), (1024, 256, (2, 1024, 4, 14, 14))]
)
def test_clips_of_kinetics_keep_their_shape(channels: int, mid: int, shape: tuple[int, ...]) -> None:
    """Res3 and Res4 of the 3D ResNet-50 of the official code, 8 frames of 224 px, halved in time by Res3."""
    unit = GloReUnit(channels, mid, dims=3, normalize=False).eval()
    with torch.no_grad():
        assert unit(random_map(*shape)).shape == shape


def test_sums_over_many_positions_do_not_overflow_in_half_precision() -> None:
    unit = randomised(GloReUnit(8, 2))
    maps = 3 + random_map(1, 8, 100, 168)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        state_BSL, projection_BNL = unit.state(maps).flatten(2), unit.project(maps).flatten(2)
        assert torch.isinf(state_BSL @ projection_BNL.transpose(1, 2)).any(), "the case would overflow"
        assert torch.isfinite(unit(maps)).all()


@pytest.mark.parametrize("change", [{"reduction": 0}, {"graph_convolutions": 0}])
def test_numbers_that_make_no_unit_are_one_clear_line(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"found 0; expected 1 or more"):
        replace(GloReConfig(), **change)
