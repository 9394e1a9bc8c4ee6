"""Reasoning-RCNN against NumPy loops written from the paper, and its published parameter counts."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from tiny_models import NUM_CLASSES, head_inputs, random_graph, random_regions
from torch import Tensor

from detector.config import BackboneConfig, ModelConfig, StageConfig
from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, HeadInputs, Regions, SharedHeadConfig, TwoLinearConfig
from detector.rcnn import build_model
from detector.reasoning.reasoning_rcnn import ReasoningConfig, ReasoningHead, gather_by_class

WIDTH = 5  # D
REASONED = 4  # E
SQUEEZE = 3
FORMS = ("printed", "released", "working")
FIVE_REGIONS = [0, 1, 0, 1, 1]


def make_head(num_maps: int = 5, graph_CC: Tensor | None = None, **options: str) -> ReasoningHead:
    torch.manual_seed(4)
    inputs = head_inputs(width=WIDTH, num_maps=num_maps)
    inputs = replace(inputs, graphs=random_graph() if graph_CC is None else graph_CC)
    return ReasoningConfig(width=REASONED, squeeze=SQUEEZE, **options).build(inputs)


def five_regions(num_maps: int = 5) -> Regions:
    return random_regions(FIVE_REGIONS, 2, width=WIDTH, num_maps=num_maps)


def pooled_maps(count: int = 5) -> Tensor:
    return torch.randn(count, 6, 3, 3, generator=torch.Generator().manual_seed(1))


def split(head: ReasoningHead, regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """f and f' as the head returns them."""
    features = head(pooled_maps(len(regions)), regions)[0].detach().double().numpy()
    return features[:, :WIDTH], features[:, WIDTH:]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def parameters(head: ReasoningHead) -> dict[str, np.ndarray]:
    return {name: weight.detach().double().numpy() for name, weight in head.named_parameters()}


