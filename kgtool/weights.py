"""Counts to edge weights: one function for each published equation.

Two systems publish these graphs: the paper (Reasoning-RCNN, Xu et al., CVPR 2019, section 3.3) and the code
its authors released (HKRM, lib/datasets/tools/compute_prior.py). They differ, so each has its recipe:
`paper`, `divergence` and `similarity` follow the text, `release` follows the code.

Legend: C classes, A attributes. All results are float64 and finite, and symmetric bit for bit
unless their docstring says directed.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kgtool.errors import InputError

Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

LN2 = float(np.log(2.0))

#: Columns computed together: small enough that one row's terms stay in the processor's cache.
_BLOCK = 512


def relation_paper(counts_CC: Counts) -> Weights:
    """Relation weights of the paper: counts added to their transpose, over the root of both row sums.

    S = R + Rᵀ, D_ii = Σ_j S_ij, e_ij = S_ij / sqrt(D_ii D_jj). The diagonal is treated as any other entry;
    a class without relations keeps an empty row.

    Source: Reasoning-RCNN, section 3.3.

    Args:
        counts_CC: (C, C) how often a relation leads from class i to class j.

    Returns:
        (C, C) in [0, 1].
    """
    total_CC = (counts_CC + counts_CC.T).astype(np.float64)
    degree_C = total_CC.sum(axis=1)  # sums of integers below 2**53: exact in any order
    root_CC = np.sqrt(np.multiply.outer(degree_C, degree_C))
    weight_CC: Weights = np.divide(total_CC, root_CC, out=np.zeros_like(total_CC), where=root_CC > 0)
    return weight_CC


def relation_release(counts_CC: Counts) -> Weights:
    """Relation weights of the released code: as the paper's, with a unit diagonal.

    S = R + Rᵀ, then S_ii := Σ_j S_ij + 1 (row sum before the replacement), e_ij = S_ij / sqrt(S_ii S_jj).
    The paper does not mention the unit diagonal; the 1 keeps empty classes from dividing by zero.

    Source: HKRM, compute_prior.py. The background row that the code adds is left to the detector.

    Args:
        counts_CC: (C, C) how often a relation leads from class i to class j.

    Returns:
        (C, C) in [0, 1), with a diagonal of exactly 1.
    """
    total_CC = (counts_CC + counts_CC.T).astype(np.float64)
    degree_C = total_CC.sum(axis=1) + 1.0
    np.fill_diagonal(total_CC, degree_C)
    weight_CC: Weights = total_CC / np.sqrt(np.multiply.outer(degree_C, degree_C))
    return weight_CC


def attribute_distribution(counts_CA: Counts) -> Weights:
    """Each class's distribution over attributes: its counts over their sum; no attribute, all zeros.

    Args:
        counts_CA: (C, A) how often class i has attribute a.

    Returns:
        (C, A) rows that sum to 1, or to 0.
    """
    sum_C1 = counts_CA.sum(axis=1, keepdims=True)
    p_CA: Weights = np.divide(counts_CA, sum_C1, out=np.zeros(counts_CA.shape), where=sum_C1 > 0)
    return p_CA


def attribute_divergence(counts_CA: Counts) -> Weights:
    """Attribute weights as the paper prints them: the Jensen-Shannon divergence of two distributions.

    e_ij = JS(P_i ‖ P_j) = ½ KL(P_i ‖ M) + ½ KL(P_j ‖ M), M = (P_i + P_j) / 2, natural logarithm. Classes that
    are alike get a small weight. A class with no attribute is as far from all others as can be, ln 2.

    Source: Reasoning-RCNN, section 3.3.

    Args:
        counts_CA: (C, A) how often class i has attribute a.

    Returns:
        (C, C) in [0, ln 2], with a diagonal of exactly 0.
    """
    divergence_CC = js_divergence(attribute_distribution(counts_CA))
    np.minimum(divergence_CC, LN2, out=divergence_CC)  # a row's sum may miss 1 by a rounding
    empty_C = counts_CA.sum(axis=1) == 0
    divergence_CC[empty_C, :] = LN2
    divergence_CC[:, empty_C] = LN2
    np.fill_diagonal(divergence_CC, 0.0)
    return divergence_CC


def attribute_similarity(counts_CA: Counts) -> Weights:
    """Attribute weights that are large for classes that are alike: one minus the divergence over ln 2.

    e_ij = 1 - JS(P_i ‖ P_j) / ln 2. A class with no attribute has 0 to all others and 1 to itself.

    Departs from the paper, which prints the divergence itself; the released code also turns it round.

    Args:
        counts_CA: (C, A) how often class i has attribute a.

    Returns:
        (C, C) in [0, 1], with a diagonal of exactly 1.
    """
    return 1.0 - attribute_divergence(counts_CA) / LN2


def attribute_release(counts_CA: Counts) -> Weights:
    """Attribute weights of the released code: one minus a divergence of slightly damped rows.

    P_i = n_i / (Σ n_i + 0.1), e_ij = 1 - JS(P_i, P_j) in nats, where terms that are not finite are dropped
    and KL counts as 1 when either argument is a zero row; the diagonal is 1. So two classes with attributes
    get at least 1 - ln 2 = 0.307, one without gets about 0.15 to those with, and 0 to others without.

    Source: HKRM, compute_prior.py. Departs in two points: the code keeps as many attribute columns as there
    are classes (81 for COCO), here all are used; and the background row is left to the detector.

    Args:
        counts_CA: (C, A) how often class i has attribute a.

    Returns:
        (C, C) in [0, 1], with a diagonal of exactly 1.
    """
    sum_C1 = counts_CA.sum(axis=1, keepdims=True)
    divergence_CC = js_divergence(counts_CA / (sum_C1 + 0.1))
    empty_C = sum_C1[:, 0] == 0
    divergence_CC[empty_C, :] += 0.5  # its own KL counts as 1, the other's stays
    divergence_CC[:, empty_C] += 0.5
    divergence_CC[np.ix_(empty_C, empty_C)] = 1.0
    np.fill_diagonal(divergence_CC, 0.0)
    return 1.0 - divergence_CC


def js_divergence(p_CA: Weights) -> Weights:
    """Jensen-Shannon divergence of each row to each other row, in nats.

    JS_ij = ½ ln 2 (Σ p + Σ q) + ½ Σ_a [p ln p + q ln q - (p+q) ln(p+q)], where the bracket is 0 for a term
    that only one of the rows has. For rows that sum to 1 the first part is ln 2.

    Rows are computed in an order given by their own content, each against those that have as many terms or
    more, over its own terms only. That saves most of the logarithms where rows are sparse, and makes the
    result the same bit for bit in whichever order the classes come. Memory beside the result: a few times
    that of `p_CA`, and a few MB.

    Args:
        p_CA: (C, A) not negative; rows need not sum to 1.

    Returns:
        (C, C), at most ln 2 for rows that sum to 1; symmetric, not negative, with a diagonal of exactly 0.
    """
    order_C = np.lexsort((*p_CA.T, np.count_nonzero(p_CA, axis=1)))
    sorted_CA = np.asarray(p_CA[order_C], dtype=np.float64)
    entropy_CA = sorted_CA * np.log(sorted_CA, out=np.zeros_like(sorted_CA), where=sorted_CA > 0)
    result_CC = np.empty((len(order_C), len(order_C)))
    for start in range(0, len(order_C), _BLOCK):
        block = slice(start, start + _BLOCK)
        _fill_columns(result_CC, order_C, sorted_CA, entropy_CA, block)
    position_C = np.argsort(order_C)
    for row_C in result_CC:  # rows are in place already; columns are still in the order of content
        row_C[:] = row_C[position_C]
    return result_CC


def _fill_columns(
    result_CC: Weights, order_C: npt.NDArray[np.intp], p_CA: Weights, entropy_CA: Weights, block: slice
) -> None:
    """Fill the columns of one block, for rows up to the block's end, and what mirrors them."""
    q_AB = np.ascontiguousarray(p_CA[block].T)
    entropy_AB = np.ascontiguousarray(entropy_CA[block].T)
    largest_C = 0.5 * LN2 * p_CA.sum(axis=1)
    for i, row in enumerate(order_C[: block.stop]):
        terms = np.flatnonzero(p_CA[i])
        sum_TB = q_AB.take(terms, axis=0)
        sum_TB += p_CA[i, terms, None]
        shared_B = entropy_AB.take(terms, axis=0).sum(axis=0)
        shared_B += entropy_CA[i, terms].sum()
        shared_B -= np.einsum("tb,tb->b", sum_TB, np.log(sum_TB))
        largest_B = largest_C[block] + largest_C[i]
        np.clip(largest_B + 0.5 * shared_B, 0.0, largest_B, out=result_CC[row, block])
    rows = order_C[block]
    result_CC[rows, : block.start] = result_CC[order_C[: block.start], block].T
    upper_BB = np.triu(result_CC[rows, block], 1)
    result_CC[rows, block] = upper_BB + upper_BB.T


