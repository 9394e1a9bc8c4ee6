"""The integer counts behind a relation matrix of the released code, solved back from its weights.

Each weight is e_ij = r_ij / sqrt(m_i m_j): r_ij counts relations between two classes, in both directions,
and m_i is one more than all relations that class i had when the matrix was normalised, those with itself
twice (`weights.relation_release`). So e_ij² is a fraction of integers, which its float64 value gives away,
and prime by prime the exponents of m_i and r_ij follow:

    exponent in e_ij² = 2 exponent in r_ij - exponent in m_i - exponent in m_j

Along a path of edges this decides which exponents in m are odd once one of them is known, and the least
exponents that leave no count a fraction are taken: most counts are small and divisible by few primes. What
comes out is checked against every weight.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Positions = npt.NDArray[np.intp]

#: Relative error of a squared weight: some roundings of float64.
_TOLERANCE = 4e-15
#: A fraction this simple does not come that near to a number by chance.
_MOST_COMPLEX = 1e12
_GREATEST_PRIME = 131_071
_NEAR_INTEGER = 1e-5
#: Edges of a class whose fractions are looked at; the others only check the answer.
_EDGES_OF_A_CLASS = 30


@dataclass(frozen=True, eq=False)
class RecoveredCounts:
    """Counts that a released relation matrix was made from, up to a common factor of connected classes.

    Attributes:
        counts: (C, C) int64 symmetric; relations between two classes, both directions together; diagonal:
            relations of a class with itself, where `sliced_first`.
        degrees: (C,) int64: m_i - 1; 0 of classes without an edge.
        sliced_first: whether the rows add up, as when counts were sliced to these classes and then
            normalised. If not, the matrix was normalised with more classes and sliced afterwards.
    """

    counts: Counts
    degrees: Counts
    sliced_first: bool


def recover_counts(weight_CC: Matrix) -> RecoveredCounts | None:
    """Solve a released relation matrix for its counts.

    Args:
        weight_CC: (C, C) float64 symmetric, without background; the diagonal is not looked at.

    Returns:
        None where no integers fit: another formula, fewer digits than float64 has, or changed by hand.
    """
    rows, columns = np.nonzero(np.triu(weight_CC, k=1))
    if not len(rows):
        return None
    asked = _some_of_each(len(weight_CC), rows, columns)
    fractions = [_fraction(value**2) for value in weight_CC[rows[asked], columns[asked]].tolist()]
    known = asked[np.array([fraction is not None for fraction in fractions])]
    edges = _edges(len(weight_CC), rows[known], columns[known])
    modulus_C = np.ones(len(weight_CC))
    for prime, power_E in _powers([fraction for fraction in fractions if fraction is not None]):
        modulus_C *= float(prime) ** edges.of_classes(power_E)
    count_E = weight_CC[rows, columns] * np.sqrt(modulus_C[rows] * modulus_C[columns])
    if not np.isfinite(count_E).all() or count_E.max() > 2**53 or modulus_C.max() > 2**53:
        return None
    near_E = np.rint(count_E)
    if (near_E < 1).any() or (np.abs(count_E - near_E) > _NEAR_INTEGER * np.sqrt(near_E)).any():
        return None
    counts_CC = np.zeros(weight_CC.shape, dtype=np.int64)
    counts_CC[rows, columns] = counts_CC[columns, rows] = near_E.astype(np.int64)
    degree_C = np.rint(modulus_C).astype(np.int64) - 1
    twice_own_C = degree_C - counts_CC.sum(axis=1)
    sliced_first = bool((twice_own_C % 2 == 0).all() and (twice_own_C >= 0).all())
    if sliced_first:
        np.fill_diagonal(counts_CC, twice_own_C // 2)
    return RecoveredCounts(counts_CC, degree_C, sliced_first)


def _some_of_each(num_classes: int, rows: Positions, columns: Positions) -> Positions:
    """Positions of edges that are among `_EDGES_OF_A_CLASS` drawn of either end: enough to decide all."""
    drawn = np.random.default_rng(0).permutation(len(rows))
    kept = np.zeros(len(rows), dtype=bool)
    for ends in (rows[drawn], columns[drawn]):
        order = np.argsort(ends, kind="stable")
        first = np.searchsorted(ends[order], np.arange(num_classes))
        place = np.arange(len(rows)) - first[ends[order]]
        kept[drawn[order[place < _EDGES_OF_A_CLASS]]] = True
    return np.flatnonzero(kept)


def _fraction(value: float) -> Fraction | None:
    """The simplest fraction that is the value but for rounding; None where none is simple enough."""
    before, now = (0, 1), (1, 0)  # numerator and denominator of the last two convergents
    rest = Fraction(value)
    while True:
        whole = rest.numerator // rest.denominator
        before, now = now, (whole * now[0] + before[0], whole * now[1] + before[1])
        if now[0] * now[1] > _MOST_COMPLEX:
            return None
        if now[0] and abs(now[0] / now[1] - value) <= _TOLERANCE * value:
            return Fraction(*now)
        if rest == whole:
            return None
        rest = 1 / (rest - whole)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges whose fraction is known, and a spanning tree of each connected part.

    Attributes:
        num_classes: C.
        first: (E,) one class of each edge.
        second: (E,) the other.
        degree_C: edges of each class.
        levels: edges of the trees by distance from their roots, the class above in the first row.
        part_C: connected part of each class.
    """

    num_classes: int
    first: Positions
    second: Positions
    degree_C: Positions
    levels: list[Positions]
    part_C: Positions

    def parity(self, power_E: Counts) -> Counts:
        """Whether each class's exponent is odd, if that of its root is even: (C,) of 0 and 1."""
        odd_C = np.zeros(self.num_classes, dtype=np.int64)
        for above, below, edge in self.levels:
            odd_C[below] = (odd_C[above] + power_E[edge]) % 2
        return odd_C

    def least(self, power_E: Counts, odd_C: Counts) -> Counts:
        """Least exponents of this parity that leave no count a fraction: (C,)."""
        exponent_C = odd_C.copy()
        while True:
            lacking_E = power_E + exponent_C[self.first] + exponent_C[self.second] < 0
            if not lacking_E.any():
                return exponent_C
            votes_C = np.bincount(self.first[lacking_E], minlength=self.num_classes)
            votes_C += np.bincount(self.second[lacking_E], minlength=self.num_classes)
            exponent_C[np.argmax(votes_C / (self.degree_C + 2))] += 2

    def of_classes(self, power_E: Counts) -> Counts:
        """Exponent of a prime in each class's modulus, from its exponents in the edges: (C,).

        Of the two parities that each connected part may have, the one with fewer primes in the counts.
        """
        even_C = self.parity(power_E)
        choices = [self.least(power_E, odd_C) for odd_C in (even_C, 1 - even_C)]
        num_parts = int(self.part_C.max()) + 1
        costs = [
            np.bincount(
                self.part_C[self.first],
                weights=power_E + exponent_C[self.first] + exponent_C[self.second],
                minlength=num_parts,
            )
            for exponent_C in choices
        ]
        return np.where((costs[0] <= costs[1])[self.part_C], *choices)


