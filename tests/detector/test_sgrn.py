"""SGRN against NumPy loops written from the paper, one region and one neighbour at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import NUM_CLASSES, head_inputs, random_regions
from torch import Tensor

from detector.config import BackboneConfig, ModelConfig, StageConfig
from detector.errors import ConfigError
from detector.interfaces import HeadInputs, Regions, TwoLinearConfig
from detector.rcnn import build_model
from detector.reasoning.sgrn import GraphLayer, RegionGraph, SGRNConfig, SGRNHead, pseudo_coordinates

WIDTH = 5  # D
FIVE_REGIONS = [0, 1, 0, 1, 1]
OPTIONS = {"neighbours": 2, "kernels": 3, "latent": 4, "hidden": 9, "width": 6}


def make_head(**options: object) -> SGRNHead:
    """A head whose every number is drawn, slants of the kernels too."""
    torch.manual_seed(4)
    head = SGRNConfig(**(OPTIONS | options)).build(head_inputs(width=WIDTH))
    for name, weight in head.named_parameters():
        if name.endswith("slant"):
            weight.data.uniform_(-1, 1)
    return head


def five_regions() -> Regions:
    """Five regions in two images, which are not square, so that a swap of width and height shows."""
    regions = random_regions(FIVE_REGIONS, 2, width=WIDTH)
    return replace(regions, sizes_B2=torch.tensor([[64, 48], [40, 64]]))


def pooled_maps(count: int = 5) -> Tensor:
    return torch.randn(count, 6, 3, 3, generator=torch.Generator().manual_seed(1))


def split(head: SGRNHead, regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """f and h as the head returns them."""
    features = head(pooled_maps(len(regions)), regions)[0].detach().double().numpy()
    return features[:, :WIDTH], features[:, WIDTH:]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def parameters(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: weight.detach().double().numpy() for name, weight in module.named_parameters()}


def slow_edges(head: SGRNHead, f: np.ndarray) -> list[dict[int, float]]:
    """Relation learner: for each region its t neighbours and their weights."""
    named, z = parameters(head.relations), f
    for layer in ("embed.0", "embed.2"):
        length, direction = (named[f"{layer}.parametrizations.weight.original{part}"] for part in (0, 1))
        weight = np.array([g * v / np.sqrt((v**2).sum()) for g, v in zip(length, direction, strict=True)])
        z = np.array([np.maximum(weight @ row + named[f"{layer}.bias"], 0) for row in z])
    edges, root = [], np.sqrt(head.config.latent) if head.config.form == "working" else 1
    for i in range(len(z)):
        score = [sum(z[i] * z[j]) / root for j in range(len(z))]
        kept = sorted(range(len(z)), key=lambda j: -score[j])[: head.config.neighbours]
        edges.append(dict(zip(kept, softmax(np.array([score[j] for j in kept])), strict=True)))
    return edges


def slow_nodes(head: SGRNHead, regions: Regions) -> np.ndarray:
    assert regions.logits_RK is not None
    assert regions.weight_KD1 is not None
    p = [softmax(row) for row in regions.logits_RK.double().numpy()]
    pool = regions.weight_KD1.double().numpy()
    if head.config.form == "working":
        classes = [row - pool[1:].mean(axis=0) for row in pool[1:]]
        pool = np.array([0 * pool[0], *(row / np.sqrt((row**2).mean()) for row in classes)])
    if head.config.nodes == "argmax":
        return np.array([pool[np.argmax(row)] for row in p])
    return np.array([sum(row[c] * pool[c] for c in range(len(pool))) for row in p])


def slow_position(box: np.ndarray, other: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """d and theta of the other's centre, seen from the box; the image is 1 wide and 1 high."""
    height, width = size
    x_i, y_i = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
    x_j, y_j = (other[0] + other[2]) / 2 / width, (other[1] + other[3]) / 2 / height
    return math.sqrt((x_i - x_j) ** 2 + (y_i - y_j) ** 2), math.atan2(y_j - y_i, x_j - x_i)


