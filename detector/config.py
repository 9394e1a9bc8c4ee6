"""The whole configuration of a run as frozen dataclasses, and `--set key=value` on them.

A recipe (`recipes/`) is a function that returns a `Config`. A run folder stores the recipe's name and every
value, flat: {"train.lr": 0.02, "model.stages.1.head.attention": "softmax", ...}. Loading calls the recipe and
sets all stored values again: a run comes back as it was even when the recipe's defaults have changed since.
"""

from dataclasses import dataclass, field
from typing import Literal

from detector.class_losses import SOFTMAX_LOSSES, ClassLossName
from detector.errors import ConfigError
from detector.interfaces import BlockConfig, HeadConfig, RemovalConfig, UpdateConfig
from detector.nms import GreedyNMSConfig

#: Settings that change no result: they may differ when a run goes on.
WITHOUT_EFFECT = frozenset({"train.workers", "train.save_every", "train.eval_batch_size"})

#: Number format of what may be computed in less than float32.
Precision = Literal["float32", "bf16", "fp16"]

#: How the class scores of several stages become one (`detector.ensemble` says what the words mean).
ClassScores = Literal["last", "mean_logits", "mean_on_last_boxes"]

#: What a stage looks at: the boxes that the stage before has moved, pooled anew, or those that it had looked
#: at itself, with the features that it had made of them.
StageRegions = Literal["refined", "kept"]


def _check(right: bool, key: str, found: object, expected: str) -> None:
    if not right:
        raise ConfigError(f"setting {key}: found {found}; expected {expected}")


def _check_at_least(config: object, section: str, least: int, names: str) -> None:
    for name in names.split():
        value = getattr(config, name)
        _check(value >= least, f"{section}.{name}", value, f"{least} or more")


def _check_shares(config: object, section: str, names: str) -> None:
    for name in names.split():
        value = getattr(config, name)
        _check(0 <= value <= 1, f"{section}.{name}", value, "a number from 0 to 1")


def _check_anchors(levels: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> None:
    sizes = [size for level in levels for size in level]
    same = len({len(level) for level in levels}) == 1
    right = same and bool(sizes) and min(sizes) >= 1
    _check(right, "model.proposals.anchor_sizes", levels, "equally many px sizes at every level")
    right = bool(ratios) and min(ratios) > 0
    _check(right, "model.proposals.aspect_ratios", ratios, "numbers above 0")


@dataclass(frozen=True)
class BackboneConfig:
    """What turns an image into feature maps."""

    name: str = "resnet50"  #: a network of `detector.resnet` (with FPN) or tiny (one stride-4 map)
    weights: str = "none"  #: none, imagenet (torchvision's download) or a file (.safetensors, .pth)
    trainable_layers: int = 5  #: how many of torchvision's five ResNet layers train, from the top
    norm: Literal["batch", "frozen", "group"] = "batch"  #: frozen: statistics and scales stay as loaded
    #: levels of the pyramid, strides 4 to 64 or 8 to 128; c4: one map of stride 16, layer4 is the heads';
    #: c5: one map of stride 16 behind a dilated layer4
    maps: Literal["p2-p6", "p3-p7", "c4", "c5"] = "p2-p6"
    blocks: tuple[BlockConfig, ...] = ()  #: context blocks inside it, all of which train
    deformable: tuple[str, ...] = ()  #: a ResNet's layers whose 3x3 convolutions are deformable ("layer4")

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        layers = self.trainable_layers
        _check(0 <= layers <= 5, "model.backbone.trainable_layers", layers, "0 to 5")
        no_pyramid = self.name == "tiny" and self.maps != "p2-p6"
        _check(not no_pyramid, "model.backbone.maps", self.maps, "p2-p6 for tiny, which has its one map")
        unfit = self.name == "tiny" and bool(self.deformable)
        _check(not unfit, "model.backbone.deformable", self.deformable, "none for tiny, which has no layers")


@dataclass(frozen=True)
class ProposalConfig:
    """Anchors and region proposals (torchvision's RPN)."""

    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))  #: px, by level
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    pre_nms_train: int = 2000
    pre_nms_test: int = 1000
    post_nms_train: int = 2000
    post_nms_test: int = 1000
    nms_iou: float = 0.7  #: in training
    batch_size_per_image: int = 256
    nms_iou_test: float = 0.7  #: in evaluation

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        section = "model.proposals"
        _check_anchors(self.anchor_sizes, self.aspect_ratios)
        _check_at_least(self, section, 1, "pre_nms_train pre_nms_test batch_size_per_image")
        _check_at_least(self, section, 0, "post_nms_train post_nms_test")
        _check_shares(self, section, "nms_iou nms_iou_test")


