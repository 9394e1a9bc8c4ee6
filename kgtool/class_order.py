"""Whether the rows of a matrix are in the order of its classes, by a permutation test.

A graph without class names, or with names that somebody put on it later, may be in another order than its
class list: it has the right shape, it trains, and nothing shows. But classes that are near each other in
WordNet (fork and knife, car and truck) are related more often than others, in any corpus. Where a graph
agrees with WordNet no better than the same graph with its classes exchanged, its order is in doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgtool.wordnet import Nouns

Matrix = npt.NDArray[np.floating]

#: With a larger p-value the order is in doubt.
DOUBT = 0.05
NUM_DRAWS = 999
#: Larger matrices are tested on so many classes drawn at random: the test is quadratic, and this is plenty.
_MAX_CLASSES = 400
#: With fewer classes there are too few orders to tell anything.
_MIN_CLASSES = 6


@dataclass(frozen=True)
class OrderTest:
    """Agreement of a matrix with a reference over the same classes.

    Attributes:
        correlation: of ranks, over all pairs of two tested classes, without what each class has in common
            with all others; -1 to 1.
        p_value: share of random class orders that agree at least as well; 0.001 at least.
        shift: 0; or 1 or -1 where the matrix agrees better with the classes one place on or back, as when
            one of two lists has a background class.
        num_classes: tested: those with an edge and with a place in the reference.
    """

    correlation: float
    p_value: float
    shift: int
    num_classes: int

    @property
    def in_doubt(self) -> bool:
        """Whether chance would often give as much agreement, or another order would give more."""
        return self.p_value > DOUBT or self.shift != 0


def order_test(weights_CC: Matrix, references_CC: Matrix, seed: int = 0) -> OrderTest | None:
    """Permutation test of two matrices over the same classes, one-sided, with ranks.

    The ranks of all pairs are first freed of what belongs to one class, rank_ij = m + a_i + a_j + rest_ij:
    frequent classes have many edges, and are much alike in WordNet too, in whatever order they are named.

    Source: Mantel, Cancer Research 27 (1967); the additive part taken out is ours.

    Args:
        weights_CC: (C, C) edge weights; the two directions of a pair are added.
        references_CC: (C, C) symmetric; how near two classes are by something else.
        seed: decides the random orders, and which classes of a large matrix are tested.

    Returns:
        None where there is nothing to test: fewer than six classes have an edge and a reference, or nothing
        is left of the ranks.
    """
    weight_CC = _off_diagonal(weights_CC)
    weight_CC = weight_CC + weight_CC.T
    reference_CC = _off_diagonal(references_CC)
    rng = np.random.default_rng(seed)
    tested = np.flatnonzero(weight_CC.any(axis=1) & reference_CC.any(axis=1))
    if len(tested) > _MAX_CLASSES:
        tested = np.sort(rng.choice(tested, _MAX_CLASSES, replace=False))
    if len(tested) < _MIN_CLASSES:
        return None
    rest_TT = _rest(weight_CC[np.ix_(tested, tested)])
    correlations = []
    for shift in (0, 1, -1):
        other = (tested + shift) % len(reference_CC)
        correlations.append(float((rest_TT * _rest(reference_CC[np.ix_(other, other)])).sum()))
    reference_TT = _rest(reference_CC[np.ix_(tested, tested)])
    if not rest_TT.any() or not reference_TT.any():
        return None
    num_as_good = 0
    for _ in range(NUM_DRAWS):
        order = rng.permutation(len(tested))
        drawn = float(np.vdot(rest_TT[np.ix_(order, order)], reference_TT))
        num_as_good += drawn >= correlations[0] - 1e-12
    shift = (0, 1, -1)[int(np.argmax(correlations))]
    return OrderTest(correlations[0], (1 + num_as_good) / (1 + NUM_DRAWS), shift, len(tested))


def _off_diagonal(values_CC: Matrix) -> npt.NDArray[np.float64]:
    copy_CC = values_CC.astype(np.float64)
    np.fill_diagonal(copy_CC, 0)
    return copy_CC


def _rest(values_TT: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks of the pairs without the part of each class, symmetric, of length 1; zeros if nothing is left."""
    from scipy.stats import rankdata

    size = len(values_TT)
    rows, columns = np.triu_indices(size, k=1)
    rank_TT = np.zeros((size, size))
    rank_TT[rows, columns] = rank_TT[columns, rows] = rankdata(values_TT[rows, columns])
    sum_T = rank_TT.sum(axis=1)
    mean = sum_T.sum() / (size * (size - 1))
    part_T = (sum_T - (size - 1) * mean) / (size - 2)  # least squares of the additive model
    rest_TT = rank_TT - mean - np.add.outer(part_T, part_T)
    np.fill_diagonal(rest_TT, 0)
    length = float(np.linalg.norm(rest_TT))
    return rest_TT / length if length > 1e-9 * size**2 else np.zeros_like(rest_TT)


def likely_senses(names: Sequence[str], synsets: Sequence[str], nouns: Nouns) -> list[str]:
    """The synset of each class; of one without, the most frequent sense of its name, else an empty string.

    Good enough for the order of many classes; too weak to say what one class means.
    """
    found = []
    for name, synset in zip(names, synsets, strict=True):
        senses = [] if synset else nouns.senses(name)
        found.append(senses[0].name if senses else synset)
    return found


def wordnet_closeness(synsets: Sequence[str], nouns: Nouns) -> npt.NDArray[np.float64]:
    """How much of what WordNet says above two synsets is the same: shared over all ancestors (Jaccard).

    Args:
        synsets: one a class; empty, or not a noun of WordNet: the class is near none.
        nouns: WordNet.

    Returns:
        (C, C) in [0, 1]; two kinds of animal have about 0.6, an animal and a vehicle about 0.3.
    """
    known = [synset if synset in nouns else "" for synset in synsets]
    above = [[synset, *(name for name, _ in nouns.ancestors(synset))] if synset else [] for synset in known]
    column_of = {name: i for i, name in enumerate(dict.fromkeys(name for names in above for name in names))}
    marks_CA = np.zeros((len(synsets), max(1, len(column_of))), dtype=np.float32)
    for row, names in enumerate(above):
        marks_CA[row, [column_of[name] for name in names]] = 1
    shared_CC = (marks_CA @ marks_CA.T).astype(np.float64)
    size_C = marks_CA.sum(axis=1).astype(np.float64)
    all_CC = np.add.outer(size_C, size_C) - shared_CC
    closeness: npt.NDArray[np.float64] = np.divide(
        shared_CC, all_CC, out=np.zeros_like(shared_CC), where=all_CC > 0
    )
    return closeness
