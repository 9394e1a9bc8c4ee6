"""Graphs projected onto other class lists, against slow loops."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.class_names import ClassName, read_class_names
from kgtool.cli import group
from kgtool.errors import InputError
from kgtool.graph import ClassGraph, Evidence, load_graph, make_graph, save_graph
from kgtool.projection import Projection, add_groups, project_evidence, project_graph
from kgtool.weights import attribute_distribution, normalization_of, weights_from_counts
from kgtool.wordnet import load_nouns

SYNSETS = ("dog.n.01", "man.n.01", "cat.n.01", "woman.n.01", "person.n.01", "hat.n.01", "toaster.n.01")
TERMS = ("on", "wears", "near")
RECIPES = [
    ("relation", "paper"),
    ("relation", "release"),
    ("attribute", "similarity"),
    ("cooccurrence", "npmi"),
]


def made_graph(
    kind: str = "relation", recipe: str = "paper", *, num_terms: int = 2, seed: int = 0
) -> ClassGraph:
    """A graph of random annotations over SYNSETS; nothing is counted for hat.n.01."""
    rng = np.random.default_rng(seed)
    size = len(SYNSETS)
    shape = (size, len(TERMS)) if kind == "attribute" else (size, len(TERMS), size)
    dense = rng.integers(0, 4, shape)
    dense[SYNSETS.index("hat.n.01")] = 0
    if kind != "attribute":
        dense[..., SYNSETS.index("hat.n.01")] = 0
    totals = np.sort(dense.sum(axis=tuple(axis for axis in range(dense.ndim) if axis != 1)) + 100)[
        ::-1
    ].copy()
    index = np.argwhere(dense).astype(np.int32)
    selected = dense[:, :num_terms]
    counts = selected if kind == "attribute" else selected.sum(axis=1)
    return make_graph(
        classes=SYNSETS,
        synsets=SYNSETS,
        weight=weights_from_counts(kind, recipe, counts.astype(np.int64)),
        counts=counts,
        kind=kind,
        recipe={"name": recipe, "num_terms": num_terms},
        dataset="made",
        normalization=normalization_of(kind, recipe),
        evidence=Evidence(TERMS, totals.astype(np.int64), index, dense[tuple(index.T)].astype(np.int64)),
        distribution=attribute_distribution(counts) if kind == "attribute" else None,
    )


def given_names(*pairs: tuple[str, str, tuple[str, ...]]) -> list[ClassName]:
    return [ClassName(name, synset=synset, vg_synsets=vg, known_by="given") for name, synset, vg in pairs]


PEOPLE = given_names(
    ("cat", "cat.n.01", ("cat.n.01",)),
    ("person", "person.n.01", ("person.n.01", "man.n.01", "woman.n.01")),
    ("dog", "dog.n.01", ("dog.n.01",)),
)


def project(graph: ClassGraph, names: list[ClassName], **options) -> Projection:
    return project_graph(graph, names, load_nouns("shipped"), **options)


def slow_counts(graph: ClassGraph, groups: list[list[int]]) -> np.ndarray:
    """Counts of groups of classes, one number at a time."""
    columns = [[column] for column in range(graph.counts.shape[1])] if graph.kind == "attribute" else groups
    return np.array(
        [[sum(graph.counts[i, j] for i in row for j in column) for column in columns] for row in groups]
    )


@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_counts_are_sliced_and_added_before_they_are_normalised(kind: str, recipe: str) -> None:
    graph = made_graph(kind, recipe)
    done = project(graph, PEOPLE)
    expected = slow_counts(graph, [[2], [4, 1, 3], [0]])
    np.testing.assert_array_equal(done.graph.counts, expected)
    np.testing.assert_array_equal(
        done.graph.weight, weights_from_counts(kind, recipe, expected).astype(np.float32)
    )
    assert done.graph.classes == ("cat", "person", "dog")
    assert done.graph.synsets == ("cat.n.01", "person.n.01", "dog.n.01")
    assert done.merged == ("person",)


@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_a_graph_projected_onto_its_own_classes_stays_the_same(kind: str, recipe: str) -> None:
    graph = made_graph(kind, recipe)
    names = [ClassName(synset, synset=synset, known_by="given") for synset in SYNSETS]
    assert project(graph, names).graph.graph_hash == graph.graph_hash


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(len(SYNSETS))), st.sampled_from(RECIPES))
def test_the_order_of_the_classes_only_orders_the_graph(order: list[int], recipe: tuple[str, str]) -> None:
    graph = made_graph(*recipe)
    names = [ClassName(SYNSETS[at], synset=SYNSETS[at], known_by="given") for at in order]
    assert project(graph, names).graph.graph_hash == graph.permuted(order).graph_hash


def test_two_projections_are_as_one() -> None:
    graph = made_graph()
    few = [name for name in PEOPLE if name.name != "cat"]
    twice = project(
        project(graph, PEOPLE).graph, given_names(*((n.name, n.synset, (n.synset,)) for n in few))
    )
    assert twice.graph.graph_hash == project(graph, few).graph.graph_hash


def test_merging_first_and_counting_first_give_the_same_graph() -> None:
    """The sum over merged classes equals counting with the merged class from the start."""
    graph = made_graph()
    merged = project(graph, PEOPLE).graph
    codes = {2: 0, 4: 1, 1: 1, 3: 1, 0: 2}
    counts: dict[tuple[int, int, int], int] = {}
    for (subject, term, target), count in zip(
        graph.evidence.index.tolist(), graph.evidence.count, strict=True
    ):
        if subject in codes and target in codes:
            key = (codes[subject], term, codes[target])
            counts[key] = counts.get(key, 0) + int(count)
    assert merged.evidence.index.tolist() == [list(key) for key in sorted(counts)]
    assert merged.evidence.count.tolist() == [counts[key] for key in sorted(counts)]
    assert merged.evidence.terms == graph.evidence.terms
    np.testing.assert_array_equal(merged.evidence.totals, graph.evidence.totals)


GROUPS = st.lists(st.lists(st.integers(0, 5), max_size=3, unique=True).map(tuple), min_size=1, max_size=5)


@given(GROUPS, st.integers(0, 5))
def test_sums_of_any_groups_equal_loops(groups: list[tuple[int, ...]], seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, (6, 6))
    expected = [[sum(values[i, j] for i in row for j in column) for column in groups] for row in groups]
    np.testing.assert_array_equal(add_groups(values, groups, both_ends=True), expected)
    rows = [[sum(values[i, j] for i in row) for j in range(6)] for row in groups]
    np.testing.assert_array_equal(add_groups(values, groups, both_ends=False), rows)


@given(GROUPS, st.integers(0, 5), st.booleans())
def test_evidence_of_any_groups_adds_up_as_the_counts_do(
    groups: list[tuple[int, ...]], seed: int, attribute: bool
) -> None:
    dense = np.random.default_rng(seed).integers(0, 3, (6, 2) if attribute else (6, 2, 6))
    index = np.argwhere(dense).astype(np.int32)
    evidence = Evidence(("a", "b"), np.array([9, 8]), index, dense[tuple(index.T)].astype(np.int64))
    found = project_evidence(evidence, groups)
    expected = add_groups(dense.reshape(6, -1), groups, both_ends=False).reshape(
        len(groups), *dense.shape[1:]
    )
    if not attribute:
        turned = np.moveaxis(expected, 2, 0)
        turned = add_groups(turned.reshape(6, -1), groups, both_ends=False).reshape(
            len(groups), *turned.shape[1:]
        )
        expected = np.moveaxis(turned, 0, 2)
    assert found.index.tolist() == np.argwhere(expected).tolist()
    np.testing.assert_array_equal(found.count, expected[tuple(found.index.T)])
    assert (found.index.dtype, found.count.dtype) == (np.int32, np.int64)


# Normalise, then slice


@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_the_other_order_slices_the_weights_of_all_classes(kind: str, recipe: str) -> None:
    graph = made_graph(kind, recipe)
    done = project(graph, [PEOPLE[0], PEOPLE[2]], order="weights")
    np.testing.assert_array_equal(done.graph.weight, graph.weight[np.ix_([2, 0], [2, 0])])
    assert done.graph.counts is None
    assert done.graph.header["recipe"]["order"] == "normalise, then slice"


def test_the_two_orders_differ_for_relations() -> None:
    graph = made_graph()
    names = [PEOPLE[0], PEOPLE[2]]
    assert not np.allclose(
        project(graph, names).graph.weight, project(graph, names, order="weights").graph.weight
    )


def test_the_other_order_puts_merged_classes_together_first() -> None:
    graph = made_graph()
    done = project(graph, PEOPLE, order="weights")
    everything = slow_counts(graph, [[2], [4, 1, 3], [0], [5], [6]])
    expected = weights_from_counts("relation", "paper", everything)[:3, :3]
    np.testing.assert_array_equal(done.graph.weight, expected.astype(np.float32))


# Classes without evidence


def test_classes_without_evidence_are_named_and_empty() -> None:
    names = [*PEOPLE, ClassName("hat"), ClassName("zzgrbl")]
    done = project(made_graph(), names)
    assert done.no_evidence == ("hat", "zzgrbl")
    assert not done.graph.counts[3:].any()
    assert not done.graph.counts[:, 3:].any()
    assert done.graph.header["projection"]["no_evidence"] == ["hat", "zzgrbl"]


def test_a_hypernym_stands_in_only_when_asked_and_the_file_says_so(tmp_path: Path) -> None:
    graph = made_graph()
    names = [PEOPLE[0], ClassName("girl")]
    assert project(graph, names).no_evidence == ("girl",)
    done = project(graph, names, fallback_steps=3)
    assert done.fallback == {"girl": "woman.n.01"}
    assert done.no_evidence == ()
    np.testing.assert_array_equal(done.graph.counts, slow_counts(graph, [[2], [3]]))
    save_graph(done.graph, tmp_path / "g.npz")
    note = load_graph(tmp_path / "g.npz").header["projection"]
    assert note["fallback"] == {"girl": "woman.n.01"}
    assert note["classes"] == {"cat": ["cat.n.01"], "girl": ["woman.n.01"]}
    assert note["from"] == graph.graph_hash


def test_a_class_whose_neighbours_are_left_out_is_isolated_not_without_evidence() -> None:
    counts = np.zeros((3, 3), dtype=np.int64)
    counts[0, 1] = 5
    graph = make_graph(
        classes=SYNSETS[:3],
        synsets=SYNSETS[:3],
        weight=weights_from_counts("relation", "paper", counts),
        counts=counts,
        kind="relation",
        recipe={"name": "paper"},
        dataset="made",
    )
    done = project(graph, [PEOPLE[0], PEOPLE[2]])
    assert (done.isolated, done.no_evidence) == (("dog",), ("cat",))


def test_a_toaster_is_found_under_the_person_only_where_a_table_says_so() -> None:
    assert project(made_graph(), [PEOPLE[0], ClassName("toaster")]).no_evidence == ("toaster",)
    coco = [name for name in read_class_names("coco") if name.name in ("toaster", "cat")]
    assert project(made_graph(), coco).graph.header["projection"]["classes"]["toaster"] == ["toaster.n.01"]


def test_background_is_left_out_and_told_and_moves_no_other_class(tmp_path: Path) -> None:
    names = [PEOPLE[0], ClassName("background"), PEOPLE[2], ClassName("__Background__")]
    done = project(made_graph(), names)
    alone = project(made_graph(), [PEOPLE[0], PEOPLE[2]])
    assert done.graph.classes == alone.graph.classes == ("cat", "dog")
    np.testing.assert_array_equal(done.graph.weight, alone.graph.weight)
    assert done.left_out == ("background", "__Background__")
    assert "class 'background': left out" in done.messages[0]
    save_graph(done.graph, tmp_path / "g.npz")
    assert load_graph(tmp_path / "g.npz").header["projection"]["left_out"] == list(done.left_out)
    with pytest.raises(InputError, match="found no class"):
        project(made_graph(), [ClassName("background")])


def test_the_full_list_of_ade_is_a_graph_whose_walls_are_walls(tmp_path: Path) -> None:
    save_graph(made_graph(), tmp_path / "vg.npz")
    arguments = ["project", str(tmp_path / "vg.npz"), "--classes", "ade", "--out", str(tmp_path / "g.npz")]
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == 0, result.output
    assert "class 'background': left out" in result.output
    assert "more such lines" in result.output
    graph = load_graph(tmp_path / "g.npz")
    names = [name.name for name in read_class_names("ade")]
    assert list(graph.classes) == [name for name in names if name != "background"]
    assert names.index("ice wall") < names.index("wall")
    assert graph.synsets[graph.index_of("wall")] == "wall.n.01"
    assert graph.synsets[graph.index_of("ice wall")] == ""
    assert graph.counts[graph.index_of("dog, domestic dog, Canis familiaris")].any()


def test_graph_classes_without_synsets_are_found_by_name() -> None:
    counts = np.array([[0, 3], [1, 0]])
    graph = make_graph(
        classes=["gizmo", "dog"],
        synsets=["", "dog.n.01"],
        weight=weights_from_counts("relation", "paper", counts),
        counts=counts,
        kind="relation",
        recipe={"name": "paper"},
        dataset="made",
    )
    done = project(graph, [ClassName("dog"), ClassName("gizmo")])
    np.testing.assert_array_equal(done.graph.counts, [[0, 1], [3, 0]])
    assert done.no_evidence == ()


def test_of_two_classes_with_one_synset_the_second_goes_without_it() -> None:
    done = project(made_graph(), [ClassName("dog"), ClassName("dogs")])
    assert done.graph.synsets == ("dog.n.01", "")
    assert done.messages == ("class 'dogs': goes without its synset dog.n.01, which is 'dog''s",)
    np.testing.assert_array_equal(done.graph.counts[0], done.graph.counts[1])


def test_a_graph_without_counts_can_only_be_sliced() -> None:
    graph = made_graph()
    bare = make_graph(
        classes=graph.classes,
        synsets=graph.synsets,
        weight=graph.weight,
        counts=None,
        kind="relation",
        recipe={"name": "paper"},
        dataset="made",
    )
    with pytest.raises(
        InputError, match="no counts; expected them to slice before normalising; give --order"
    ):
        project(bare, PEOPLE)
    with pytest.raises(InputError, match="no counts; expected them to merge classes"):
        project(bare, PEOPLE, order="weights")
    sliced = project(bare, [PEOPLE[2], PEOPLE[0]], order="weights")
    np.testing.assert_array_equal(sliced.graph.weight, graph.weight[np.ix_([0, 2], [0, 2])])


# The command


def run(*arguments: str):
    return CliRunner().invoke(group, ["project", *arguments])


def test_the_command_writes_a_graph_that_is_checked_and_the_same_twice(tmp_path: Path) -> None:
    save_graph(made_graph(), tmp_path / "vg.npz")
    for name in ("one.npz", "two.npz"):
        done = run(str(tmp_path / "vg.npz"), "--classes", "coco", "--out", str(tmp_path / name))
        assert done.exit_code == 0, done.output
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert len(load_graph(tmp_path / "one.npz").classes) == 80
    assert "relation graph, 4 of 80 classes with evidence" in done.stdout
    assert "Merged from several: person" in done.stdout
    assert "Without evidence: bicycle; car;" in done.stderr


def test_the_command_takes_a_table_that_was_corrected_by_hand(tmp_path: Path) -> None:
    save_graph(made_graph(), tmp_path / "vg.npz")
    (tmp_path / "map.csv").write_text(
        "name,synset,vg_synset\npet,animal.n.01,dog.n.01;cat.n.01\nman,man.n.01,man.n.01\n"
    )
    done = run(
        str(tmp_path / "vg.npz"),
        "--classes",
        str(tmp_path / "map.csv"),
        "--out",
        str(tmp_path / "g.npz"),
        "--json",
    )
    summary = json.loads(done.stdout)
    assert (summary["classes"], summary["merged"], summary["no_evidence"]) == (2, ["pet"], [])
    graph = load_graph(tmp_path / "g.npz")
    np.testing.assert_array_equal(graph.counts, slow_counts(made_graph(), [[0, 2], [1]]))
