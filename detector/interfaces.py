"""What flows between the stages of a detector, and what a paper plugs into: the page to read first.

A region stage pools features for boxes, hands them to a **BoxHead**, and predicts class and box from what the
head returns. A paper about regions is a box head: one file in `reasoning/` with the head and a frozen
dataclass of its options that has `build()`, and a recipe that names it. Here are the contract and its plain
occupants. A paper about feature maps is a **ContextBlock** inside the backbone, in the same way. Which of
several boxes on one object stays is decided by a **DuplicateRemoval** after the last stage; the plain one is
greedy NMS, in `nms.py`.

Legend for shape suffixes, in all of `detector`: B images, R regions, C classes, K = C + 1 (background
first), D width of a region's features, P side of a pooled map, E width of what reasoning adds, H and W
sides of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from detector.errors import ConfigError
from detector.positions import PositionCounts


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of a batch of images, finest map first.

    Attributes:
        maps: each (B, channels, H, W).
        strides: px of the padded image that one cell of each map is wide.
    """

    maps: tuple[Tensor, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a batch, as columns. `regions[index]` moves every per-region column at once.

    Features, scores and targets can therefore not go out of step. (The released Reasoning-RCNN joins features
    to regions that were sampled into another order in between: the two halves of a row belong to different
    regions, and the position of a row tells whether it is foreground.)

    Attributes:
        boxes_R4: xyxy px of the padded batch image; no gradient.
        image_R: int64, which image of the batch each region lies in. Rows need not be grouped by image.
        sizes_B2: int64 (height, width) px of each image without padding.
        context: the image features that regions are pooled from.
        logits_RK: class logits of the stage before, with gradient; None in the first stage.
        weight_KD1: class layer of the stage before, a row a class, with its bias as last column, detached;
            None in the first stage.
        features_RD: what the stage before predicted from, with gradient, for a stage that keeps its regions;
            None: the boxes are to be pooled.
        labels_R: in training, int64 class label of each region, 0 is background.
        truth_R4: in training, the ground-truth box assigned to each region (meaningless for background).
        proposed_R: in training, bool, false for a ground-truth box that joined the proposals; None: all were
            proposed.
    """

    boxes_R4: Tensor
    image_R: Tensor
    sizes_B2: Tensor
    context: FeatureMaps
    logits_RK: Tensor | None = None
    weight_KD1: Tensor | None = None
    features_RD: Tensor | None = None
    labels_R: Tensor | None = None
    truth_R4: Tensor | None = None
    proposed_R: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes_R4)

    def __getitem__(self, index: Tensor) -> "Regions":
        """Take the rows that `index` (int64 positions or a bool mask) names, in its order."""
        columns = ("boxes_R4", "image_R", "logits_RK", "features_RD", "labels_R", "truth_R4", "proposed_R")
        rows = {name: getattr(self, name) for name in columns}
        return replace(self, **{name: rows[name][index] for name in columns if rows[name] is not None})

    @property
    def num_images(self) -> int:
        """Images in the batch, with or without regions."""
        return len(self.sizes_B2)


#: Under these names heads and score updates keep what they have of a class graph. They are among a run's
#: weights, but a run that starts from another one keeps its own.
KNOWLEDGE_BUFFERS = ("graphs", "excess_CC", "excess_PCC")


class BoxHead(Protocol):
    """Turns pooled region maps into the features that class and box are predicted from.

    It is an `nn.Module`. tests/detector/test_heads_contract.py holds every head to this: row i of the output
    belongs to row i of the input, whatever the order; regions of one image do not see another image; no
    regions and one region work; every parameter gets a gradient; half precision stays finite.
    """

    out_features: int  #: D, width of the features returned

    def __call__(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features_RD and the head's own losses (by name, scalars; empty when it has none)."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars worth logging about the last forward pass, without gradient; nothing changes them later.

        They stay where they were computed: reading them would wait for a GPU. Empty when there are none.
        """


@dataclass(frozen=True, eq=False)
class HeadInputs:
    """What a head is built from.

    Attributes:
        in_channels: channels of the image feature maps, and so of a pooled map.
        num_maps: number of image feature maps in `regions.context`.
        roi_size: P, side of a pooled map.
        num_classes: C, without background.
        graphs: class graphs in the data's class order, without background: (C, C), or (G, C, C) for several;
            None when the run has none.
        previous: the head of the stage before; None in the first stage.
        top: the layer of the network that a C4 backbone leaves to the heads, with its weights, to be copied;
            it doubles the channels and halves the sides of a map. None for other backbones.
    """

    in_channels: int
    num_maps: int
    roi_size: int
    num_classes: int
    graphs: Tensor | None = None
    previous: BoxHead | None = None
    top: nn.Module | None = None


class HeadConfig(Protocol):
    """The options of one kind of head: a frozen dataclass beside the head, which knows how to build it."""

    needs_graph: ClassVar[bool]  #: whether `build` reads the class graphs of `inputs`

    def build(self, inputs: HeadInputs) -> BoxHead:
        """Make the head; ConfigError when `inputs` lacks something it needs."""


class ContextBlock(Protocol):
    """Enriches a feature map with what lies elsewhere in it; the plain occupant is no block at all.

    It is an `nn.Module`. tests/detector/test_context_blocks.py holds every block to this: the map keeps its
    shape, whatever its sides; in evaluation the images of a batch do not see each other; every parameter gets
    a gradient; half precision stays finite. A block sees a whole map, the padding of a batch included.
    """

    def __call__(self, map_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""


#: Where in a residual block: "merge" is before the 1x1 convolution that merges the branches of a bottleneck,
#: in place of the ReLU there; "branch" is the end of the residual branch, before the sum; "after" is after
#: the sum and its ReLU.
BlockPlace = Literal["merge", "branch", "after"]


class BlockConfig(Protocol):
    """The options of one kind of context block: a frozen dataclass beside it, which knows how to build it."""

    place: ClassVar[BlockPlace]  #: where in a residual block its paper has it

    @property
    def at(self) -> tuple[str, ...]:
        """Names of the residual blocks that get one, such as "layer3.0"; none: every residual block."""

    def build(self, channels: int) -> ContextBlock:
        """Make a block for maps of so many channels; ConfigError when that number does not fit."""


class ScoreUpdate(Protocol):
    """Changes the class logits of a stage's regions by what else is in the image.

    It is an `nn.Module`. tests/detector/test_score_updates.py holds every one to this: the result does not
    depend on the order of the regions; regions of one image do not see another; no regions and one region
    work; half precision stays finite; the state of another gives its results.
    """

    def __call__(self, logits_RK: Tensor, regions: Regions) -> Tensor:
        """Return logits_RK. `regions` are those that the stage looked at, before it moves their boxes."""

    def diagnostics(self) -> dict[str, Tensor]:
        """As `BoxHead.diagnostics`."""


@dataclass(frozen=True, eq=False)
class UpdateInputs:
    """What a score update is built from.

    Attributes:
        num_classes: C, without background.
        counts_CC: how often two classes were seen together, in both directions; None when the run has no
            graph with such counts.
        own_CC: pairs of boxes in the images that the run trains on, in both directions; None when it does not
            train, as in loading a run.
        positions: the same counts by where the first class stands; None when the run has no graph with them.
    """

    num_classes: int
    counts_CC: Tensor | None = None
    own_CC: Tensor | None = None
    positions: PositionCounts | None = None


class UpdateConfig(Protocol):
    """The options of one kind of score update: a frozen dataclass beside it, which knows how to build it."""

    needs_counts: ClassVar[bool]  #: whether `build` reads the counts behind a class graph

    def build(self, inputs: UpdateInputs) -> ScoreUpdate:
        """Make it; ConfigError when `inputs` lacks something it needs."""


class DuplicateRemoval(Protocol):
    """Turns the scores of regions into detections: which of several boxes on one object stays.

    It is an `nn.Module`. tests/detector/test_duplicate_removal.py holds every one to this: an image's
    detections depend neither on the order of its regions nor on other images; they come best first, at most
    `limit` of them, without background; no regions work.
    """

    def __call__(
        self,
        scores_RK: Tensor,
        boxes_R4: Tensor,
        features_RD: Tensor,
        regions: Regions,
        targets: Sequence[dict[str, Tensor]] | None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections in evaluation, losses in training; the other of the two is empty.

        Args:
            scores_RK: class probabilities with background, float32, with gradient.
            boxes_R4: the boxes that the last stage predicts, one a region for all classes; no gradient.
            features_RD: what class and box were predicted from.
            regions: the same regions, for the image that each belongs to.
            targets: in training, boxes (G, 4) and labels (G,) of each image; None in evaluation.

        Returns:
            a dict an image with boxes (px of the padded batch image), scores and labels (1..C), and the
            losses by name.
        """


@dataclass(frozen=True)
class RemovalInputs:
    """What a duplicate removal is built from.

    Attributes:
        in_features: D, width of the last stage's features.
        num_classes: C, without background.
        score_threshold: a detection's score is above this.
        limit: detections kept in an image at most.
    """

    in_features: int
    num_classes: int
    score_threshold: float
    limit: int


class RemovalConfig(Protocol):
    """The options of one kind of duplicate removal: a frozen dataclass beside it, which can build it."""

    def build(self, inputs: RemovalInputs) -> DuplicateRemoval:
        """Make it; ConfigError when `inputs` does not fit."""


class TwoLinear(nn.Module):
    """The plain box head: flatten, then two linear layers with ReLU (Fast R-CNN; FPN, section 4.2).

    Args:
        in_features: numbers in one pooled map.
        width: D.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.out_features = width
        self.fc6 = nn.Linear(in_features, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features_RD; no losses. Looks at nothing but the pooled map."""
        hidden_RD = self.fc6(pooled_RCPP.flatten(1)).relu()
        return self.fc7(hidden_RD).relu(), {}

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class TwoLinearConfig:
    """Options of the plain head."""

    needs_graph: ClassVar[bool] = False
    width: int = 1024  #: D

    def __post_init__(self) -> None:
        """Check the width.

        Raises:
            ConfigError: it is below 1.
        """
        if self.width < 1:
            raise ConfigError(f"head.width: found {self.width}; expected 1 or more")

    def build(self, inputs: HeadInputs) -> TwoLinear:
        """Make the head with its own weights."""
        return TwoLinear(inputs.in_channels * inputs.roi_size**2, self.width)


class SharedHead(nn.Module):
    """The head of the stage before, used again: one set of weights for both stages.

    The other stage owns the weights. They are kept outside this module's tree, so that a state dict has each
    tensor once, under the owner's name. A stage that keeps the regions of the one before has their features
    already: nothing is computed again.
    """

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self._owned_elsewhere = (head,)
        self.out_features = head.out_features

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """As the head of the stage before."""
        if regions.features_RD is not None:
            return regions.features_RD, {}
        return self._owned_elsewhere[0](pooled_RCPP, regions)

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing: the owner reports."""
        return {}


@dataclass(frozen=True)
class SharedHeadConfig:
    """A stage that adds only new class and box layers: the equally stacked plain arm of an experiment."""

    needs_graph: ClassVar[bool] = False

    def build(self, inputs: HeadInputs) -> SharedHead:
        """Make the head around the one of the stage before.

        Raises:
            ConfigError: there is no stage before.
        """
        return SharedHead(previous_head(inputs))


def previous_head(inputs: HeadInputs) -> BoxHead:
    """Return the head of the stage before.

    Raises:
        ConfigError: there is no stage before.
    """
    if inputs.previous is None:
        raise ConfigError(
            "model.stages.0.head: found a head that builds on the stage before; expected a head of its own, "
            "such as TwoLinearConfig; put a plain stage first"
        )
    return inputs.previous


def graphs_of(inputs: HeadInputs) -> Tensor:
    """Return the class graphs as graphs_GCC, float32, one or more.

    Raises:
        ConfigError: the run has none, or they are not (C, C) each.
    """
    if inputs.graphs is None:
        raise ConfigError("this recipe needs a class graph and got none; give --graph FILE")
    graphs_GCC = inputs.graphs if inputs.graphs.ndim == 3 else inputs.graphs[None]
    expected = (inputs.num_classes, inputs.num_classes)
    if tuple(graphs_GCC.shape[1:]) != expected or len(graphs_GCC) == 0:
        raise ConfigError(f"class graph: found shape {tuple(inputs.graphs.shape)}; expected {expected}")
    return graphs_GCC.to(torch.float32)