def _edges(num_classes: int, first: Positions, second: Positions) -> _Edges:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    edge_CC = np.full((num_classes, num_classes), -1)
    edge_CC[first, second] = edge_CC[second, first] = np.arange(len(first))
    ends = (first.astype(np.int32), second.astype(np.int32))  # SciPy 1.11 walks no graph of wider positions
    linked = coo_array((np.ones(len(first)), ends), (num_classes, num_classes)).tocsr()
    _, part_C = connected_components(linked, directed=False)
    degree_C = np.bincount(first, minlength=num_classes) + np.bincount(second, minlength=num_classes)
    depth_C = np.zeros(num_classes, dtype=np.intp)
    above_C = np.full(num_classes, -1)
    for part in np.unique(part_C[first]).tolist():
        members = np.flatnonzero(part_C == part)
        root = members[np.argmax(degree_C[members])]
        order, parent_C = breadth_first_order(linked, root, directed=False)
        for at in order[1:]:
            depth_C[at], above_C[at] = depth_C[parent_C[at]] + 1, parent_C[at]
    levels = []
    for depth in range(1, int(depth_C.max()) + 1):
        below = np.flatnonzero(depth_C == depth)
        levels.append(np.stack([above_C[below], below, edge_CC[above_C[below], below]]))
    return _Edges(num_classes, first, second, degree_C, levels, part_C)


def _powers(fractions: list[Fraction]) -> Iterator[tuple[int, Counts]]:
    """Primes that occur in fractions, each with its exponent in every one."""
    if not fractions:
        return
    above = np.array([fraction.numerator for fraction in fractions], dtype=np.int64)
    below = np.array([fraction.denominator for fraction in fractions], dtype=np.int64)
    for prime in _primes(_GREATEST_PRIME):
        if max(above.max(), below.max()) == 1:
            return
        power_E = _divide_out(above, prime) - _divide_out(below, prime)
        if power_E.any():
            yield prime, power_E


def _divide_out(values: npt.NDArray[np.int64], prime: int) -> npt.NDArray[np.int64]:
    """How often a prime divides each value; the values are divided."""
    power = np.zeros(len(values), dtype=np.int64)
    while (divisible := values % prime == 0).any():
        values[divisible] //= prime
        power[divisible] += 1
    return power


def _primes(limit: int) -> list[int]:
    sieve = np.ones(limit + 1, dtype=bool)
    sieve[:2] = False
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = False
    primes: list[int] = np.flatnonzero(sieve).tolist()
    return primes