def cooccurrence_npmi(counts_CC: Counts) -> Weights:
    """Normalised pointwise mutual information of the two ends of a pair, negative values cut off.

    S = R + Rᵀ, p_ij = S_ij / Σ S, p_i = Σ_j p_ij, e_ij = max(0, ln(p_ij / (p_i p_j)) / -ln p_ij): 0 for
    classes met together no more often than by chance, 1 for two that are only ever met together. The
    probabilities are of pairs and not of images, so that the same formula serves every window and kind of
    relation, and needs nothing but the counts: graphs can be merged.

    Source: Bouma, "Normalized (Pointwise) Mutual Information in Collocation Extraction", GSCL 2009.
    Departs from it in cutting off the negative half, as edge weights are not negative.

    Args:
        counts_CC: (C, C) how often a pair leads from class i to class j.

    Returns:
        (C, C) in [0, 1]; no pair, no edge.
    """
    total_CC = (counts_CC + counts_CC.T).astype(np.float64)
    degree_C = total_CC.sum(axis=1)
    total = degree_C.sum()
    seen_CC = total_CC > 0
    lift_CC = np.divide(
        total_CC * total, np.multiply.outer(degree_C, degree_C), out=np.ones_like(total_CC), where=seen_CC
    )
    surprise_CC = np.log(np.divide(total, total_CC, out=np.ones_like(total_CC), where=seen_CC))
    certain_CC = seen_CC & (surprise_CC == 0)  # the only pair there is: its limit is 1
    weight_CC = np.divide(
        np.log(lift_CC), surprise_CC, out=certain_CC.astype(np.float64), where=surprise_CC > 0
    )
    return np.asarray(weight_CC.clip(0.0, 1.0))


