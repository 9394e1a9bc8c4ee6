"""How far a corpus is to be trusted about each class, as the training images bear it out.

A corpus may name classes in another way than the data, lack some, or show another kind of picture. What
the training annotations say about that needs no training: in their images, do the companions of class c come
as the corpus says, or as if it had said nothing? Two hypotheses about each class, and the share of classes
for which the first one holds is learned from all of them (empirical Bayes):

    q_cd = L_cd / sum_e p_e L_ce        companion d of c under the corpus, over d drawn from all companions
    B_c = sum_d n_cd log q_cd           log evidence of row c of the corpus against "says nothing"
    w_c = sigma(B_c + log(pi / (1 - pi)))    trust: the posterior that row c is right
    pi = (1 + sum_c w_c) / (2 + C)      the share of right rows, iterated with w; a flat hump as its prior

    L  lift of two classes;  n  pairs of boxes of the training images;  p  shares of all companions

A class without training boxes has the trust of the others, pi; without any pair all have 1/2. Pairs of one
image are not independent, so B is too sure of itself; it is far from 0 long before that matters. A row that
is right in part still speaks for itself (half of the counts of another class, noisy labels), and stays.

What was tried instead and why not: one exponent for the whole lift by maximum pseudo-likelihood of the
annotations is 0.23 for the right corpus and 0.10 for a shuffled one; a share of right companions for each
class instead of right rows costs the right corpus one to two AP (docs/evidence.md).
"""

import torch
from torch import Tensor

from detector.annotations import Annotations

#: The shares are learned from all rows until they move less than this, or so often.
SETTLED, MOST_ROUNDS = 1e-9, 1000


def count_pairs(annotations: Annotations) -> Tensor:
    """Count the ordered pairs of different boxes of one image by their classes, crowds left out.

    Returns:
        pairs_CC, float64 whole numbers, symmetric.
    """
    pairs_CC = torch.zeros(annotations.num_classes, annotations.num_classes, dtype=torch.float64)
    class_N, counted_N = torch.from_numpy(annotations.class_N), torch.from_numpy(~annotations.crowd_N)
    for image in range(annotations.num_images):
        rows = slice(*annotations.offsets[image : image + 2].tolist())
        present, count = class_N[rows][counted_N[rows]].unique(return_counts=True)  # type: ignore[no-untyped-call]
        pairs_CC[present[:, None], present] += torch.outer(count, count)
        pairs_CC[present, present] -= count
    return pairs_CC


def row_trust(lift_CC: Tensor, pairs_CC: Tensor) -> Tensor:
    """Return w, how far each class's row of a lift is to be trusted (top of this file).

    Args:
        lift_CC: L, above 0.
        pairs_CC: n, pairs of boxes of the training images, symmetric.

    Returns:
        trust_C, float64, 0 to 1.
    """
    lift_CC, pairs_CC = lift_CC.to(torch.float64), pairs_CC.to(torch.float64)
    num_classes = len(lift_CC)
    # One more companion of each class: nothing is divided by 0 where no pair was seen.
    share_C = (pairs_CC.sum(dim=0) + 1) / (pairs_CC.sum() + num_classes)
    ratio_CC = lift_CC / (lift_CC @ share_C)[:, None]
    evidence_C = (pairs_CC * ratio_CC.log()).sum(dim=1)
    right = lift_CC.new_tensor(0.5)
    for _ in range(MOST_ROUNDS):
        trust_C = (evidence_C + right.logit()).sigmoid()
        before, right = right, (1 + trust_C.sum()) / (2 + num_classes)
        if abs(right - before) < SETTLED:
            break
    return trust_C


def trusted_lift(lift_CC: Tensor, trust_C: Tensor) -> Tensor:
    """Return 1 + w_c w_d (L_cd - 1): the lift that is expected when a pair counts if both rows are right."""
    return 1 + torch.outer(trust_C, trust_C) * (lift_CC - 1)
