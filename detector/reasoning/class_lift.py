"""Class lift: regions tell each other which classes a corpus has seen together more often than chance.

Paper: none; ours. One step of sum-product belief propagation (Pearl 1988) on the graph of an image's regions,
    with the lift of two classes as pair potential.
Official code: none.
Fills: ScoreUpdate of any stage.
Needs: counts of class pairs, from a relation or co-occurrence graph, diagonal kept; with `positions` by
    relations that are so named, as of `kgtool build-cooccurrence --geometry`. Class logits and boxes.

Equations:
    e_cd = r_c r_d / N,   r_c = sum_d R_cd,   N = sum_c r_c           pairs expected of independent classes
    L_cd = 1 + w_c w_d ((R_cd + k) / (e_cd + k) - 1)                  lift, as far as it is trusted
    m_j(c) = log(P_j(0) + sum_d P_j(d) L_dc),   P_j = softmax(l_j)    what region j says about class c
    nu_j = max(1, sum_k 1[IoU(b_j, b_k) > 0.4] (1 - P_k(0)))          proposals that cover the object of j
    u_i(c) = sum_j 1[IoU(b_i, b_j) < 0.3] m_j(c) / nu_j               context of region i
    l'_i(c) = l_i(c) + lambda u_i(c) - z_i,  c >= 1;   l'_i(0) = l_i(0)
    z_i = log sum_c exp(l_i(c) + lambda u_i(c)) - log sum_c exp(l_i(c)),  c >= 1

    R   counts of pairs of classes, symmetric;  k  pseudo-count;  l  class logits, 0 is background;  b  boxes
    w   trust in each class's row of R, 0 to 1: `detector.trust`; 1 without `trust`

    With `positions`, L is L^p of where i stands as seen from j: inside, around, overlapping, above, below or
    near it (`detector.positions`); of a pair without such a name, and where p was seldom seen, L as above.

    A pair never seen, or of rare classes, has a lift near 1 and says nothing; class frequency is divided out.
    Background and an uncertain region send log 1 = 0 of themselves: no threshold, no gate. Each object speaks
    once, however many proposals cover it, and none hears itself. z_i keeps the share of foreground: context
    chooses among classes and does not invent objects. L = 1, lambda = 0 or a single region change nothing.

Shapes: L (C, C), l (R, C + 1), m (S, C), u (R, C); R regions of one image, S of them speak: images are worked
    through one by one. S C^2 + R S C multiply-adds an image, no tensor larger than these; with `positions`
    seven times that, and lift (6, C, C).

Departs from the paper: there is none. What we chose and why, each tried on sample worlds (docs/evidence.md):
    - The sum of messages, not their mean: evidence adds up. log sum P L, not sum P log L: of homonyms the
      lifts are averaged first. One round: a second counts the same evidence again.
    - The boxes of the training images say which classes a corpus is right about, before any training. A
      corpus of shuffled names comes out at w near 0: almost the plain detector. Take a graph of other
      images: counted from the training images, it is believed because it is their own.
    - P is detached: nothing flows back through what a region says.
    - The strength lambda is fixed unless `learned`. A fixed one acts in evaluation alone: training is plain.
      On the few images that a detector was trained on, P is too good to learn lambda from: take held-out
      images and `--set train.part=stages.0.score_update`.
    - Of more than 300 regions only the 300 that are most surely objects speak; all listen. With 1,000 regions
      and 3,000 classes this takes a third of the time.
    - m is computed as log(1 + P (L - 1)), so that L = 1 gives exactly 0.

Numbers: none published. Ours: docs/evidence.md.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from detector.errors import ConfigError
from detector.interfaces import Regions, UpdateInputs
from detector.knowledge import BACKGROUND, FOREGROUND, lift_of
from detector.positions import POSITIONS, UNNAMED, lift_by_position, positions_of
from detector.trust import row_trust, trusted_lift

#: Two regions that overlap less are different objects, and one hears the other.
APART_IOU = 0.3

#: Two regions that overlap more are the same object, which speaks once.
SAME_IOU = 0.4

#: Keeps log(1 + P (L - 1)) finite in float32.
LEAST_LIFT = 1e-6


@dataclass(frozen=True)
class ClassLiftConfig:
    """Options of the update; the top of the file says what they mean."""

    needs_counts: ClassVar[bool] = True
    strength: float = 0.5  #: lambda, where it starts when it is learned
    learned: bool = False  #: learn lambda; else it is fixed and acts in evaluation alone
    smoothing: float = 1.0  #: k, in pairs
    trust: bool = True  #: let the boxes of the training images say which rows of the counts count
    positions: bool = False  #: count by where a region stands as seen from the other one
    speakers: int = 300  #: S, regions of an image that speak, those that are most surely objects

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: a smoothing that is not above 0, a strength that is not finite, or no speakers.
        """
        if self.speakers < 1:
            raise ConfigError(f"score_update.speakers: found {self.speakers}; expected 1 or more")
        if not 0 < self.smoothing < float("inf"):
            raise ConfigError(f"score_update.smoothing: found {self.smoothing}; expected a number above 0")
        if not abs(self.strength) < float("inf"):
            raise ConfigError(f"score_update.strength: found {self.strength}; expected a finite number")

    def build(self, inputs: UpdateInputs) -> "ClassLift":
        """Make the update.

        Raises:
            ConfigError: the run has no counts of class pairs, or they are not (C, C); `positions`, and none
                by position.
        """
        if inputs.counts_CC is None:
            raise ConfigError(
                "class lift: found no counts of class pairs in the class graph; expected a graph of kgtool "
                "build-relation or build-cooccurrence (attribute graphs and most controls have none)"
            )
        expected = (inputs.num_classes, inputs.num_classes)
        if tuple(inputs.counts_CC.shape) != expected:
            raise ConfigError(f"class counts: found {tuple(inputs.counts_CC.shape)}; expected {expected}")
        lift_CC = lift_of(inputs.counts_CC, self.smoothing)
        lift_PCC = self._lift_by_position(inputs, lift_CC) if self.positions else None
        if not self.trust or inputs.own_CC is None:
            return ClassLift(self, lift_CC, lift_PCC)
        trust_C = row_trust(lift_CC, inputs.own_CC)
        lift_PCC = None if lift_PCC is None else trusted_lift(lift_PCC, trust_C)
        return ClassLift(self, trusted_lift(lift_CC, trust_C), lift_PCC, trust_C)

    def _lift_by_position(self, inputs: UpdateInputs, lift_CC: Tensor) -> Tensor:
        if inputs.positions is None:
            raise ConfigError(
                "class lift: score_update.positions=true: found no counts by position in the class graph; "
                "expected a graph of kgtool build-cooccurrence --geometry, or relations named "
                f"{', '.join(POSITIONS)}"
            )
        assert inputs.counts_CC is not None
        return lift_by_position(inputs.positions.to_dense(), inputs.counts_CC, lift_CC, self.smoothing)


