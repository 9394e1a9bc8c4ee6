"""Jensen-Shannon divergence of all class pairs: kgtool against scipy's cdist, interleaved in one run.

Run: OMP_NUM_THREADS=1 python bench/js_divergence.py

Both sides compute the 3000 x 3000 divergences of 3000 distributions over 200 attributes, a third of them
present, in float64 on one thread. Prints each round, the ratio of the medians, and the largest difference.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from kgtool.weights import attribute_distribution, js_divergence

Matrix = npt.NDArray[np.float64]


def distributions(num_classes: int, num_attributes: int, density: float, seed: int) -> Matrix:
    """Rows of random counts of which a share is not zero, each over its sum."""
    rng = np.random.default_rng(seed)
    present = rng.random((num_classes, num_attributes)) < density
    present[:, 0] = True  # no empty row, for which scipy has no answer
    return attribute_distribution(present * (1 + rng.poisson(5, present.shape)))


def seconds(function: Callable[[], Matrix]) -> tuple[float, Matrix]:
    """Wall time of one call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=3000)
    parser.add_argument("--attributes", type=int, default=200)
    parser.add_argument("--density", type=float, default=0.34)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    p_CA = distributions(args.classes, args.attributes, args.density, seed=0)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(1, args.rounds + 1):
        ours_s, divergence_CC = seconds(lambda: js_divergence(p_CA))
        theirs_s, distance_CC = seconds(lambda: cdist(p_CA, p_CA, "jensenshannon"))
        ours.append(ours_s)
        theirs.append(theirs_s)
        print(f"round {number}: kgtool {ours_s:.2f} s, scipy cdist {theirs_s:.2f} s")
    difference_CC = np.abs(divergence_CC - distance_CC**2)
    np.fill_diagonal(difference_CC, 0)  # exactly 0 in kgtool, about 1e-16 in scipy
    print(f"ratio of medians: {statistics.median(theirs) / statistics.median(ours):.1f}")
    print(f"largest difference off the diagonal: {difference_CC.max():.1e}")


if __name__ == "__main__":
    main()
