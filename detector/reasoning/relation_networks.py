"""Relation Networks: regions attend to each other by looks and by place, and duplicates are learnt to go.

Paper: Hu, Gu, Zhang, Dai, Wei: "Relation Networks for Object Detection", CVPR 2018.
Official code: github.com/msracver/Relation-Networks-for-Object-Detection, relation_rcnn/symbols and
    relation_rcnn/operator_py (read, not copied).
Fills: BoxHead of any stage (`RelationHead`, section 4.2); DuplicateRemoval (`LearnedRemoval`, section 4.3).
Needs: nothing else; images are looked at one by one.

Equations: for one image, n the region that looks and m one that it looks at, itself among them:
    f_R(n) = sum_m w_mn W_V f_m                                               (2)
    w_mn = w_G exp(w_A) / sum_k (the same of k)                               (3)
    w_A = (W_K f_m) . (W_Q f_n) / sqrt(d_k)                                   (4)
    w_G = max(0, W_G E_G(b_m, b_n))                                           (5)
    f_n + concat of the f_R of all heads                                      (6)
    fc6, r1 modules, ReLU, fc7, r2 modules, ReLU                              (10)

    E_G takes log(|x_m - x_n| / w_m), log(|y_m - y_n| / h_m), log(w_n / w_m), log(h_n / h_m) to sines and
    cosines of 8 wave lengths each: 64 numbers. Geometry "none" has w_G = 1; "unary" too, and adds to f_n the
    sines and cosines of its own box (x, y, w, h).

    Duplicate removal, one class at a time: the N best boxes by their score s0 get the feature W_fR (sines and
    cosines of the rank 1..N) + W_f f, then one module, then W_s and a sigmoid: s1, a probability for each IoU
    threshold. The score is s0 s1, averaged over the thresholds. Correct is, of the boxes that overlap a
    ground truth by the threshold and no other more, the one of the highest score.

Shapes: f (N, D), W_Q and W_K (heads d_k, D), W_V (D, D), W_G (heads, 64), w_A, w_G and w (heads, N, M); with
    duplicates a dimension V, the classes, comes first. Equations 2 to 6 are in object_relation.py.

Departs from the paper:
    - As in the official code: all matrices have biases; the module comes before the ReLU of its linear layer;
      distances are floored at 1/1000 of the box; the logs are multiplied by 100; w_G is floored at 1e-6, so
      that a region without any relation is defined; weights start at N(0, 0.01^2); a ReLU before W_s, whose
      biases start at -3; ground-truth boxes that join the proposals are not looked at.
    - Boxes count as 1 px wide and high at least, where the code adds 1 px to all.
    - W_V comes before the sum over m, not after: the same number, 16 times cheaper.
    - form "printed" is the text. "released" is what the code has in place of it: distances divided by the box
      that looks; ranks from 0 on in 1024 numbers, not 128; the loss of duplicates summed over classes, not
      averaged, and that of correct boxes four times.
    - Duplicates: classes whose best score is not above 0.01 are left out, in training unless the image has
      one. Not so in the code's training; the loss of such a class is next to nothing.
    - With logs, sines and the softmax in float32, half precision is finite.

Numbers: COCO minival, ResNet-50 Faster R-CNN 29.6 AP; {1, 1} modules 31.9, {4, 4} 32.8, geometry none 30.3,
    unary 31.1 (table 1); learned removal alone 30.5, end to end 31.0, where NMS has 29.6 and Soft-NMS 30.2
    (table 4).
    ResNet-101-FPN 36.8, with modules 38.1, end to end 38.8 (table 5). A module of 1024 numbers and 16 heads
    has 3,149,840 parameters, the released duplicate removal 544,789: so have ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from detector.errors import ConfigError
from detector.interfaces import HeadInputs, Regions, RemovalInputs
from detector.knowledge import FOREGROUND
from detector.object_relation import (
    Form,
    Geometry,
    Index,
    ObjectRelation,
    Place,
    embed,
    sinusoids,
    start_small,
)
from detector.options import check_options


@dataclass(frozen=True)
class RelationConfig:
    """Options of the head with object relation modules; the top of this file says what they mean."""

    needs_graph: ClassVar[bool] = False
    form: Form = "printed"
    geometry: Geometry = "full"
    width: int = 1024  #: D
    r1: int = 1  #: modules after fc6
    r2: int = 1  #: modules after fc7
    heads: int = 16
    key_width: int = 64  #: d_k, of each head

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ConfigError: one of them is wrong.
        """
        _check("head", self)

    def build(self, inputs: HeadInputs) -> "RelationHead":
        """Make the head with its own weights."""
        return RelationHead(self, inputs.in_channels * inputs.roi_size**2)