def slow_kernels(layer: GraphLayer, d: float, theta: float) -> list[float]:
    """w_k(u) with mu and Sigma written out."""
    named, weights = parameters(layer), []
    for k in range(len(named["mean"])):
        turn = theta - named["mean"][k, 1]
        turn = math.atan2(math.sin(turn), math.cos(turn))
        scale_d, scale_theta = np.exp(named["log_scale"][k])
        root = np.array([[1 / scale_d, 0], [named["slant"][k], 1 / scale_theta]])
        sigma = np.linalg.inv(root.T @ root)
        offset = np.array([d - named["mean"][k, 0], turn])
        weights.append(math.exp(-0.5 * offset @ np.linalg.inv(sigma) @ offset))
    return weights


def slow_layer(
    layer: GraphLayer,
    v: np.ndarray,
    edges: list[dict[int, float]],
    boxes: np.ndarray,
    size: np.ndarray,
    averaged: bool,
) -> np.ndarray:
    """f'_k(i), then L: one block of its rows for each kernel."""
    weight = parameters(layer)["transform.weight"]
    kernels = len(parameters(layer)["mean"])
    blocks = np.split(weight, kernels)
    h = np.zeros((len(v), len(weight)))
    for i in range(len(v)):
        gathered, sent = np.zeros((kernels, v.shape[1])), np.zeros(kernels)
        for j, e_ij in edges[i].items():
            w = slow_kernels(layer, *slow_position(boxes[i], boxes[j], size))
            for k in range(kernels):
                gathered[k] += w[k] * e_ij * v[j]
                sent[k] += w[k] * e_ij
        if averaged:
            gathered = gathered / sent[:, None]
        h[i] = np.concatenate([blocks[k] @ gathered[k] for k in range(kernels)])
    return h


@pytest.mark.parametrize("nodes", ["argmax", "soft"])
@pytest.mark.parametrize("form", ["printed", "working"])
@pytest.mark.parametrize("hidden", [9, 0])
def test_h_is_what_the_paper_says_for_five_regions(nodes: str, form: str, hidden: int) -> None:
    head, regions = make_head(nodes=nodes, form=form, hidden=hidden), five_regions()
    f, h = split(head, regions)
    for image in range(2):
        rows = [row for row in range(5) if FIVE_REGIONS[row] == image]
        edges, expected = slow_edges(head, f[rows]), slow_nodes(head, regions)[rows]
        boxes, size = regions.boxes_R4[rows].double().numpy(), regions.sizes_B2[image].numpy()
        for layer in head.layers:
            expected = slow_layer(layer, expected, edges, boxes, size, form == "working")
            expected = np.maximum(expected, 0) if hidden else expected
        np.testing.assert_allclose(h[rows], expected, rtol=1e-4, atol=1e-6)
        assert np.abs(expected).max() > 1e-3


def test_every_region_has_its_best_scored_neighbours_and_edges_that_sum_to_one() -> None:
    head, regions = make_head(neighbours=3), five_regions()
    f = split(head, regions)[0]
    index, edge = head.relations(torch.tensor(f, dtype=torch.float32))
    assert index.shape == edge.shape == (5, 3)
    for i, expected in enumerate(slow_edges(head, f)):
        found = dict(zip(index[i].tolist(), edge[i].tolist(), strict=True))
        assert found == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(edge.sum(dim=1), torch.ones(5))


def test_with_fewer_regions_than_neighbours_all_of_them_are_neighbours() -> None:
    index, edge = make_head(neighbours=32).relations(torch.rand(4, WIDTH))
    assert index.shape == edge.shape == (4, 4)
    assert index.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 4


def test_pseudo_coordinates_are_distance_and_angle_with_x_to_the_right_and_y_down() -> None:
    """The image is 200 wide and 100 high: half the width is 0.5, half the height too."""
    boxes = torch.tensor(
        [
            [40.0, 20, 60, 30],  # centre 50, 25
            [140.0, 20, 160, 30],  # 100 px to the right
            [40.0, 70, 60, 80],  # 50 px below
            [0.0, 24, 2, 26],  # 49 px to the left
            [40.0, 0, 60, 10],  # 20 px above
        ]
    )
    position = pseudo_coordinates(boxes, torch.arange(5).repeat(5, 1), torch.tensor([100, 200]))
    distance, angle = position[0, :, 0], position[0, :, 1]
    torch.testing.assert_close(distance, torch.tensor([0.0, 0.5, 0.5, 49 / 200, 0.2]))
    torch.testing.assert_close(angle, torch.tensor([0.0, 0.0, math.pi / 2, math.pi, -math.pi / 2]))
    torch.testing.assert_close(position[1, 2, 1], torch.tensor(math.atan2(0.5, -0.5)))