@dataclass(frozen=True)
class RetinaNetConfig:
    """The dense head of RetinaNet: alone a detector, or in front of region stages (see `retinanet.py`)."""

    anchor_sizes: tuple[tuple[int, ...], ...] = (
        (32, 40, 50),
        (64, 80, 101),
        (128, 161, 203),
        (256, 322, 406),
        (512, 645, 812),
    )  #: px, by level: powers of 2 ** (1 / 3)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    foreground_iou: float = 0.5  #: an anchor that overlaps an object so much learns its class
    background_iou: float = 0.4  #: one that overlaps none so much learns that nothing is there
    candidates_per_level: int = 1000  #: anchors that are looked at further, in each feature map
    post_nms_train: int = 1000  #: regions for the stages, an image
    post_nms_test: int = 300
    nms_iou: float = 0.7  #: of these regions, whatever their class

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        section = "model.proposals"
        _check_anchors(self.anchor_sizes, self.aspect_ratios)
        _check_at_least(self, section, 1, "candidates_per_level post_nms_train post_nms_test")
        _check_shares(self, section, "foreground_iou background_iou nms_iou")
        expected = f"at most foreground_iou, {self.foreground_iou}"
        right = self.background_iou <= self.foreground_iou
        _check(right, f"{section}.background_iou", self.background_iou, expected)


@dataclass(frozen=True)
class StageConfig:
    """One region stage: assign, (sample,) pool, head, predict, refine."""

    head: HeadConfig
    #: refined: boxes that the stage before has moved; kept: its own, with its features, not pooled again
    regions: StageRegions = "refined"
    foreground_iou: float = 0.5
    box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)  #: of the box deltas (dx, dy, dw, dh)
    loss_weight: float = 1.0
    class_loss: ClassLossName = "softmax"  #: or seesaw, or eql_v2, for long tails (`class_losses.py`)
    hard_regions: int = (
        0  #: learn from so many regions an image, those of the highest loss (OHEM); 0: from all
    )
    score_update: UpdateConfig | None = (
        None  #: changes class scores after the class layer; none: nothing does
    )

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        _check_shares(self, "model.stages", "foreground_iou")
        _check(min(self.box_std) > 0, "model.stages.box_std", self.box_std, "four numbers above 0")
        _check_at_least(self, "model.stages", 0, "loss_weight hard_regions")
        fits = self.score_update is None or self.class_loss in SOFTMAX_LOSSES
        expected = f"{' or '.join(SOFTMAX_LOSSES)}: a score update reads probabilities of a softmax"
        _check(fits, "model.stages.class_loss", self.class_loss, expected)


@dataclass(frozen=True)
class MaskConfig:
    """The mask branch of Mask R-CNN, on the boxes of the last stage (see `mask.py`)."""

    roi_size: int = 14  #: side of the pooled map; the mask's is twice that
    channels: int = 256
    convolutions: int = 4

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        _check_at_least(self, "model.mask", 1, "roi_size channels convolutions")


@dataclass(frozen=True)
class ModelConfig:
    """Backbone, proposals and the tuple of region stages: one stage is Faster R-CNN, none is RetinaNet."""

    backbone: BackboneConfig
    stages: tuple[StageConfig, ...]
    proposals: ProposalConfig | RetinaNetConfig = ProposalConfig()  #: its type says what proposes
    min_size: int = 800  #: short side, px
    max_size: int = 1333  #: long side at most, px
    min_sizes: tuple[int, ...] = ()  #: px; in training each image gets one of these as its short side
    roi_size: int = 7
    roi_align: bool = field(default=True, metadata={"setting": False})  #: off: heads pool for themselves
    roi_sampling_ratio: int = 2
    regions_per_image: int = 512
    positive_fraction: float = 0.25
    mask: MaskConfig | None = None  #: the mask branch of Mask R-CNN; none: boxes only
    class_scores: ClassScores = "last"  #: of several stages, in evaluation
    score_threshold: float = 0.05
    detections_per_image: int = 100
    duplicate_removal: RemovalConfig = field(default_factory=GreedyNMSConfig)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        _check_at_least(self, "model", 1, "min_size max_size roi_size regions_per_image detections_per_image")
        _check_at_least(self, "model", 0, "roi_sampling_ratio")
        _check(min(self.min_sizes, default=1) >= 1, "model.min_sizes", self.min_sizes, "px sizes from 1 on")
        _check_shares(self, "model", "positive_fraction score_threshold")
        kept = [stage.regions for stage in self.stages[:1] if stage.regions == "kept"]
        expected = "refined in the first stage, which has none before it"
        _check(not kept, "model.stages.0.regions", "kept", expected)
        losses = [stage.class_loss for stage in self.stages]
        softmax = [loss in SOFTMAX_LOSSES for loss in losses]
        fits = self.class_scores == "last" or all(softmax)
        _check(fits, "model.class_scores", self.class_scores, "last, where a stage's class_loss is eql_v2")
        # Heads read the logits of the stage before as those of a softmax.
        _check(all(softmax[:-1]), "model.stages.class_loss", losses, "eql_v2 in the last stage alone")