@dataclass(frozen=True)
class LearnedRemovalConfig:
    """Options of the learned duplicate removal; the top of this file says what they mean."""

    form: Form = "printed"
    geometry: Geometry = "full"
    first: int = 100  #: N, boxes of a class
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)  #: IoU with the ground truth
    class_threshold: float = 0.01  #: a class whose best score is not above this has no detections
    width: int = 128  #: of the features that are compared
    heads: int = 16
    key_width: int = 64  #: d_k, of each head

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ConfigError: one of them is wrong.
        """
        _check("model.duplicate_removal", self)
        for name, shares in (("thresholds", self.thresholds), ("class_threshold", (self.class_threshold,))):
            if not shares or not all(0 <= share <= 1 for share in shares):
                raise ConfigError(
                    f"model.duplicate_removal.{name}: found {shares}; expected numbers from 0 to 1"
                )

    def build(self, inputs: RemovalInputs) -> "LearnedRemoval":
        """Make it for the features of the last stage.

        Raises:
            ConfigError: there is no stage.
        """
        if not inputs.in_features:
            raise ConfigError(
                "model.duplicate_removal: found a learned one without region features; expected one or more "
                "stages, or greedy or soft suppression"
            )
        return LearnedRemoval(self, inputs)


class RelationHead(nn.Module):
    """Two linear layers with relation modules after each, image by image (equation 10).

    Args:
        config: the options.
        in_features: numbers in one pooled map.
    """

    def __init__(self, config: RelationConfig, in_features: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = config.width
        self.fc6 = nn.Linear(in_features, config.width)
        self.fc7 = nn.Linear(config.width, config.width)
        sizes = (config.width, config.heads, config.key_width, config.geometry)
        self.relations6, self.relations7 = (
            cast("Sequence[ObjectRelation]", nn.ModuleList(ObjectRelation(*sizes) for _ in range(number)))
            for number in (config.r1, config.r2)
        )

    def forward(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features_RD; no losses."""
        return self._before_and_after(pooled_RCPP, regions)[1], {}

    def feature_parts(self, pooled_RCPP: Tensor, regions: Regions) -> dict[str, Tensor]:
        """Return the features before and after the modules behind fc7, the same where there are none."""
        before_RD, after_RD = self._before_and_after(pooled_RCPP, regions)
        return {"before the last modules": before_RD.relu(), "after": after_RD}

    def region_weights(self, pooled_RCPP: Tensor, regions: Regions) -> Tensor:
        """Return w of the last module, the mean of its heads, (R, R), as in the paper's figure 4."""
        weight_RR = torch.eye(len(regions), device=regions.boxes_R4.device)
        images, first = self._images(regions), 0
        features_RD, modules = self.fc6(pooled_RCPP.flatten(1)), list(self.relations6)
        if len(self.relations7):
            features_RD = self.fc7(_relate(modules, features_RD, images, 0).relu())
            first, modules = len(modules), list(self.relations7)
        features_RD = _relate(modules[:-1], features_RD, images, first)
        for module in modules[-1:]:
            for image in images:
                weight = module.weights(features_RD[image.rows], image.seen, image.places[-1])
                weight_RR[image.rows] = 0.0
                weight_RR[image.rows[:, None], image.rows[image.seen]] = weight.mean(dim=0)
        return weight_RR

    def diagnostics(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def _before_and_after(self, pooled_RCPP: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
        """What fc7 gives, and the features."""
        images = self._images(regions)
        features_RD = _relate(self.relations6, self.fc6(pooled_RCPP.flatten(1)), images, 0)
        before_RD = self.fc7(features_RD.relu())
        return before_RD, _relate(self.relations7, before_RD, images, len(self.relations6)).relu()

    def _images(self, regions: Regions) -> list["_Image"]:
        images, modules = [], [*self.relations6, *self.relations7]
        for image in range(regions.num_images):
            rows = torch.nonzero(regions.image_R == image).flatten()
            seen: Index = slice(None) if regions.proposed_R is None else regions.proposed_R[rows]
            boxes_N4 = regions.boxes_R4[rows]
            images.append(_Image(rows, seen, embed(modules, boxes_N4, boxes_N4[seen], self.config.form)))
        return images


@dataclass(frozen=True, eq=False)
class _Image:
    """The regions of one image.

    Attributes:
        rows: int64, which rows they are.
        seen: which of these are looked at.
        places: what each module of the head knows of their boxes.
    """

    rows: Tensor
    seen: Index
    places: list[Place]


def _relate(
    modules: Sequence[ObjectRelation], features_RD: Tensor, images: Sequence[_Image], first: int
) -> Tensor:
    """Send the features of each image through modules, the head's from number `first` on."""
    if not len(modules):
        return features_RD
    done = []
    for image in images:
        features = features_RD[image.rows]
        for number, module in enumerate(modules, start=first):
            features = module(features, image.seen, image.places[number])
        done.append(features)
    return torch.cat(done)[torch.cat([image.rows for image in images]).argsort()]


class LearnedRemoval(nn.Module):
    """The duplicate removal network (figure 3b), the same for all classes.

    Args:
        config: the options.
        inputs: width of the features, number of classes, threshold and limit of the detections.
    """

    def __init__(self, config: LearnedRemovalConfig, inputs: RemovalInputs) -> None:
        super().__init__()
        self.config = config
        self.inputs = inputs
        self.first_rank, self.rank_width = (0, 1024) if config.form == "released" else (1, 128)
        self.rank = nn.Linear(self.rank_width, config.width)  # W_fR
        self.appearance = nn.Linear(inputs.in_features, config.width)  # W_f
        self.relation = ObjectRelation(config.width, config.heads, config.key_width, config.geometry)
        self.classifier = nn.Linear(config.width, len(config.thresholds))  # W_s
        self.apply(start_small)
        nn.init.constant_(self.classifier.bias, -3.0)

    def forward(
        self,
        scores_RK: Tensor,
        boxes_R4: Tensor,
        features_RD: Tensor,
        regions: Regions,
        targets: Sequence[dict[str, Tensor]] | None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections in evaluation; in training "score", the cross-entropy of s0 s1."""
        detections, losses = [], []
        for image in range(regions.num_images):
            mine = regions.image_R == image
            if targets is None:
                detections.append(self._detect(scores_RK[mine], boxes_R4[mine], features_RD[mine]))
                continue
            if regions.proposed_R is not None:
                mine = mine & regions.proposed_R
            losses.append(self._loss(scores_RK[mine], boxes_R4[mine], features_RD[mine], targets[image]))
        return detections, {} if targets is None else {"score": torch.stack(losses).mean()}

    def classify(self, features_RD: Tensor, boxes_R4: Tensor, rows_VN: Tensor) -> Tensor:
        """Return s1, (V, N, thresholds), of the regions of one image in the order of their scores.

        Args:
            features_RD: of the image's regions.
            boxes_R4: of the image's regions.
            rows_VN: for each class, its N best regions, best first.
        """
        ranks = torch.arange(rows_VN.shape[1], device=boxes_R4.device) + self.first_rank
        features = self.appearance(features_RD)[rows_VN] + self.rank(sinusoids(ranks, self.rank_width))
        regions_U, box = torch.unique(rows_VN, return_inverse=True)
        box_VN = box.reshape(rows_VN.shape)  # of ONNX it comes flat
        boxes_U4 = boxes_R4[regions_U]
        (place,) = embed([self.relation], boxes_U4, boxes_U4, self.config.form)
        features = self.relation.of_sets(features, place, box_VN).relu()
        probabilities: Tensor = self.classifier(features).float().sigmoid()
        return probabilities

    def _best_first(self, scores_RK: Tensor, wanted_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The classes that take part, (V,), and s0 and region, (V, N), of each one's N best."""
        scores_NC, rows_NC = scores_RK[:, FOREGROUND].sort(dim=0, descending=True, stable=True)
        above_C = (scores_NC[:1] > self.config.class_threshold).any(dim=0)
        classes_V = torch.nonzero(above_C | wanted_C).flatten()
        count = self.config.first
        return classes_V, scores_NC[:count, classes_V].T, rows_NC[:count, classes_V].T

    def _detect(self, scores_RK: Tensor, boxes_R4: Tensor, features_RD: Tensor) -> dict[str, Tensor]:
        # The first class always takes part, though it may have no detections: runtimes of exported files
        # have no empty attention.
        first_C = torch.arange(self.inputs.num_classes, device=boxes_R4.device) == 0
        classes_V, first_VN, rows_VN = self._best_first(scores_RK, first_C)
        scores_VN = first_VN * self.classify(features_RD, boxes_R4, rows_VN).mean(dim=-1)
        solid_R = (boxes_R4[:, 2:] > boxes_R4[:, :2]).all(dim=1)
        above_C = (scores_RK[:, FOREGROUND] > self.config.class_threshold).any(dim=0)
        good_VN = (scores_VN > self.inputs.score_threshold) & above_C[classes_V, None]
        kept = torch.nonzero(good_VN & solid_R[rows_VN], as_tuple=True)
        scores, order = scores_VN[kept].sort(descending=True, stable=True)
        label, rank = (index[order[: self.inputs.limit]] for index in kept)
        return {
            "boxes": boxes_R4[rows_VN[label, rank]],
            "scores": scores[: self.inputs.limit],
            "labels": classes_V[label] + 1,
        }

    def _loss(
        self, scores_RK: Tensor, boxes_R4: Tensor, features_RD: Tensor, target: dict[str, Tensor]
    ) -> Tensor:
        there_C = torch.zeros(self.inputs.num_classes, dtype=torch.bool, device=boxes_R4.device)
        there_C[target["labels"] - 1] = True
        classes_V, first_VN, rows_VN = self._best_first(scores_RK, there_C)
        scores_VNT = first_VN[..., None] * self.classify(features_RD, boxes_R4, rows_VN)
        correct_VNT = torch.zeros_like(scores_VNT)
        for place, label in enumerate((classes_V + 1).tolist()):
            truth_G4 = target["boxes"][target["labels"] == label]
            correct_VNT[place] = correct_boxes(boxes_R4[rows_VN[place]], truth_G4, self.config.thresholds)
        with torch.autocast(boxes_R4.device.type, enabled=False):
            loss_VNT = F.binary_cross_entropy(scores_VNT, correct_VNT, reduction="none")
        boxes = max(rows_VN.shape[1], 1) * len(self.config.thresholds)
        if self.config.form == "released":
            return (loss_VNT * (1 + 3 * correct_VNT)).sum() / boxes
        return loss_VNT.sum() / (boxes * self.inputs.num_classes)


def correct_boxes(boxes_N4: Tensor, truth_G4: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Say which boxes of one class are correct and not duplicates, (N, thresholds) of 0 and 1.

    A box belongs to the ground truth that it overlaps most. Of those that overlap theirs by the threshold or
    more, the first is correct.

    Args:
        boxes_N4: boxes of one class in one image, best score first.
        truth_G4: its ground truth; G may be 0.
        thresholds: IoU.
    """
    if not len(truth_G4):
        return boxes_N4.new_zeros(len(boxes_N4), len(thresholds))
    overlap_N, best_N = box_iou(boxes_N4, truth_G4).max(dim=1)
    matched_NT = overlap_N[:, None] >= overlap_N.new_tensor(list(thresholds))
    matched_NGT = F.one_hot(best_N, len(truth_G4))[..., None] * matched_NT[:, None]
    first_NGT = (matched_NGT == 1) & (matched_NGT.cumsum(dim=0) == 1)
    correct_NT: Tensor = first_NGT.any(dim=1).to(boxes_N4.dtype)
    return correct_NT


def _check(section: str, config: RelationConfig | LearnedRemovalConfig) -> None:
    check_options(section, config, from_zero=("r1", "r2"))
    if config.width % config.heads or config.width % 8:
        raise ConfigError(
            f"{section}.width: found {config.width}; expected a multiple of 8 and of the {config.heads} heads"
        )