def test_pseudo_coordinates_against_loops() -> None:
    regions = five_regions()
    size = regions.sizes_B2[1]
    found = pseudo_coordinates(regions.boxes_R4, torch.arange(5).repeat(5, 1), size)
    boxes = regions.boxes_R4.double().numpy()
    expected = [[slow_position(box, other, size.numpy()) for other in boxes] for box in boxes]
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-4, atol=1e-6)


coordinate = st.integers(0, 200)
box = st.tuples(coordinate, coordinate, st.integers(1, 60), st.integers(1, 60))


@given(st.lists(box, min_size=2, max_size=6), st.integers(-50, 50))
def test_positions_are_opposite_between_two_boxes_and_do_not_change_when_all_boxes_move(
    corners_and_sizes: list[tuple[int, ...]], shift: int
) -> None:
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners_and_sizes], dtype=torch.float32)
    everyone, size = torch.arange(len(boxes)).repeat(len(boxes), 1), torch.tensor([160, 320])
    position = pseudo_coordinates(boxes, everyone, size)
    distance, angle = position.unbind(dim=2)
    torch.testing.assert_close(distance, distance.T)
    apart = distance > 1e-6
    for turn in (torch.sin, torch.cos):
        torch.testing.assert_close(turn(angle)[apart], -turn(angle.T)[apart], rtol=1e-4, atol=1e-5)
    moved = pseudo_coordinates(boxes + shift, everyone, size)
    torch.testing.assert_close(moved[apart], position[apart], rtol=1e-3, atol=1e-4)


def test_kernels_are_gaussians_of_distance_and_angle() -> None:
    layer = make_head().layers[0]
    position = torch.rand(4, 2, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor([1.0, 6.0]) - 3
    found = layer.log_kernel_weights(position).exp().detach().double().numpy()
    for i, t in np.ndindex(4, 2):
        expected = slow_kernels(layer, *position[i, t].tolist())
        np.testing.assert_allclose(found[:, i, t], expected, rtol=1e-4)


def test_a_kernel_is_one_at_its_mean_and_does_not_jump_where_the_angle_does() -> None:
    layer = make_head().layers[0]
    at_mean = layer.log_kernel_weights(layer.mean[:, None, :].detach()).exp()
    torch.testing.assert_close(at_mean.diagonal(dim1=0, dim2=1).squeeze(), torch.ones(3))
    nearly = math.pi - 1e-4
    across = layer.log_kernel_weights(torch.tensor([[[0.3, nearly], [0.3, -nearly]]])).exp()
    torch.testing.assert_close(across[..., 0], across[..., 1], rtol=1e-2, atol=1e-4)


def test_an_average_is_one_also_where_a_kernel_sees_nothing() -> None:
    layer = make_head(form="working").layers[0]
    torch.nn.init.constant_(layer.log_scale, math.log(0.01))
    torch.nn.init.constant_(layer.mean, 50.0)
    position = torch.tensor([[[0.0, 0.0], [0.9, 0.0]]])
    graph = RegionGraph(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]]), position)
    weight = layer.propagation_weights(graph)
    torch.testing.assert_close(weight.sum(dim=2), torch.ones(3, 1))
    weight[:, 0, 0].sum().backward()
    assert layer.mean.grad is not None
    assert torch.isfinite(layer.mean.grad).all()


def test_neighbours_sit_closer_to_what_a_kernel_looks_at_the_more_they_send() -> None:
    layer = make_head().layers[0]
    torch.nn.init.zeros_(layer.slant)
    torch.nn.init.zeros_(layer.mean)
    torch.nn.init.ones_(layer.transform.weight)
    index, edge = torch.tensor([[1], [1], [1]]), torch.ones(3, 1)
    position = torch.tensor([[[0.0, 0.0]], [[0.4, 0.0]], [[0.9, 0.0]]])
    sent = layer(torch.ones(3, WIDTH + 1), RegionGraph(index, edge, position))
    assert (sent[0] > sent[1]).all()
    assert (sent[1] > sent[2]).all()