class ClassLift(nn.Module):
    """Adds to every region's logits what the other regions of its image say about its class.

    Args:
        config: the options.
        lift_CC: symmetric, above 0; 1 means that one class says nothing about the other.
        lift_PCC: the same by position of the first class as seen from the second; None: wherever it stands.
        trust_C: how far each row was trusted, for the log; None where that was not asked.
    """

    excess_CC: Tensor  #: L - 1
    excess_PCC: Tensor | None  #: L^p - 1

    def __init__(
        self,
        config: ClassLiftConfig,
        lift_CC: Tensor,
        lift_PCC: Tensor | None = None,
        trust_C: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.learned, self.speakers = config.learned, config.speakers
        self.register_buffer("excess_CC", (lift_CC.clamp(min=LEAST_LIFT) - 1).float())
        by_position = None if lift_PCC is None else (lift_PCC.clamp(min=LEAST_LIFT) - 1).float()
        self.register_buffer("excess_PCC", by_position)
        self.trust = {} if trust_C is None else {"lift_trust": float(trust_C.mean())}
        #: lambda; a fixed one is the configuration's and not among the weights
        self.strength = nn.Parameter(torch.tensor(config.strength)) if config.learned else config.strength

    def forward(self, logits_RK: Tensor, regions: Regions) -> Tensor:
        """Return logits_RK in float32; in training without `learned`, those that were given."""
        if self.training and not self.learned:
            return logits_RK
        with torch.autocast(logits_RK.device.type, enabled=False):
            logits_RK = logits_RK.float()
            context_RC = self.listen(logits_RK.detach().softmax(dim=1), regions)
            return add_context(logits_RK, self.strength * context_RC)

    @torch.no_grad()
    def listen(self, probability_RK: Tensor, regions: Regions) -> Tensor:
        """Return u, context_RC: for every region the sum of what the other objects of its image say."""
        context_RC = torch.zeros_like(probability_RK[:, FOREGROUND])
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            loud, heard_RS = self._hear(1 - probability_RK[rows, BACKGROUND], regions.boxes_R4[rows])
            said_SK = probability_RK[rows[loud]]
            if self.excess_PCC is None:
                context_RC[rows] = heard_RS @ speak(said_SK, self.excess_CC)
                continue
            position_RS = positions_of(regions.boxes_R4[rows], regions.boxes_R4[rows[loud]])
            for position, excess_CC in enumerate([*self.excess_PCC, self.excess_CC]):
                context_RC[rows] += (heard_RS * (position_RS == position)) @ speak(said_SK, excess_CC)
        return context_RC

    def heard(self, probability_RK: Tensor, regions: Regions, rows_D: Tensor) -> tuple[Tensor, Tensor]:
        """Return heard_DR, 1 / nu_j where i and j are apart, else 0; and which of `edge_matrices` i hears."""
        heard_RR = torch.zeros(len(regions), len(regions), device=probability_RK.device)
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            loud, heard_RS = self._hear(1 - probability_RK[rows, BACKGROUND], regions.boxes_R4[rows])
            heard_RR[rows[:, None], rows[loud]] = heard_RS
        if self.excess_PCC is None:
            return heard_RR[rows_D], torch.zeros_like(heard_RR[rows_D], dtype=torch.int64)
        position_DR = positions_of(regions.boxes_R4[rows_D], regions.boxes_R4)
        return heard_RR[rows_D], (position_DR + 1) % (UNNAMED + 1)

    def told(self, probability_RK: Tensor, matrix_DR: Tensor, about: int, through: int) -> Tensor:
        """Return lambda (m_j(about) - the same with L = 1 for this pair), (D, R)."""
        own_RC = probability_RK[:, FOREGROUND]
        told_MR = []
        for excess_CC in self.edge_matrices(0):
            sum_R = own_RC @ excess_CC[about]
            without_R = sum_R - own_RC[:, through] * excess_CC[about, through]
            told_MR.append(self.strength * (sum_R.log1p() - without_R.log1p()))
        return torch.stack(told_MR).gather(0, matrix_DR)

    def edge_matrices(self, graph: int) -> list[Tensor]:
        """Return L - 1, then by position L^p - 1; there is one graph."""
        return [self.excess_CC, *(() if self.excess_PCC is None else self.excess_PCC)]

    def forget(self) -> None:
        """Do nothing: nothing is kept."""

    def _hear(self, objectness_R: Tensor, boxes_R4: Tensor) -> tuple[Tensor, Tensor]:
        """The regions of one image that speak, (S,), and 1 / nu_j where i and j are apart, (R, S)."""
        loud = objectness_R.topk(min(self.speakers, len(objectness_R))).indices
        iou_RS = box_iou(boxes_R4.float(), boxes_R4[loud].float())
        voices_S = (objectness_R @ (iou_RS > SAME_IOU).float()).clamp(min=1)
        return loud, (iou_RS < APART_IOU).float() / voices_S

    def diagnostics(self) -> dict[str, Tensor]:
        """Lambda, and while training the mean of w."""
        own = self.strength
        strength = own.detach().clone() if isinstance(own, Tensor) else self.excess_CC.new_full((), own)
        trust = {name: self.excess_CC.new_full((), value) for name, value in self.trust.items()}
        return {"lift_strength": strength, **trust}


def speak(probability_RK: Tensor, excess_CC: Tensor) -> Tensor:
    """Return m, message_RC: what each region says about every class.

    Args:
        probability_RK: P.
        excess_CC: L - 1; a row is the class that is spoken about.
    """
    return (probability_RK[:, FOREGROUND] @ excess_CC.T).log1p()


def add_context(logits_RK: Tensor, context_RC: Tensor) -> Tensor:
    """Add context to the logits of the classes and keep the share of foreground (l' above)."""
    background_R1, own_RC = logits_RK[:, : FOREGROUND.start], logits_RK[:, FOREGROUND]
    moved_RC = own_RC + context_RC
    shift_R1 = moved_RC.logsumexp(dim=1, keepdim=True) - own_RC.logsumexp(dim=1, keepdim=True)
    return torch.cat([background_R1, moved_RC - shift_R1], dim=1)
