"""The test of the class order: graphs in their order pass it, the same graphs in another do not."""

import numpy as np
import pytest
from scipy.stats import rankdata

import kgtool
from kgtool.class_order import likely_senses, order_test, wordnet_closeness
from kgtool.classes import parse_class_spec
from kgtool.wordnet import load_nouns

COCO = f"{next(iter(kgtool.__path__))}/curated/coco.csv"


@pytest.fixture(scope="module")
def closeness():
    return wordnet_closeness(parse_class_spec(COCO).synsets, load_nouns())


def test_closeness_is_the_share_of_ancestors_in_common(closeness):
    nouns = load_nouns()
    names = parse_class_spec(COCO).names
    above = {
        synset: {synset, *(name for name, _ in nouns.ancestors(synset))}
        for synset in ("dog.n.01", "cat.n.01", "truck.n.01")
    }
    for one, other in (("dog", "cat"), ("dog", "truck"), ("cat", "cat")):
        first, second = above[f"{one}.n.01"], above[f"{other}.n.01"]
        expected = len(first & second) / len(first | second)
        assert closeness[names.index(one), names.index(other)] == pytest.approx(expected)


def test_a_class_without_a_synset_is_near_none():
    found = wordnet_closeness(["dog.n.01", "", "no_such_thing.n.01"], load_nouns())
    assert np.array_equal(found, np.diag([1.0, 0, 0]))


def test_a_class_without_a_synset_counts_as_the_first_sense_of_its_name():
    found = likely_senses(["dog", "ice cream", "dog.n.05", "xyzzy"], ["", "", "cat.n.01", ""], load_nouns())
    assert found == ["dog.n.01", "ice_cream.n.01", "cat.n.01", ""]


def test_the_correlation_is_of_what_an_additive_fit_leaves_of_the_ranks():
    rng = np.random.default_rng(0)
    one, other = (np.triu(rng.integers(0, 4, (9, 9)), 1) for _ in range(2))
    found = order_test(one + one.T, other + other.T)
    pairs = np.triu_indices(9, 1)
    ends = np.array([[i in pair for i in range(9)] for pair in zip(*pairs, strict=True)], float)
    rests = []
    for values in (one, other):
        ranks = rankdata(values[pairs])
        rests.append(ranks - ends @ np.linalg.lstsq(ends, ranks, rcond=None)[0])
    assert found.correlation == pytest.approx(np.corrcoef(*rests)[0, 1])


def test_frequent_classes_that_are_alike_tell_nothing_of_the_order():
    """Both matrices grow with the classes' frequencies; apart from that they have nothing in common."""
    frequency = np.arange(1, 31.0)
    in_doubt = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).random((2, 30, 30)) * 40
        one, other = np.add.outer(frequency, frequency) + noise
        in_doubt += order_test(one, other + other.T).p_value > 0.05
    assert in_doubt >= 16  # the test calls 5 % of wrong orders right


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_matrix_that_is_one_place_off_is_told(closeness, shift):
    moved = np.roll(closeness, (-shift, -shift), axis=(0, 1))
    found = order_test(moved, closeness)
    assert found.shift == shift
    assert found.in_doubt == (shift != 0)


def test_a_graph_that_follows_wordnet_loosely_is_in_order_and_shuffled_is_not(closeness):
    rng = np.random.default_rng(0)
    noise = rng.random(closeness.shape)
    weight = np.where(noise + noise.T < 1.2 * closeness, noise + noise.T, 0)
    assert not order_test(weight, closeness).in_doubt
    in_doubt = 0
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(weight))
        in_doubt += order_test(weight[np.ix_(order, order)], closeness).in_doubt
    assert in_doubt >= 17  # the test calls 5 % of wrong orders right


def test_the_least_p_value_is_one_over_the_number_of_orders(closeness):
    assert order_test(closeness, closeness).p_value == 0.001


@pytest.mark.parametrize(
    "weight", [np.zeros((8, 8)), np.ones((8, 8)), np.eye(8)], ids=["none", "all", "self"]
)
def test_where_all_pairs_are_alike_there_is_nothing_to_test(weight):
    assert order_test(weight, np.triu(np.ones((8, 8))) @ np.ones((8, 8))) is None


def test_five_classes_are_too_few():
    weight = np.arange(25.0).reshape(5, 5)
    assert order_test(weight, weight + weight.T) is None
