"""Edge weights against loops written from the papers, and the laws they obey."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kgtool import weights
from kgtool.errors import InputError

RECIPES = [(kind, name) for kind in ("relation", "attribute") for name in weights.recipe_names(kind)]
counts_of = {
    "relation": st.integers(1, 6).flatmap(
        lambda c: hnp.arrays(np.int64, (c, c), elements=st.integers(0, 50) | st.just(0))
    ),
    "attribute": hnp.arrays(
        np.int64, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.integers(0, 50) | st.just(0)
    ),
}
kind_recipe_counts = st.sampled_from(RECIPES).flatmap(
    lambda pair: st.tuples(st.just(pair), counts_of[pair[0]])
)


def long_tailed_counts(num_classes, num_attributes, seed=0):
    """Few frequent attributes, many rare ones, and some classes without any."""
    rng = np.random.default_rng(seed)
    rate = 30 / np.arange(1, num_attributes + 1) * rng.pareto(1.5, (num_classes, 1))
    counts = rng.poisson(rate)
    counts[:: max(num_classes // 5, 2)] = 0
    return counts.astype(np.int64)


# --- the paper's and the released code's equations, as slow loops ---


def slow_relation_paper(counts):
    num = len(counts)
    s = [[int(counts[i][j]) + int(counts[j][i]) for j in range(num)] for i in range(num)]
    d = [sum(row) for row in s]
    return [
        [s[i][j] / math.sqrt(d[i] * d[j]) if d[i] and d[j] else 0.0 for j in range(num)] for i in range(num)
    ]


def slow_relation_release(counts):
    num = len(counts)
    s = [[int(counts[i][j]) + int(counts[j][i]) for j in range(num)] for i in range(num)]
    row_sum = [sum(row) for row in s]
    for i in range(num):
        s[i][i] = row_sum[i] + 1
    return [[s[i][j] / math.sqrt(s[i][i]) / math.sqrt(s[j][j]) for j in range(num)] for i in range(num)]


def slow_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def slow_js(p, q):
    mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return 0.5 * slow_kl(p, mean) + 0.5 * slow_kl(q, mean)


def slow_attribute_divergence(counts):
    num = len(counts)
    result = [[0.0] * num for _ in range(num)]
    for i in range(num):
        for j in range(num):
            if i == j:
                continue
            if counts[i].sum() == 0 or counts[j].sum() == 0:
                result[i][j] = math.log(2)
            else:
                result[i][j] = slow_js(counts[i] / counts[i].sum(), counts[j] / counts[j].sum())
    return result


def slow_attribute_release(counts):
    def kl(p, q):
        if p.sum() == 0 or q.sum() == 0:
            return 1.0
        with np.errstate(all="ignore"):
            terms = p * np.log(p / q)
        return terms[np.isfinite(terms)].sum()

    num = len(counts)
    p = [row / (row.sum() + 0.1) for row in counts]
    result = [[1.0] * num for _ in range(num)]
    for i in range(num):
        for j in range(num):
            if i != j:
                mean = (p[i] + p[j]) / 2
                result[i][j] = 1 - (0.5 * kl(p[i], mean) + 0.5 * kl(p[j], mean))
    return result


SLOW = {
    ("relation", "paper"): slow_relation_paper,
    ("relation", "release"): slow_relation_release,
    ("attribute", "divergence"): slow_attribute_divergence,
    ("attribute", "similarity"): lambda c: 1 - np.array(slow_attribute_divergence(c)) / math.log(2),
    ("attribute", "release"): slow_attribute_release,
}


@pytest.mark.parametrize(("kind", "name"), RECIPES)
def test_weights_equal_slow_loops_from_the_equations(kind, name):
    counts = long_tailed_counts(23, 23 if kind == "relation" else 40)
    fast = weights.weights_from_counts(kind, name, counts)
    np.testing.assert_allclose(fast, SLOW[kind, name](counts), rtol=0, atol=1e-14)


@given(kind_recipe_counts)
def test_weights_equal_slow_loops_on_any_counts(case):
    (kind, name), counts = case
    fast = weights.weights_from_counts(kind, name, counts)
    np.testing.assert_allclose(fast, SLOW[kind, name](counts), rtol=0, atol=1e-14)


def test_relation_weights_worked_by_hand():
    counts = np.array([[1, 3, 0], [1, 0, 0], [0, 0, 0]])
    # S = [[2, 4, 0], [4, 0, 0], [0, 0, 0]], row sums 6, 4, 0
    paper = weights.relation_paper(counts)
    assert paper.tolist() == [[2 / 6, 4 / math.sqrt(24), 0], [4 / math.sqrt(24), 0, 0], [0, 0, 0]]
    release = weights.relation_release(counts)
    assert release.tolist() == [[1, 4 / math.sqrt(35), 0], [4 / math.sqrt(35), 1, 0], [0, 0, 1]]


# --- laws ---


@given(kind_recipe_counts, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_weights_bit_for_bit(case, random):
    (kind, name), counts = case
    order = random.sample(range(len(counts)), len(counts))
    permuted = counts[np.ix_(order, order)] if kind == "relation" else counts[order]
    plain = weights.weights_from_counts(kind, name, counts)
    assert np.array_equal(weights.weights_from_counts(kind, name, permuted), plain[np.ix_(order, order)])


def test_permuting_many_classes_with_equal_rows_permutes_the_divergence_bit_for_bit():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, (1300, 6))  # only 729 different rows, more classes than one block has
    order = rng.permutation(len(counts))
    plain = weights.attribute_divergence(counts)
    assert np.array_equal(weights.attribute_divergence(counts[order]), plain[np.ix_(order, order)])


@given(kind_recipe_counts)
def test_weights_are_symmetric_finite_and_between_0_and_1(case):
    (kind, name), counts = case
    result = weights.weights_from_counts(kind, name, counts)
    assert result.dtype == np.float64
    assert result.shape == (len(counts), len(counts))
    assert np.array_equal(result, result.T)
    assert (result >= 0).all()
    assert (result <= 1).all()


@given(counts_of["attribute"])
def test_divergence_is_zero_on_the_diagonal_and_at_most_ln_2(counts):
    result = weights.attribute_divergence(counts)
    assert (np.diagonal(result) == 0).all()
    assert (result <= np.log(2)).all()


@given(counts_of["attribute"])
def test_scaling_all_counts_of_a_class_leaves_its_divergence(counts):
    scaled = counts.copy()
    scaled[0] *= 7
    np.testing.assert_allclose(
        weights.attribute_divergence(scaled), weights.attribute_divergence(counts), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("name", ["similarity", "release"])
def test_similarity_recipes_have_a_diagonal_of_exactly_one(name):
    counts = long_tailed_counts(50, 200)
    assert (np.diagonal(weights.weights_from_counts("attribute", name, counts)) == 1).all()


# --- special classes ---


def test_a_class_without_attributes_is_similar_to_itself_only():
    counts = np.array([[1, 2], [0, 0], [3, 0], [0, 0]])
    similarity = weights.attribute_similarity(counts)
    assert similarity[1].tolist() == [0, 1, 0, 0]
    assert similarity[3].tolist() == [0, 0, 0, 1]
    divergence = weights.attribute_divergence(counts)
    assert divergence[1].tolist() == [np.log(2), 0, np.log(2), np.log(2)]


def test_classes_with_disjoint_attributes_are_as_far_apart_as_can_be():
    counts = np.array([[5, 3, 0], [0, 0, 2]])
    assert weights.attribute_divergence(counts)[0, 1] == np.log(2)
    assert weights.attribute_similarity(counts)[0, 1] == 0


def test_the_releases_similarity_of_classes_with_attributes_is_at_least_1_minus_ln_2():
    counts = long_tailed_counts(60, 200)
    counts = counts[counts.sum(axis=1) > 0]
    assert weights.attribute_release(counts).min() >= 1 - np.log(2)


def test_the_releases_similarity_of_empty_classes_is_0_15_to_full_ones_and_0_to_each_other():
    counts = np.zeros((3, 200), np.int64)
    counts[0, :50] = 1000
    result = weights.attribute_release(counts)
    assert result[0, 1] == pytest.approx(1 - 0.5 * (1 + math.log(2)), abs=1e-5)
    assert result[1, 2] == 0


def test_integers_are_recovered_from_the_releases_relation_weights():
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.4, (40, 40))
    counts[7], counts[:, 7] = 0, 0
    weight = weights.relation_release(counts)
    symmetric = counts + counts.T
    root = np.sqrt(symmetric.sum(axis=1) + 1)
    recovered = weight * np.outer(root, root)
    np.fill_diagonal(recovered, 0)
    np.fill_diagonal(symmetric, 0)
    np.testing.assert_allclose(recovered, symmetric, rtol=0, atol=1e-11)


def test_relation_weights_of_the_paper_leave_empty_classes_without_edges():
    assert not weights.relation_paper(np.zeros((4, 4), np.int64)).any()


# --- the fast divergence ---


def test_divergence_agrees_with_scipy_over_several_blocks():
    from scipy.spatial.distance import cdist

    counts = long_tailed_counts(1100, 60)
    counts = counts[counts.sum(axis=1) > 0]
    assert len(counts) > 512  # more than one block of columns
    p = weights.attribute_distribution(counts)
    expected = cdist(p, p, "jensenshannon") ** 2
    off_diagonal = ~np.eye(len(p), dtype=bool)  # scipy's own diagonal is not exactly 0
    error = np.abs(weights.js_divergence(p) - expected)[off_diagonal]
    assert error.max() < 2e-14


def test_divergence_needs_little_memory_beside_its_result():
    p = weights.attribute_distribution(long_tailed_counts(1500, 200))
    tracemalloc.start()
    result = weights.js_divergence(p)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - result.nbytes < 30e6


def test_distribution_rows_sum_to_one_or_zero():
    counts = long_tailed_counts(30, 100)
    total = weights.attribute_distribution(counts).sum(axis=1)
    np.testing.assert_allclose(total, counts.sum(axis=1) > 0, rtol=0, atol=1e-14)


# --- names ---


def test_the_default_recipes_are_paper_and_similarity():
    assert weights.recipe_names("relation")[0] == "paper"
    assert weights.recipe_names("attribute")[0] == "similarity"


@pytest.mark.parametrize(
    ("kind", "name"), [("relation", "similarity"), ("attribute", "x"), ("hypernym", "paper")]
)
def test_an_unknown_recipe_is_refused_with_the_known_ones(kind, name):
    with pytest.raises(InputError, match=f"recipe '{name}' of a graph of kind '{kind}': unknown; expected"):
        weights.weights_from_counts(kind, name, np.zeros((2, 2), np.int64))
    with pytest.raises(InputError, match="unknown"):
        weights.normalization_of(kind, name)
