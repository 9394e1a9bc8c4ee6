"""Published matrices: the counts behind them, their background, and whether they are in class order."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool.class_names import read_class_names
from kgtool.cli import main
from kgtool.errors import ClassMatchError, InputError
from kgtool.graph import load_graph
from kgtool.release_counts import recover_counts
from kgtool.release_import import import_release
from kgtool.release_pickle import write_release_pickle
from kgtool.weights import relation_release
from kgtool.wordnet import load_nouns


def long_tailed(num_classes, seed, density=0.3):
    """Counts as of a corpus: many ones, few that are large, in one direction; some classes without any."""
    rng = np.random.default_rng(seed)
    counts = np.triu(
        (rng.random((num_classes, num_classes)) < density) * rng.zipf(1.7, (num_classes, num_classes))
    )
    counts = np.minimum(counts, 3000).astype(np.int64)
    counts[:, -2:] = 0
    counts[-2:] = 0
    return counts


@pytest.mark.parametrize("seed", range(8))
def test_counts_of_a_long_tailed_corpus_are_solved_back(seed):
    counts = long_tailed(40, seed)
    found = recover_counts(relation_release(counts))
    assert found.sliced_first
    assert np.array_equal(np.triu(found.counts), counts)
    assert not found.degrees[-2:].any()


@settings(deadline=None)
@given(hnp.arrays(np.int64, st.integers(2, 6).map(lambda s: (s, s)), elements=st.integers(0, 50)))
def test_whatever_counts_are_found_give_the_weights_again(counts):
    weight = relation_release(counts)
    found = recover_counts(weight)
    if found is not None and found.sliced_first:
        again = relation_release(np.triu(found.counts))
        connected = found.degrees > 0
        square = np.ix_(connected, connected)
        assert np.allclose(again[square], weight[square], rtol=1e-9, atol=0)


@settings(deadline=None)
@given(hnp.arrays(np.float64, (4, 4), elements=st.floats(0, 1)))
def test_any_matrix_has_counts_or_none(weight):
    found = recover_counts(weight + weight.T)
    assert found is None or found.counts.min() >= 0


def test_a_matrix_that_was_sliced_after_normalising_is_told():
    counts = long_tailed(40, 3)
    kept = np.arange(0, 38, 2)
    found = recover_counts(relation_release(counts)[np.ix_(kept, kept)])
    assert not found.sliced_first
    both = counts + counts.T
    assert np.array_equal(np.triu(found.counts, 1), np.triu(both[np.ix_(kept, kept)], 1))


def test_weights_that_were_rounded_or_made_otherwise_have_no_counts():
    weight = relation_release(long_tailed(40, 0))
    assert recover_counts(weight.astype(np.float32).astype(np.float64)) is None
    assert recover_counts(np.where(weight < 1, weight**0.5, 1)) is None
    assert recover_counts(np.eye(5)) is None


@pytest.fixture
def coco(tmp_path):
    """A matrix as published, with background in front."""
    counts = long_tailed(80, 5, density=0.1)
    write_release_pickle(np.pad(relation_release(counts), ((1, 0), (1, 0))), tmp_path / "m.pkl")
    return tmp_path / "m.pkl", counts


def test_an_imported_relation_matrix_has_its_counts_and_no_background(coco):
    path, counts = coco
    done = import_release(path, read_class_names("coco"), load_nouns(), kind="relation")
    assert done.had_background
    assert done.graph.classes[0] == "person"
    assert np.array_equal(done.graph.counts, counts)
    assert np.array_equal(done.graph.weight, relation_release(counts).astype(np.float32))
    assert done.graph.header["recipe"] == {"name": "release"}
    assert done.order.in_doubt  # the counts are drawn by chance


def test_a_matrix_without_background_and_with_a_background_class_in_the_list(coco, tmp_path):
    _, counts = coco
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(relation_release(counts), protocol=2))
    names = read_class_names("coco")
    listed = [replace(names[0], name="__background__"), *names]
    done = import_release(tmp_path / "bare.pkl", listed, load_nouns(), kind="relation")
    assert not done.had_background
    assert len(done.graph.classes) == 80


def test_a_matrix_of_other_classes_is_exit_code_4(coco):
    with pytest.raises(ClassMatchError, match="found 81 rows and 81 columns; expected 20, the number"):
        import_release(coco[0], read_class_names("voc"), load_nouns(), kind="relation")


def test_weights_of_background_are_refused(coco, tmp_path):
    write_release_pickle(np.ones((81, 81)), tmp_path / "b.pkl")
    with pytest.raises(InputError, match="found weights in row or column 0"):
        import_release(tmp_path / "b.pkl", read_class_names("coco"), load_nouns(), kind="attribute")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e39, 1e200])
def test_values_that_are_no_weights_are_refused(tmp_path, value):
    write_release_pickle(np.full((80, 80), value), tmp_path / "b.pkl")
    with pytest.raises(InputError, match="negative, not finite or beyond float32"):
        import_release(tmp_path / "b.pkl", read_class_names("coco"), load_nouns(), kind="relation")


def test_weights_that_float32_would_make_no_edges_are_refused(tmp_path):
    weight = np.zeros((80, 80))
    weight[2, 3] = weight[3, 2] = 0.5
    weight[4, 5] = weight[5, 4] = 1e-50
    write_release_pickle(weight, tmp_path / "b.pkl")
    with pytest.raises(InputError, match="found 2 weights above 0 that are 0 as float32"):
        import_release(tmp_path / "b.pkl", read_class_names("coco"), load_nouns(), kind="relation")
    weight[4, 5] = weight[5, 4] = 1e-44  # float32 has it, with fewer digits
    write_release_pickle(weight, tmp_path / "b.pkl")
    done = import_release(tmp_path / "b.pkl", read_class_names("coco"), load_nouns(), kind="relation")
    assert np.count_nonzero(done.graph.weight) == 4


def test_the_command_tells_counts_and_order(coco, tmp_path, capsys):
    path, counts = coco

    def run(*more):
        with pytest.raises(SystemExit) as end:
            main(["import-release", str(path), "--classes", "coco", *more])
        assert end.value.code == 0
        return capsys.readouterr().out

    text = run("--out", str(tmp_path / "g.npz"))
    off_diagonal = int(np.triu(counts, 1).sum())
    assert f"{off_diagonal} relations between classes and {counts.trace()} within" in text
    assert "class order: IN DOUBT" in text
    document = json.loads(run("--out", str(tmp_path / "h.npz"), "--json"))
    assert document["counts"]["between_classes"] == off_diagonal
    assert document["order"]["in_doubt"]
    assert load_graph(tmp_path / "h.npz").graph_hash == document["graph_hash"]


def test_a_pickle_of_something_else_is_exit_code_3(tmp_path, capsys):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(SystemExit) as end:
        main(
            ["import-release", str(tmp_path / "m.pkl"), "--classes", "coco", "--out", str(tmp_path / "g.npz")]
        )
    assert end.value.code == 3
    assert "nothing in it was run" in capsys.readouterr().err
    assert not (tmp_path / "g.npz").exists()
