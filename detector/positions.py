"""Where one box stands as seen from another: the names that `kgtool build-cooccurrence --geometry` gives.

Of two boxes, subject first, the first of these that holds:

    inside     at least 90 % of the subject's area lies in the object, which is larger
    around     the reverse
    overlaps   they share area
    above      they share none, and from centre to centre it is within 45 degrees of the vertical
    below      the reverse
    near       apart by at most the mean of their sides (the root of a box's area)

Any other pair has no name. The names are those of the counts in a class graph; that they mean the same boxes
here as where the graph was counted is held by a test.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

POSITIONS = ("inside", "around", "overlaps", "above", "below", "near")
#: The name of a pair the other way round.
OPPOSITE = ("around", "inside", "overlaps", "below", "above", "near")
#: What `positions_of` says of a pair without a name.
UNNAMED = len(POSITIONS)
INSIDE_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class PositionCounts:
    """How often classes stood in each of `POSITIONS` of one another: a few of many places, so kept as a list.

    Attributes:
        num_classes: C.
        index_3N: int64 columns of a position, the class that stands there, and the class it is seen from.
        count_N: float64 whole numbers.
    """

    num_classes: int
    index_3N: Tensor
    count_N: Tensor

    def to_dense(self) -> Tensor:
        """Return R^p, counts_PCC, float64; columns that come twice are added."""
        size = (len(POSITIONS), self.num_classes, self.num_classes)
        return torch.zeros(size, dtype=torch.float64).index_put_(tuple(self.index_3N), self.count_N, True)


def no_counts(num_classes: int) -> PositionCounts:
    """Nothing counted, as where a run's weights are loaded next."""
    return PositionCounts(num_classes, torch.zeros(3, 0, dtype=torch.int64), torch.zeros(0).double())


def positions_of(boxes_R4: Tensor, boxes_S4: Tensor) -> Tensor:
    """Name where each box stands as seen from each other one.

    Args:
        boxes_R4: subjects, xyxy.
        boxes_S4: objects, xyxy.

    Returns:
        position_RS, int64: a position in `POSITIONS`, or `UNNAMED`.
    """
    one, two = boxes_R4[:, None].double(), boxes_S4[None].double()
    start, end = torch.maximum(one[..., :2], two[..., :2]), torch.minimum(one[..., 2:], two[..., 2:])
    shared = (end - start).clamp(min=0).prod(dim=-1)
    area_one, area_two = (one[..., 2:] - one[..., :2]).prod(-1), (two[..., 2:] - two[..., :2]).prod(-1)
    across, down = (two[..., :2] + two[..., 2:] - one[..., :2] - one[..., 2:]).unbind(-1)
    vertical = down.abs() > across.abs()
    apart = (start - end).clamp(min=0).square().sum(dim=-1)
    reach = (area_one.clamp(min=0).sqrt() + area_two.clamp(min=0).sqrt()) / 2
    holds = {
        "inside": (area_one < area_two) & (shared >= INSIDE_SHARE * area_one),
        "around": (area_two < area_one) & (shared >= INSIDE_SHARE * area_two),
        "overlaps": shared > 0,
        "above": vertical & (down > 0),
        "below": vertical,
        "near": apart <= reach.square(),
    }
    position_RS = torch.full(across.shape, UNNAMED, device=boxes_R4.device)
    for number, name in reversed(list(enumerate(POSITIONS))):
        position_RS = torch.where(holds[name], number, position_RS)
    return position_RS


def lift_by_position(position_PCC: Tensor, counts_CC: Tensor, lift_CC: Tensor, smoothing: float) -> Tensor:
    """Return L^p: how much more often class c stands in position p of class d than independent classes.

        L^p_cd = (R^p_cd + k L_cd) / (e^p_cd + k),  e^p_cd = N^p r_c r_d / N^2

    Where a position was seen too seldom to say anything, it is the lift L of the two classes anywhere.

    Args:
        position_PCC: R^p, counts; class c is the subject, d the object.
        counts_CC: R, symmetric; r are its row sums, N its sum.
        lift_CC: L.
        smoothing: k, above 0.

    Returns:
        lift_PCC, float64, above 0.
    """
    share_C = counts_CC.to(torch.float64).sum(dim=1) / counts_CC.sum().clamp(min=1)
    position_PCC = position_PCC.to(torch.float64)
    expected_PCC = position_PCC.sum(dim=(1, 2))[:, None, None] * torch.outer(share_C, share_C)
    return (position_PCC + smoothing * lift_CC) / (expected_PCC + smoothing)