def slow_z(head: ReasoningHead, regions: Regions, image: int) -> np.ndarray:
    """Section 3.2.3, squeeze: one size, 3x3 convolution with stride 2, ReLU, mean; 64 x 64 px images."""
    maps = [features[image].double().numpy() for features in regions.context.maps]
    if len(maps) > 1:
        side = maps[2].shape[1]
        nearest = [[i * features.shape[1] // side for i in range(side)] for features in maps]
        maps = [features[:, rows][:, :, rows] for features, rows in zip(maps, nearest, strict=True)][1:]
    stacked = np.concatenate(maps)
    weight, bias = (
        parameters(head)["squeeze.convolution.weight"],
        parameters(head)["squeeze.convolution.bias"],
    )
    padded = np.pad(stacked, ((0, 0), (1, 1), (1, 1)))
    out = (stacked.shape[1] + 1) // 2
    z = np.zeros(len(weight))
    for channel, i, j in product(range(len(weight)), range(out), range(out)):
        window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        z[channel] += max((window * weight[channel]).sum() + bias[channel], 0) / out**2
    return z


def slow_reasoning(
    head: ReasoningHead, regions: Regions, f: np.ndarray, given_CC: Tensor | None = None
) -> np.ndarray:
    """f' = P (alpha (x) E M) W_G, one region, one class, one channel at a time."""
    config, named = head.config, parameters(head)
    assert regions.logits_RK is not None
    assert regions.weight_KD1 is not None
    working, released = config.form == "working", config.form == "released"
    first = 1 if working else 0  # background takes no part in the working form
    num_nodes = NUM_CLASSES + 1 - first
    given = (random_graph() if given_CC is None else given_CC).double().numpy()
    given = given if config.graph == "given" else np.eye(NUM_CLASSES)
    graph = np.zeros((num_nodes, num_nodes))
    graph[1 - first :, 1 - first :] = given
    result = np.zeros((len(regions), config.width))
    for image in range(regions.num_images):
        rows = [row for row in range(len(regions)) if regions.image_R[row] == image]
        p = {row: softmax(regions.logits_RK[row].double().numpy())[first:] for row in rows}
        pool = regions.weight_KD1.double().numpy()[first:]
        if config.pool == "region":
            pool = sum(np.outer(p[row], [*f[row], 1.0]) for row in rows) / len(rows)
        spread = np.zeros_like(pool)
        for node, other in product(range(num_nodes), range(num_nodes)):
            spread[node] += graph[node, other] * pool[other]
        if working:
            spread = spread - spread.sum(axis=0) / num_nodes
            spread = np.array([row / np.sqrt((row**2).mean()) for row in spread])
        if config.attention == "softmax":
            query = named["excite.weight"] @ slow_z(head, regions, image)
            if released:
                query = np.maximum(query + named["excite.bias"], 0)
            alpha = softmax(np.array([query @ row for row in pool])) * (NUM_CLASSES if working else 1)
        elif config.attention == "uniform":
            alpha = np.full(num_nodes, 1 / NUM_CLASSES) * (NUM_CLASSES if working else 1)
        else:
            alpha = np.ones(num_nodes)
        for row in rows:
            for node in range(num_nodes):
                evolved = named["transform.weight"] @ (alpha[node] * spread[node])
                if released:
                    evolved = np.maximum(evolved + named["transform.bias"], 0)
                result[row] += p[row][node] * evolved
    return result


@pytest.mark.parametrize("num_maps", [1, 5])
@pytest.mark.parametrize("graph", ["given", "identity"])
@pytest.mark.parametrize("pool", ["classifier", "region"])
@pytest.mark.parametrize("attention", ["softmax", "uniform", "off"])
@pytest.mark.parametrize("form", FORMS)
def test_equation_1_one_region_and_one_class_at_a_time(
    form: str, attention: str, pool: str, graph: str, num_maps: int
) -> None:
    head = make_head(num_maps, form=form, attention=attention, pool=pool, graph=graph)
    regions = five_regions(num_maps)
    f, f_prime = split(head, regions)
    expected = slow_reasoning(head, regions, f)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(f_prime, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_with_identity_and_uniform_attention_the_formula_is_p_m_w_over_c() -> None:
    head, regions = make_head(graph_CC=torch.eye(NUM_CLASSES), attention="uniform"), five_regions()
    _, f_prime = split(head, regions)
    assert regions.logits_RK is not None
    assert regions.weight_KD1 is not None
    p, m = regions.logits_RK.softmax(dim=1)[:, 1:].double(), regions.weight_KD1[1:].double()
    expected = p.numpy() @ m.numpy() @ parameters(head)["transform.weight"].T / NUM_CLASSES
    np.testing.assert_allclose(f_prime, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_each_of_several_graphs_adds_its_own_f_prime_through_the_same_attention_and_w(form: str) -> None:
    two, regions = torch.stack([random_graph(seed=3), random_graph(seed=8)]), five_regions()
    head = make_head(form=form, graph_CC=two)
    f, f_prime = split(head, regions)
    assert head.out_features == WIDTH + 2 * REASONED
    expected = np.concatenate([slow_reasoning(head, regions, f, given_CC) for given_CC in two], axis=1)
    np.testing.assert_allclose(f_prime, expected, rtol=1e-4, atol=1e-6)
    one = make_head(form=form, graph_CC=two[:1])
    assert {name: weight.shape for name, weight in head.named_parameters()} == {
        name: weight.shape for name, weight in one.named_parameters()
    }
    head.eval()
    with torch.no_grad():  # the kept E M W_G too
        for _ in range(2):
            np.testing.assert_allclose(split(head, regions)[1], f_prime, rtol=1e-5, atol=1e-7)


def test_one_graph_is_the_same_alone_and_as_a_list_of_one() -> None:
    alone, listed = make_head(graph_CC=random_graph()), make_head(graph_CC=random_graph()[None])
    np.testing.assert_array_equal(split(alone, five_regions())[1], split(listed, five_regions())[1])


@pytest.mark.parametrize("form", FORMS)
def test_the_identity_option_is_the_identity_as_graph(form: str) -> None:
    option = make_head(form=form, graph="identity")
    given = make_head(form=form, graph_CC=torch.eye(NUM_CLASSES))
    np.testing.assert_array_equal(split(option, five_regions())[1], split(given, five_regions())[1])


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_matters(form: str) -> None:
    given, shuffled = make_head(form=form), make_head(form=form, graph_CC=random_graph(seed=8))
    assert not np.allclose(split(given, five_regions())[1], split(shuffled, five_regions())[1])


@pytest.mark.parametrize("form", FORMS)
def test_f_and_f_prime_of_a_row_belong_to_the_same_region(form: str) -> None:
    """Probabilities in another order than the features would leak labels; the last line is what that does."""
    head, regions = make_head(form=form), five_regions()
    f, f_prime = split(head, regions)
    assert regions.logits_RK is not None
    for row in range(5):
        alone = regions[torch.tensor([row])]
        features = head(pooled_maps()[row : row + 1], alone)[0].detach().double().numpy()[0]
        np.testing.assert_allclose(f[row], features[:WIDTH], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(f_prime[row], features[WIDTH:], rtol=1e-4, atol=1e-6)
    shuffled = replace(regions, logits_RK=regions.logits_RK.roll(1, dims=0))
    assert not np.allclose(split(head, shuffled)[1], f_prime, rtol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_permuting_the_classes_of_everything_leaves_f_prime_unchanged(form: str) -> None:
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    with_background = torch.cat([torch.tensor([0]), order + 1])
    head, regions = make_head(form=form), five_regions()
    permuted = make_head(form=form, graph_CC=random_graph()[order][:, order])
    assert regions.logits_RK is not None
    assert regions.weight_KD1 is not None
    moved = replace(
        regions,
        logits_RK=regions.logits_RK[:, with_background],
        weight_KD1=regions.weight_KD1[with_background],
    )
    np.testing.assert_allclose(split(permuted, moved)[1], split(head, regions)[1], rtol=1e-4, atol=1e-7)


def test_padding_of_the_batch_does_not_reach_the_attention() -> None:
    head, regions = make_head(), five_regions()
    small = torch.tensor([[64, 64], [32, 64]])
    maps = [features.clone() for features in regions.context.maps]
    for features, stride in zip(maps, regions.context.strides, strict=True):
        features[1, :, 32 // stride + 2 :] += 100  # 2: what the convolution at the border still reaches
    changed = replace(regions, sizes_B2=small, context=FeatureMaps(tuple(maps), regions.context.strides))
    before = split(head, replace(regions, sizes_B2=small))[1]
    np.testing.assert_array_equal(split(head, changed)[1], before)
    assert not np.allclose(split(head, regions)[1], before)


def test_no_gradient_reaches_the_pool_and_in_the_working_form_none_the_probabilities() -> None:
    for form in FORMS:
        regions = five_regions()
        assert regions.logits_RK is not None
        assert regions.weight_KD1 is not None
        logits, pool = regions.logits_RK.requires_grad_(), regions.weight_KD1
        make_head(form=form)(pooled_maps(), regions)[0].sum().backward()
        assert not pool.requires_grad
        assert (logits.grad is None) == (form == "working")


def test_no_gradient_reaches_the_regions_through_a_pool_made_of_them() -> None:
    probability, features = torch.rand(5, 8, requires_grad=True), torch.rand(5, WIDTH, requires_grad=True)
    assert not gather_by_class(probability, features).requires_grad


class Counting(ReasoningHead):
    """Counts how often E M W_G is computed."""

    evolutions = 0

    def evolve(self, pool_KD1: Tensor) -> Tensor:
        self.evolutions += 1
        return super().evolve(pool_KD1)


def test_e_m_w_is_computed_once_a_step_and_kept_in_evaluation() -> None:
    head = Counting(ReasoningConfig(width=REASONED, squeeze=SQUEEZE), head_inputs(width=WIDTH))
    regions = random_regions([0, 1, 2, 2, 1], 3, width=WIDTH)
    head(pooled_maps(), regions)
    head(pooled_maps(), regions)
    assert head.evolutions == 2, "once a training step, not once an image"
    head.eval()
    with torch.no_grad():
        for _ in range(3):
            head(pooled_maps(), regions)
        assert head.evolutions == 3, "once for all evaluation steps"
        head.train()
        head(pooled_maps(), regions)
        head.eval()
        head(pooled_maps(), regions)
    assert head.evolutions == 5, "training forgets"
    head(pooled_maps(), regions)[0].sum().backward()
    assert head.transform.weight.grad is not None, "with gradients nothing is kept"


@pytest.mark.parametrize("form", FORMS)
def test_diagnostics_are_the_spread_of_f_prime_and_the_largest_alpha(form: str) -> None:
    head, regions = make_head(form=form), five_regions()
    f, f_prime = split(head, regions)
    found = head.diagnostics()
    assert found["context_sd_ratio"] == pytest.approx(f_prime.std(ddof=1) / f.std(ddof=1), rel=1e-4)
    assert regions.weight_KD1 is not None
    pool = regions.weight_KD1.double().numpy()[1 if form == "working" else 0 :]
    named, largest = parameters(head), 0.0
    for image in range(2):
        query = named["excite.weight"] @ slow_z(head, regions, image)
        query = np.maximum(query + named["excite.bias"], 0) if form == "released" else query
        largest = max(largest, softmax(pool @ query).max())
    assert found["attention_max"] == pytest.approx(largest, rel=1e-4)


def count_parameters(config: ModelConfig, num_classes: int) -> int:
    with torch.device("meta"):  # shapes without memory
        model = build_model(config, num_classes, torch.zeros(num_classes, num_classes))
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("num_classes", "added", "published"),
    [(80, 1_028_054, 1.03), (1000, 2_206_574, 2.21), (3000, 4_768_574, 4.77)],
)
def test_the_released_form_adds_the_published_number_of_parameters(
    num_classes: int, added: int, published: float
) -> None:
    """Convolution 589,888 + FC 66,625 + graph FC 262,656 + class and box layers 1281 (C + 1) + 5,124."""
    assert added == 589_888 + 66_625 + 262_656 + 1281 * (num_classes + 1) + 5_124
    assert round(added / 1e6, 2) == published
    first, second = StageConfig(TwoLinearConfig()), StageConfig(ReasoningConfig(form="released"))
    plain = ModelConfig(BackboneConfig("resnet18"), (first,))
    reasoning = replace(plain, stages=(first, second))
    assert count_parameters(reasoning, num_classes) - count_parameters(plain, num_classes) == added


def test_an_equally_stacked_plain_stage_adds_only_its_class_and_box_layers() -> None:
    first = StageConfig(TwoLinearConfig())
    plain = ModelConfig(BackboneConfig("resnet18"), (first,))
    stacked = replace(plain, stages=(first, StageConfig(SharedHeadConfig())))
    assert count_parameters(stacked, 80) - count_parameters(plain, 80) == 1025 * 81 + 1025 * 4


def test_a_missing_graph_a_wrong_graph_and_a_missing_first_stage_are_one_clear_line() -> None:
    inputs = head_inputs(width=WIDTH)
    with pytest.raises(ConfigError, match="needs a class graph and got none; give --graph"):
        ReasoningConfig().build(replace(inputs, graphs=None))
    with pytest.raises(ConfigError, match=r"found shape \(3, 3\); expected \(7, 7\)"):
        ReasoningConfig().build(replace(inputs, graphs=torch.zeros(3, 3)))
    with pytest.raises(ConfigError, match="put a plain stage first"):
        ReasoningConfig().build(HeadInputs(6, 5, 3, NUM_CLASSES, random_graph()))


@pytest.mark.parametrize("option", ["form", "attention", "pool", "graph"])
def test_a_word_that_is_no_option_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f'{option}: found "wrking"; expected one of'):
        ReasoningConfig(**{option: "wrking"})
