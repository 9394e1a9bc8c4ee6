"""Where a box stands as seen from another, and class lift that asks for it."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import write_data

from detector.checkpoint import load_run
from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, Regions, UpdateInputs
from detector.knowledge import lift_of, load_knowledge
from detector.overrides import override
from detector.positions import (
    OPPOSITE,
    POSITIONS,
    UNNAMED,
    PositionCounts,
    lift_by_position,
    no_counts,
    positions_of,
)
from detector.reasoning.class_lift import ClassLift, ClassLiftConfig
from detector.recipes import load_recipe
from detector.train import train
from kgtool.box_relations import PREDICATES, name_pairs
from kgtool.graph import ClassGraph, Evidence, make_graph, save_graph

CLASSES = ("red", "green", "blue")


def random_boxes(num_boxes: int, seed: int) -> torch.Tensor:
    """Whole pixels, many of them inside one another, touching, or of equal area."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 30, (num_boxes, 2), generator=generator)
    return torch.cat([corner, corner + torch.randint(1, 30, (num_boxes, 2), generator=generator)], 1).float()


def random_counts(seed: int, num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts by position in both directions, and of pairs: at least as many."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(POSITIONS), num_classes, num_classes)
    counts_PCC = torch.randint(0, 9, size, generator=generator).double()
    reverse = [POSITIONS.index(name) for name in OPPOSITE]
    counts_PCC = counts_PCC + counts_PCC[reverse].transpose(1, 2)
    return counts_PCC, counts_PCC.sum(dim=0) + 1


def listed(counts_PCC: torch.Tensor) -> PositionCounts:
    index = counts_PCC.nonzero().T
    return PositionCounts(counts_PCC.shape[1], index, counts_PCC[tuple(index)])


def regions_of(boxes: torch.Tensor) -> Regions:
    return Regions(
        boxes_R4=boxes.float(),
        image_R=torch.zeros(len(boxes), dtype=torch.int64),
        sizes_B2=torch.tensor([[100, 100]]),
        context=FeatureMaps((), ()),
    )


# ---- names of pairs of boxes


def test_names_are_those_that_class_graphs_are_counted_with() -> None:
    boxes = random_boxes(300, seed=0)
    found = positions_of(boxes, boxes)
    seen = set()
    for subject in range(len(boxes)):
        pairs = np.repeat(boxes[subject : subject + 1].double().numpy(), len(boxes), axis=0)
        forth = name_pairs(pairs, boxes.double().numpy())
        back = name_pairs(boxes.double().numpy(), pairs)
        for other in range(len(boxes)):
            name = PREDICATES[forth[other]]
            around = name == "image" and PREDICATES[back[other]] == "inside"
            number = int(found[subject, other])
            expected = "around" if around else "image" if number == UNNAMED else POSITIONS[number]
            assert name == ("image" if around else expected), (boxes[subject], boxes[other])
            seen.add(expected)
    assert seen == {*POSITIONS, "image"}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_pair_the_other_way_round_has_the_opposite_name(one: int, two: int) -> None:
    first, second = random_boxes(6, one), random_boxes(6, two)
    opposite = torch.tensor([*(POSITIONS.index(name) for name in OPPOSITE), UNNAMED])
    assert torch.equal(positions_of(second, first), opposite[positions_of(first, second)].T)


# ---- lift by position


def test_lift_by_position_is_that_of_loops_over_the_counts() -> None:
    counts_PCC, counts_CC = random_counts(0)
    lift_CC = lift_of(counts_CC, 1.0)
    found = lift_by_position(counts_PCC, counts_CC, lift_CC, 2.0)
    total = sum(counts_CC[c][d] for c in range(3) for d in range(3))
    for position in range(len(POSITIONS)):
        of_position = sum(counts_PCC[position][c][d] for c in range(3) for d in range(3))
        for c in range(3):
            for d in range(3):
                expected = of_position * sum(counts_CC[c]) * sum(counts_CC[d]) / total**2
                lift = (counts_PCC[position, c, d] + 2 * lift_CC[c, d]) / (expected + 2)
                assert found[position, c, d] == pytest.approx(float(lift))


def test_without_counts_of_a_position_its_lift_is_that_of_the_classes_anywhere() -> None:
    counts_CC = random_counts(0)[1]
    lift_CC = lift_of(counts_CC, 1.0)
    found = lift_by_position(no_counts(3).to_dense(), counts_CC, lift_CC, 1.0)
    torch.testing.assert_close(found, lift_CC.expand_as(found))


def test_lift_by_position_of_independent_classes_is_one() -> None:
    share = torch.tensor([1.0, 2, 5], dtype=torch.float64)
    counts_CC = torch.outer(share, share)
    counts_PCC = counts_CC * torch.tensor([1.0, 1, 2, 3, 3, 7])[:, None, None]
    found = lift_by_position(counts_PCC, counts_CC, lift_of(counts_CC, 1.0), 1.0)
    torch.testing.assert_close(found, torch.ones_like(found))


def test_scores_are_those_of_loops_over_the_equations() -> None:
    counts_PCC, counts_CC = random_counts(0)
    lift_CC = lift_of(counts_CC, 1.0)
    lift_PCC = lift_by_position(counts_PCC, counts_CC, lift_CC, 1.0)
    by_position = [*lift_PCC.tolist(), lift_CC.tolist()]
    # Above one another, beside and near, far, one in another, overlapping a little.
    boxes = torch.tensor(
        [[0, 0, 9, 9], [0, 20, 9, 29], [12, 0, 21, 9], [90, 5, 99, 14], [2, 2, 5, 5], [88, 12, 93, 18]]
    )
    logits = torch.randn(len(boxes), 4, generator=torch.Generator().manual_seed(0)).double()
    probability = logits.softmax(1).tolist()
    position = positions_of(boxes, boxes).tolist()
    assert {name for row in position for name in row} >= {0, 1, 2, 3, 4, 5, UNNAMED}
    expected = logits.clone()
    for i in range(len(boxes)):
        context = [0.0, 0.0, 0.0]
        for j in range(len(boxes)):
            if i == j:
                continue
            lift = by_position[position[i][j]]
            for c in range(3):
                heard = probability[j][0] + sum(probability[j][d + 1] * lift[c][d] for d in range(3))
                context[c] += math.log(heard)
        own = logits[i, 1:].tolist()
        before = sum(math.exp(value) for value in own)
        after = sum(math.exp(value + 0.5 * said) for value, said in zip(own, context, strict=True))
        for c in range(3):
            expected[i, c + 1] += 0.5 * context[c] - math.log(after / before)
    config = ClassLiftConfig(positions=True)
    update = config.build(UpdateInputs(3, counts_CC, None, listed(counts_PCC))).eval()
    torch.testing.assert_close(update(logits.float(), regions_of(boxes)), expected.float())


def test_lifts_of_one_change_no_bit_and_equal_ones_are_the_lift_wherever_a_region_stands() -> None:
    boxes, logits = random_boxes(12, 3), torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    ones = ClassLift(ClassLiftConfig(), torch.ones(3, 3), torch.ones(6, 3, 3)).eval()
    assert torch.equal(ones(logits, regions_of(boxes)), logits)
    lift_CC = lift_of(random_counts(0)[1], 1.0)
    anywhere = ClassLift(ClassLiftConfig(), lift_CC).eval()
    everywhere = ClassLift(ClassLiftConfig(), lift_CC, lift_CC.expand(6, 3, 3)).eval()
    torch.testing.assert_close(everywhere(logits, regions_of(boxes)), anywhere(logits, regions_of(boxes)))


def test_a_class_that_only_its_place_tells_apart_is_found() -> None:
    """Class 0 or 1 stands with 2, the one below it, the other above, and both look the same."""
    counts_PCC = torch.zeros(len(POSITIONS), 3, 3, dtype=torch.float64)
    above, below = POSITIONS.index("above"), POSITIONS.index("below")
    counts_PCC[below, 0, 2] = counts_PCC[above, 2, 0] = 50
    counts_PCC[above, 1, 2] = counts_PCC[below, 2, 1] = 50
    inputs = UpdateInputs(3, counts_PCC.sum(dim=0), None, listed(counts_PCC))
    partner = [40.0, 40, 50, 50]
    logits = torch.tensor([[-9.0, 1, 1, -9], [-9, -9, -9, 6]])
    for box, expected in (([40.0, 55, 50, 65], 0), ([40.0, 25, 50, 35], 1)):
        regions = regions_of(torch.tensor([box, partner]))
        knows = ClassLiftConfig(positions=True).build(inputs).eval()(logits, regions)
        assert int(knows[0, 1:].argmax()) == expected
        assert knows[0, 1 + expected] - knows[0, 2 - expected] > 1
        without = ClassLiftConfig().build(inputs).eval()(logits, regions)
        assert without[0, 1] == pytest.approx(float(without[0, 2]))


# ---- from the graph's file into a run


def graph_of(rows: dict[tuple[str, str, str], int]) -> ClassGraph:
    totals: Counter[str] = Counter()
    for (_, term, _), count in rows.items():
        totals[term] += count
    terms = tuple(sorted(totals, key=lambda term: (-totals[term], term)))
    index = [(CLASSES.index(one), terms.index(term), CLASSES.index(two)) for one, term, two in rows]
    order = sorted(range(len(index)), key=index.__getitem__)
    counts = np.zeros((3, 3), dtype=np.int64)
    for (one, _, two), count in rows.items():
        counts[CLASSES.index(one), CLASSES.index(two)] += count
    return make_graph(
        classes=CLASSES,
        synsets=("", "", ""),
        weight=np.ones((3, 3)),
        counts=counts,
        kind="relation",
        recipe={"name": "paper", "num_terms": 0},
        dataset="test",
        evidence=Evidence(
            terms,
            np.array([totals[term] for term in terms]),
            np.array(index, dtype=np.int32)[order],
            np.array(list(rows.values()))[order],
        ),
    )


def test_counts_by_position_come_in_the_order_of_the_data_and_in_both_directions_once(tmp_path: Path) -> None:
    rows = {
        ("red", "above", "green"): 4,
        ("red", "inside", "blue"): 3,
        ("green", "near", "blue"): 2,
        ("blue", "near", "green"): 2,
        ("red", "holding", "blue"): 9,
    }
    save_graph(graph_of(rows), tmp_path / "graph.npz")
    found = load_knowledge(tmp_path / "graph.npz", ("blue", "green", "red"), ("", "", "")).positions
    assert found is not None
    blue, green, red = range(3)
    expected = torch.zeros(len(POSITIONS), 3, 3, dtype=torch.float64)
    for name, one, two, count in (
        ("above", red, green, 4),
        ("below", green, red, 4),
        ("inside", red, blue, 3),
        ("around", blue, red, 3),
        ("near", green, blue, 2),
        ("near", blue, green, 2),
    ):
        expected[POSITIONS.index(name), one, two] = count
    assert torch.equal(found.to_dense(), expected)
    fewer = load_knowledge(tmp_path / "graph.npz", ("blue", "green"), ("", "")).positions
    assert fewer is not None
    assert torch.equal(fewer.to_dense(), expected[:, :2, :2])


def test_a_graph_whose_predicates_are_no_positions_is_refused(tmp_path: Path) -> None:
    save_graph(graph_of({("red", "holding", "blue"): 9}), tmp_path / "graph.npz")
    knowledge = load_knowledge(tmp_path / "graph.npz", CLASSES, ("", "", ""))
    assert knowledge.positions is None
    with pytest.raises(ConfigError, match=r"positions=true: found no counts by position.*--geometry"):
        ClassLiftConfig(positions=True).build(UpdateInputs(3, knowledge.counts_CC))


def test_a_run_with_positions_comes_back(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    graph = graph_of({("red", "above", "green"): 40, ("red", "near", "blue"): 7})
    save_graph(graph, tmp_path / "graph.npz")
    settings = {"positions": True, "trust": False}
    few = {f"model.stages.0.score_update.{name}": value for name, value in settings.items()}
    config = override(load_recipe("class_lift_sample"), few | {"train.epochs": 1, "train.batch_size": 3})
    train(config, data, tmp_path / "run", graphs=[tmp_path / "graph.npz"], quiet=True)
    loaded = load_run(tmp_path / "run", torch.device("cpu"))
    excess_PCC = loaded.model.stages[0].score_update.excess_PCC
    assert excess_PCC.shape == (len(POSITIONS), 3, 3)
    red, green = (loaded.classes.names.index(name) for name in ("red", "green"))
    for name, high, low in (("above", red, green), ("below", green, red)):
        of_name = excess_PCC[POSITIONS.index(name)]
        assert of_name[high, low] > 1
        assert of_name[low, high] < -0.5