def cooccurrence_conditional(counts_CC: Counts) -> Weights:
    """Probability of the class at the other end: e_ij = P(j | i) = R_ij / Σ_j R_ij. A directed graph.

    Of the pairs that start at class i, the share that ends at class j; a class without pairs keeps an empty
    row. Source: the conditional label graph of Chen, Wei, Wang and Guo (ML-GCN), CVPR 2019, section 3.4.
    Departs from it in the denominator: pairs instead of images of class i, so rows sum to 1.

    Args:
        counts_CC: (C, C) how often a pair leads from class i to class j.

    Returns:
        (C, C) rows that sum to 1, or to 0.
    """
    return attribute_distribution(counts_CC)


#: What a person may type after --recipe, for each kind: the equation and how the header names it.
_RECIPES: dict[str, dict[str, tuple[Callable[[Counts], Weights], str]]] = {
    "relation": {
        "paper": (relation_paper, "symmetric"),
        "release": (relation_release, "symmetric, unit diagonal"),
    },
    "attribute": {
        "similarity": (attribute_similarity, "1 - JS / ln 2"),
        "divergence": (attribute_divergence, "JS in nats"),
        "release": (attribute_release, "1 - JS in nats"),
    },
    "cooccurrence": {
        "normalized": (relation_paper, "symmetric"),
        "npmi": (cooccurrence_npmi, "normalised pointwise mutual information, at least 0"),
        "conditional": (cooccurrence_conditional, "rows sum to 1"),
    },
}


def recipe_names(kind: str) -> tuple[str, ...]:
    """Names of the recipes of a kind, the default first; empty for a kind that has none.

    Args:
        kind: "relation", "attribute" or "cooccurrence".
    """
    return tuple(_RECIPES.get(kind, {}))


def normalization_of(kind: str, recipe_name: str) -> str:
    """What a graph's header says under `normalization` for this recipe.

    Raises:
        InputError: the kind has no such recipe.
    """
    return _recipe(kind, recipe_name)[1]


def is_directed(kind: str, recipe_name: str) -> bool:
    """Whether the recipe's weight from class i to class j may differ from the one back.

    Args:
        kind: as in `weights_from_counts`.
        recipe_name: one of `recipe_names(kind)`.
    """
    return _recipe(kind, recipe_name)[0] is cooccurrence_conditional


def weights_from_counts(kind: str, recipe_name: str, counts: Counts) -> Weights:
    """Weights of a graph from its counts, by the recipe's equation.

    Args:
        kind: "attribute" (counts of shape (C, A)), "relation" or "cooccurrence" (counts of shape (C, C)).
        recipe_name: one of `recipe_names(kind)`.
        counts: not negative.

    Returns:
        (C, C).

    Raises:
        InputError: the kind has no such recipe.
    """
    return _recipe(kind, recipe_name)[0](counts)


def _recipe(kind: str, recipe_name: str) -> tuple[Callable[[Counts], Weights], str]:
    recipes = _RECIPES.get(kind, {})
    if recipe_name not in recipes:
        known = ", ".join(recipes) or "none, as its weights cannot be made from counts"
        raise InputError(f"recipe {recipe_name!r} of a graph of kind {kind!r}: unknown; expected {known}")
    return recipes[recipe_name]