def test_f_and_h_of_a_row_belong_to_the_same_region() -> None:
    """With itself as only neighbour a region's h is its own node's; logits in another order change it."""
    head, regions = make_head(neighbours=1), five_regions()
    h = split(head, regions)[1]
    assert regions.logits_RK is not None
    shuffled = replace(regions, logits_RK=regions.logits_RK.roll(1, dims=0))
    assert not np.allclose(split(head, shuffled)[1], h, rtol=1e-2)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = head(pooled_maps()[order], regions[order])[0][:, WIDTH:].detach().double().numpy()
    np.testing.assert_allclose(permuted, h[order.numpy()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("nodes", ["argmax", "soft"])
def test_nothing_flows_back_to_the_stage_before(nodes: str) -> None:
    head, regions = make_head(nodes=nodes), five_regions()
    assert regions.logits_RK is not None
    logits, pooled = regions.logits_RK.requires_grad_(), pooled_maps().requires_grad_()
    head(pooled, regions)[0][:, WIDTH:].sum().backward()
    assert logits.grad is None
    assert pooled.grad is not None
    assert not pooled.grad.any()


def test_permuting_the_classes_of_everything_leaves_h_unchanged() -> None:
    order = torch.tensor([0, 4, 1, 7, 2, 6, 3, 5])
    head, regions = make_head(nodes="soft"), five_regions()
    assert regions.logits_RK is not None
    assert regions.weight_KD1 is not None
    moved = replace(regions, logits_RK=regions.logits_RK[:, order], weight_KD1=regions.weight_KD1[order])
    np.testing.assert_allclose(split(head, moved)[1], split(head, regions)[1], rtol=1e-4, atol=1e-7)


def test_diagnostics_are_the_spread_of_h_and_the_mean_largest_edge_of_the_last_image() -> None:
    head, regions = make_head(), five_regions()
    f, h = split(head, regions)
    found = head.diagnostics()
    assert found["context_sd_ratio"] == pytest.approx(h.std(ddof=1) / f.std(ddof=1), rel=1e-4)
    edges = slow_edges(head, f[[1, 3, 4]])
    assert found["edge_max"] == pytest.approx(np.mean([max(row.values()) for row in edges]), rel=1e-4)


@pytest.mark.parametrize(("num_classes", "published"), [(80, 1.09), (1000, 2.27), (3000, 4.83)])
def test_the_number_of_added_parameters(num_classes: int, published: float) -> None:
    """Counted from the official code, but for the slants and for a head that does not fit its input there."""
    relations = (1024 + 2) * 256 + (256 + 2) * 256
    layers = 1025 * 512 + 512 * 256 + 2 * 8 * 5
    added = relations + layers + 1281 * (num_classes + 1) + 1281 * 4
    assert round(added / 1e6, 2) == published
    first, second = StageConfig(TwoLinearConfig()), StageConfig(SGRNConfig())
    plain = ModelConfig(BackboneConfig("resnet18"), (first,))
    counts = []
    for config in (plain, replace(plain, stages=(first, second))):
        with torch.device("meta"):  # shapes without memory
            model = build_model(config, num_classes, None)
        counts.append(sum(weight.numel() for weight in model.parameters()))
    assert counts[1] - counts[0] == added


def test_options_that_mean_nothing_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match='nodes: found "sofd"; expected one of argmax, soft'):
        SGRNConfig(nodes="sofd")
    with pytest.raises(ConfigError, match="width: found 20; expected a multiple of the 8 kernels"):
        SGRNConfig(width=20)
    with pytest.raises(ConfigError, match="neighbours: found 0; expected 1 or more"):
        SGRNConfig(neighbours=0)
    with pytest.raises(ConfigError, match="put a plain stage first"):
        SGRNConfig().build(HeadInputs(6, 5, 3, NUM_CLASSES))
