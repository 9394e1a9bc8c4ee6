"""The wall: classes meet by synset or name, whatever their order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import ClassMatchError
from detector.knowledge import load_knowledge, match_classes, with_background
from kgtool.errors import GraphFormatError, KgtoolError
from kgtool.graph import make_graph, save_graph
from kgtool.report import find_classes

NAMES = ("dog", "cat", "car", "tree", "mouse")
SYNSETS = ("dog.n.01", "cat.n.01", "car.n.01", "tree.n.01", "mouse.n.01")
WEIGHT = np.arange(25, dtype=np.float32).reshape(5, 5)


@pytest.fixture
def graph_path(tmp_path: Path) -> Path:
    graph = make_graph(
        classes=NAMES,
        synsets=SYNSETS,
        weight=WEIGHT,
        counts=None,
        kind="relation",
        recipe={"name": "paper"},
        dataset="test",
        directed=True,
    )
    save_graph(graph, tmp_path / "graph.npz")
    return tmp_path / "graph.npz"


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1), (3,), (1, 4)])
def test_the_graph_comes_in_the_order_of_the_data(graph_path: Path, order: tuple[int, ...]) -> None:
    knowledge = load_knowledge(graph_path, [NAMES[i] for i in order], [SYNSETS[i] for i in order])
    assert knowledge.graph_CC.dtype == torch.float32
    for row, class_row in enumerate(order):
        for column, class_column in enumerate(order):
            assert knowledge.graph_CC[row, column] == WEIGHT[class_row, class_column]


def test_classes_of_the_graph_that_the_data_lacks_are_dropped_and_named(graph_path: Path) -> None:
    knowledge = load_knowledge(graph_path, ["cat", "car"], ["", ""])
    (message,) = knowledge.messages
    assert "3 classes" in message
    assert "dog, tree, mouse" in message
    assert load_knowledge(graph_path, NAMES, SYNSETS).messages == ()


def test_the_hash_is_that_of_the_file_whatever_the_order(graph_path: Path) -> None:
    first, second = (
        load_knowledge(graph_path, names, [""] * 2) for names in (["dog", "cat"], ["car", "dog"])
    )
    assert first.graph_hash == second.graph_hash
    assert len(first.graph_hash) == 64


def test_where_both_sides_have_a_synset_it_decides_and_not_the_name() -> None:
    assert match_classes(["puppy"], ["dog.n.01"], ["cat", "dog"], ["cat.n.01", "dog.n.01"]) == [1]
    with pytest.raises(
        ClassMatchError, match=r'"mouse" \(mouse\.n\.04; the graph\'s "mouse" is mouse\.n\.01\)'
    ):
        match_classes(["mouse"], ["mouse.n.04"], ["mouse"], ["mouse.n.01"])


@pytest.mark.parametrize("data_synset", ["", "dog.n.01"])
@pytest.mark.parametrize("graph_synset", ["", "dog.n.01"])
def test_where_one_side_has_no_synset_the_name_decides(data_synset: str, graph_synset: str) -> None:
    assert match_classes(["dog"], [data_synset], ["cat", "dog"], ["", graph_synset]) == [1]


@pytest.mark.parametrize(("data", "graph"), [("dog", "dog.n.01"), ("dog.n.01", "hound")])
def test_a_class_named_as_a_synset_has_that_synset(data: str, graph: str) -> None:
    known = {"dog": "dog.n.01", "hound": "dog.n.01"}
    assert match_classes([data], [known.get(data, "")], ["cat", graph], ["", known.get(graph, "")]) == [1]


def test_missing_classes_are_named_with_near_names_and_the_remedy(graph_path: Path) -> None:
    names = ["dog", "trees", "zebra", "a1", "a2", "a3", "a4"]
    with pytest.raises(ClassMatchError) as caught:
        load_knowledge(graph_path, names, [""] * 7)
    message = str(caught.value)
    assert str(graph_path) in message
    assert "found 1 of the data's 7 classes" in message
    assert '"trees" (near: tree)' in message
    assert "and 1 more" in message
    assert '"a4"' not in message
    assert "--classes" in message
    assert "\n" not in message
    assert caught.value.exit_code == 4


def test_two_classes_of_the_data_cannot_be_one_in_the_graph() -> None:
    with pytest.raises(ClassMatchError, match='two classes of the data, "dog" and "puppy"'):
        match_classes(["dog", "puppy"], ["", "dog.n.01"], ["dog"], ["dog.n.01"])


@given(st.permutations(range(5)), st.permutations(range(5)), st.booleans(), st.booleans())
def test_matching_does_not_depend_on_either_order(
    data: list[int], graph: list[int], data_has_synsets: bool, graph_has_synsets: bool
) -> None:
    order = match_classes(
        [NAMES[i] for i in data],
        [SYNSETS[i] * data_has_synsets for i in data],
        [NAMES[i] for i in graph],
        [SYNSETS[i] * graph_has_synsets for i in graph],
    )
    assert [graph[position] for position in order] == list(data)


def test_errors_of_the_graph_file_pass_on_with_their_exit_code(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"not a graph")
    with pytest.raises(GraphFormatError) as caught:
        load_knowledge(tmp_path / "broken.npz", NAMES, SYNSETS)
    assert caught.value.exit_code == 3
    with pytest.raises(KgtoolError):
        load_knowledge(tmp_path / "missing.npz", NAMES, SYNSETS)


@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_background_is_the_first_row_and_column(fill: float) -> None:
    graph_KK = with_background(torch.from_numpy(WEIGHT), fill)
    assert graph_KK.shape == (6, 6)
    assert (graph_KK[0] == fill).all()
    assert (graph_KK[:, 0] == fill).all()
    np.testing.assert_array_equal(graph_KK[1:, 1:].numpy(), WEIGHT)


@pytest.mark.parametrize("synset", ["", "dog.n.01", "frisbee.n.01", "grass.n.01", "spoon.n.01"])
@pytest.mark.parametrize("name", ["dog", "dog.n.01", "frisbee", "spoon", "grass", "hound"])
def test_the_report_of_a_graph_finds_classes_as_the_detector_does(name: str, synset: str) -> None:
    """A name does not make two classes one that have two synsets; a class named as a synset has that one."""
    graph = make_graph(
        classes=["dog", "frisbee.n.01", "grass"],
        synsets=["dog.n.01", "", ""],
        weight=np.ones((3, 3)),
        counts=None,
        kind="hypernym",
        recipe={"name": "path"},
        dataset="none",
    )
    expected: list[int | None]
    try:
        expected = list(match_classes([name], [synset], graph.classes, graph.synsets))
    except ClassMatchError:
        expected = [None]
    assert find_classes([name], [synset], graph) == expected