def reads_graph(config: ModelConfig) -> bool:
    """Say whether a head or a score update reads a class graph."""
    updates = [stage.score_update for stage in config.stages if stage.score_update]
    return any(stage.head.needs_graph for stage in config.stages) or any(
        update.needs_counts for update in updates
    )


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. One epoch sees every training image that has a box once, unless `sampling` says else."""

    epochs: int = 12
    batch_size: int = 2  #: images a step, over all processes
    accumulate: int = 1  #: parts in which a process takes its share of a step, to save memory
    precision: Precision = "float32"  #: of forward and backward, and of evaluation (autocast)
    channels_last: bool = False  #: memory order of convolutions; faster on GPUs with bf16 or fp16
    compile: bool = False  #: torch.compile the backbone
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02  #: the highest learning rate
    reference_batch: int = (
        0  #: images a step that lr is for; it grows and shrinks with batch_size; 0: it does not
    )
    momentum: float = 0.9  #: of sgd
    weight_decay: float = 1e-4
    schedule: Literal["multistep", "cosine", "onecycle", "constant"] = "multistep"
    milestones: tuple[int, ...] = (8, 11)  #: epochs after which lr is multiplied by 0.1 (multistep)
    warmup_iterations: int = 500  #: linear warm-up from lr / 1000 (all but onecycle)
    clip_norm: float = 35.0  #: gradient norm; 0 is off
    average_decay: float = 0.0  #: of the weights' moving average, which is evaluated and kept; 0 is off
    sync_batch_norm: bool = False  #: batch statistics over all processes (GPUs only)
    flip: float = 0.5  #: probability of a horizontal flip
    #: smallest and largest scale of large-scale jitter, on a square of model.min_size ("0.1,2.0"); (): off
    jitter: tuple[float, ...] = ()
    copy_paste: float = 0.0  #: probability that objects of another image are pasted on one; needs jitter
    sampling: Literal["uniform", "repeat_factor", "class_balanced"] = "uniform"  #: what an epoch shows
    repeat_threshold: float = 0.001  #: share of images below which a class is repeated (repeat_factor)
    group_shapes: bool = False  #: wide images in one batch, high ones in another: less padding
    part: str = ""  #: train only weights whose names start with this ("duplicate_removal"); the others stay
    seed: int = 0
    deterministic: bool = False  #: the same bits from run to run on a GPU too; slower there
    workers: int = 0  #: processes that load images, for each process that trains
    eval_every: int = 0  #: evaluate after every so many epochs; 0: only after the last
    eval_batch_size: int = 4  #: images at a time in evaluation, for each process
    save_every: int = 0  #: save the state every so many steps, besides every epoch; 0: only then

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        _check_at_least(self, "train", 1, "epochs batch_size accumulate eval_batch_size")
        _check_at_least(self, "train", 0, "momentum weight_decay warmup_iterations clip_norm reference_batch")
        _check_at_least(self, "train", 0, "workers eval_every save_every")
        _check(0 < self.lr < float("inf"), "train.lr", self.lr, "a number above 0")
        _check(0 <= self.seed < 2**63, "train.seed", self.seed, "0 or more, below 2^63")
        milestones = self.milestones
        _check(min(milestones, default=1) >= 1, "train.milestones", milestones, "epochs from 1 on")
        _check_shares(self, "train", "flip average_decay repeat_threshold copy_paste")
        jitter = self.jitter
        right = not jitter or (len(jitter) == 2 and 0 < jitter[0] <= jitter[1])
        _check(right, "train.jitter", jitter, "two scales above 0, the smaller one first")
        right = not self.copy_paste or bool(jitter)
        _check(right, "train.copy_paste", self.copy_paste, "0 without train.jitter; set train.jitter=0.1,2.0")


@dataclass(frozen=True)
class Config:
    """One run, completely."""

    recipe: str = field(metadata={"setting": False})  #: its name; a run is loaded by it
    model: ModelConfig
    train: TrainConfig
