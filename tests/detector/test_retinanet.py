"""RetinaNet's dense head: torchvision's numbers, the formula of its loss, and what a stage behind it gets."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from tiny_data import write_data, write_graph
from tiny_models import NUM_CLASSES, detect, random_image, squares, tiny_model
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from detector import load
from detector.backbone import build_backbone, load_matching
from detector.config import BackboneConfig, RetinaNetConfig, StageConfig
from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, Regions, SharedHeadConfig
from detector.overrides import override
from detector.predict import predict
from detector.rcnn import RCNN
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes import load_recipe
from detector.retinanet import DenseProposals
from detector.train import train

DENSE = RetinaNetConfig(((12, 24),), (1.0,), post_nms_train=40, post_nms_test=30)
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
ARMS: dict[str, tuple[StageConfig, ...]] = {
    "alone": (),
    "stacked": (StageConfig(SharedHeadConfig()),),
    "reasoning": (StageConfig(ReasoningConfig(form="working", width=8, squeeze=6)),),
    "released": (StageConfig(ReasoningConfig(form="released", width=8, squeeze=6)),),
}
every_arm = pytest.mark.parametrize("stages", ARMS.values(), ids=ARMS.keys())
every_stacked_arm = pytest.mark.parametrize("stages", list(ARMS.values())[1:], ids=list(ARMS)[1:])


def dense_model(stages: tuple[StageConfig, ...] = (), *, spread: float = 0.1, **changes: object) -> RCNN:
    """A detector whose dense head has answers that differ, unlike one that has just been made."""
    model = tiny_model(proposals=DENSE, stages=stages, **changes)
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.proposals.head.named_parameters():
        if name.endswith("weight"):
            weight.data = torch.randn(weight.shape, generator=generator) * spread
    model.proposals.head.classification_head.cls_logits.bias.data.fill_(-1.5)
    return model


def torchvision_twin(model: RCNN, score_threshold: float) -> RetinaNet:
    """torchvision's RetinaNet around the same backbone, with the same weights in its head."""
    backbone = model.backbone.body
    backbone.out_channels = model.backbone.out_channels
    twin = RetinaNet(
        backbone,
        NUM_CLASSES,
        min_size=64,
        max_size=64,
        anchor_generator=model.proposals.anchors,
        score_thresh=score_threshold,
        detections_per_img=1000,
        topk_candidates=10_000,  # pairs of anchor and class; ours are anchors
    )
    twin.head.load_state_dict(model.proposals.head.state_dict())
    return twin


def test_detections_are_those_of_torchvision() -> None:
    model = dense_model(score_threshold=0.2, detections_per_image=1000)
    images = [random_image(1), random_image(2, 64, 48)]
    expected = torchvision_twin(model, 0.2).eval()(images)
    for found, other in zip(detect(model, images), expected, strict=True):
        assert len(found["boxes"]) > 20
        solid = (other["boxes"][:, 2:] > other["boxes"][:, :2]).all(dim=1)  # ours have no empty boxes
        torch.testing.assert_close(found["scores"], other["scores"][solid])
        torch.testing.assert_close(found["boxes"], other["boxes"][solid])
        assert torch.equal(found["labels"], other["labels"][solid] + 1)


def test_losses_are_those_of_torchvision() -> None:
    model = dense_model()
    images, targets = squares(2)
    targets = [targets[0], NOTHING]
    losses = model(images, targets)
    shifted = [{**target, "labels": target["labels"] - 1} for target in targets]
    expected = torchvision_twin(model, 0.05).train()(images, shifted)
    torch.testing.assert_close(losses["dense_class"], expected["classification"])
    torch.testing.assert_close(losses["dense_box"], expected["bbox_regression"])


def dense_head(num_classes: int = 3) -> DenseProposals:
    torch.manual_seed(0)
    head = DenseProposals(DENSE, 6, 1, num_classes, None)
    for weight in head.head.parameters():
        weight.data = torch.randn_like(weight) * 0.15
    return head


def maps_and_batch(num_images: int) -> tuple[FeatureMaps, ImageList]:
    generator = torch.Generator().manual_seed(2)
    maps = FeatureMaps((torch.randn(num_images, 6, 8, 8, generator=generator),), (8,))
    return maps, ImageList(torch.zeros(num_images, 3, 64, 64), [(64, 64)] * num_images)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return float(width * height / (area - width * height))


def focal_loss_in_loops(
    anchors: np.ndarray, probability: np.ndarray, boxes: np.ndarray, labels: list[int]
) -> float:
    """Equation 5 for one image: divided by the foreground anchors; those between the limits do not count."""
    ious = [[overlap(anchor, box) for box in boxes] for anchor in anchors]
    best = [max(ious[row][column] for row in range(len(anchors))) for column in range(len(boxes))]
    total, foreground = 0.0, 0
    for row in range(len(anchors)):
        column = int(np.argmax(ious[row]))
        near = ious[row][column]
        is_foreground = near >= 0.5 or any(ious[row][other] == best[other] for other in range(len(boxes)))
        foreground += is_foreground
        if 0.4 <= near < 0.5 and not is_foreground:
            continue
        for label in range(1, probability.shape[1] + 1):
            p = float(probability[row, label - 1])
            if is_foreground and label == labels[column]:
                total -= 0.25 * (1 - p) ** 2 * math.log(p)
            else:
                total -= 0.75 * p**2 * math.log(1 - p)
    return total / max(foreground, 1)


def test_the_class_loss_is_the_focal_loss_of_the_paper() -> None:
    head = dense_head()
    maps, batch = maps_and_batch(1)
    boxes, labels = torch.tensor([[4.0, 6, 17, 17], [30, 20, 52, 47]]), torch.tensor([3, 1])
    _, losses = head(batch, maps, [{"boxes": boxes, "labels": labels}])
    anchors = head.anchors(batch, list(maps.maps))[0].numpy()
    probability = head.head(list(maps.maps))["cls_logits"][0].sigmoid().detach().double().numpy()
    expected = focal_loss_in_loops(anchors, probability, boxes.numpy(), labels.tolist())
    assert losses["dense_class"].item() == pytest.approx(expected, rel=1e-4)


def test_class_weights_answer_a_flat_map_as_the_tower_does() -> None:
    """On a map that is the same everywhere, the mean logit of a cell's anchors is weight times feature."""
    head = dense_head()
    feature_D = torch.randn(6, generator=torch.Generator().manual_seed(4))
    flat = feature_D[None, :, None, None].expand(1, 6, 5, 5)
    answer = head.head.classification_head.cls_logits(flat)[0, :, 2, 2]  # away from the padding
    expected_C = np.zeros(3)
    for anchor in range(2):
        for label in range(3):
            expected_C[label] += answer[anchor * 3 + label].item() / 2
    weight_KD1 = head.class_weights()
    logits_K = weight_KD1 @ torch.cat([feature_D, torch.ones(1)])
    assert weight_KD1.shape == (4, 7)
    assert not weight_KD1.requires_grad
    assert logits_K.tolist() == pytest.approx([0.0, *expected_C], abs=1e-5)


def regions_before(model: RCNN, run: object) -> Regions:
    """The regions that the first stage got."""
    seen: list[Regions] = []
    hook = model.proposals.register_forward_hook(lambda _, inputs, output: seen.append(output[0]))
    run()
    hook.remove()
    return seen[0]


@every_stacked_arm
def test_the_prediction_nearest_to_each_object_is_among_the_regions_of_training(
    stages: tuple[StageConfig, ...],
) -> None:
    model = dense_model(stages, spread=0.02)
    images, targets = squares(2)
    regions = regions_before(model, lambda: model(images, targets))
    dense_only = dense_model(spread=0.02)
    every = regions_before(dense_only, lambda: dense_only(images, targets))
    assert len(regions) < len(every)
    for image, target in enumerate(targets):
        kept = box_iou(target["boxes"], regions.boxes_R4[regions.image_R == image]).max(dim=1).values
        best = box_iou(target["boxes"], every.boxes_R4[every.image_R == image]).max(dim=1).values
        torch.testing.assert_close(kept, best)


def test_logits_of_a_region_are_those_of_its_own_anchor_and_background_has_zero() -> None:
    model = dense_model(ARMS["reasoning"], spread=0.02)
    images = [random_image(1), random_image(2)]
    regions = regions_before(model, lambda: detect(model, images))
    dense_only = dense_model(spread=0.02)
    every = regions_before(dense_only, lambda: detect(dense_only, images))
    assert torch.bincount(regions.image_R).tolist() == [30, 30]
    assert regions.logits_RK is not None
    assert every.logits_RK is not None
    assert not regions.logits_RK[:, 0].any()
    for row in range(len(regions)):
        same = (every.boxes_R4 == regions.boxes_R4[row]).all(dim=1) & (every.image_R == regions.image_R[row])
        found = every.logits_RK[same]
        assert (found == regions.logits_RK[row]).all(dim=1).any()


@every_arm
def test_training_returns_finite_losses_and_a_gradient_for_every_parameter(
    stages: tuple[StageConfig, ...],
) -> None:
    model = dense_model(stages, spread=0.02)
    losses = model(*squares(3))
    names = {"dense_class", "dense_box", *(("stage1_class", "stage1_box") if stages else ())}
    assert set(losses) == names
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@every_arm
def test_images_without_objects_train(stages: tuple[StageConfig, ...]) -> None:
    model = dense_model(stages)
    losses = model(squares(2)[0], [NOTHING, NOTHING])
    assert losses["dense_box"].item() == 0
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_arm
def test_an_image_alone_gives_the_detections_it_gives_in_a_batch(stages: tuple[StageConfig, ...]) -> None:
    model = dense_model(stages, score_threshold=0.13)
    one, other = random_image(1), random_image(2)
    alone, together = detect(model, [one])[0], detect(model, [one, other])[0]
    assert len(alone["boxes"]) > 0
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-4)


@every_arm
def test_half_precision_stays_finite_and_boxes_stay_exact(stages: tuple[StageConfig, ...]) -> None:
    model = dense_model(stages, spread=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.isfinite(loss) for loss in model(*squares(2)).values())
        regions = regions_before(model, lambda: detect(model, [random_image(1)]))
    assert regions.boxes_R4.dtype == torch.float32
    assert not torch.equal(regions.boxes_R4, regions.boxes_R4.bfloat16().float())


def test_levels_of_the_pyramid_and_of_the_anchors_must_be_as_many() -> None:
    with pytest.raises(ConfigError, match="found 5 levels; expected 1"):
        tiny_model(proposals=RetinaNetConfig(), stages=())
    with pytest.raises(ConfigError, match=r"background_iou: found 0.6; expected at most foreground_iou, 0.5"):
        RetinaNetConfig(background_iou=0.6)
    with pytest.raises(ConfigError, match=r"model\.backbone\.maps: found p3-p7; expected p2-p6 for tiny"):
        BackboneConfig("tiny", maps="p3-p7")


def test_the_pyramid_from_p3_to_p7_takes_all_of_torchvisions_weights() -> None:
    backbone = build_backbone(BackboneConfig("resnet50", norm="frozen", maps="p3-p7"))
    twin = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    weights = {name: tensor for name, tensor in twin.state_dict().items() if name.startswith("backbone.")}
    (message,) = load_matching(backbone, weights, source="torchvision")
    assert "not there" not in message
    assert "not used" not in message
    image = torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = backbone.eval()(image).maps
        expected = list(twin.eval().backbone(image).values())
    assert [tuple(one.shape[-2:]) for one in maps] == [(16, 12), (8, 6), (4, 3), (2, 2), (1, 1)]
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert backbone.strides == (8, 16, 32, 64, 128)


GOLDEN: dict[str, list[float]] = {"alone": [208.9583, 202.5787], "reasoning": [210.4691, 204.0906]}


@pytest.mark.parametrize("name", ["alone", "reasoning"])
def test_two_steps_of_training_give_the_losses_on_record(name: str) -> None:
    changes = {**WITHOUT_CHANCE, "proposals": DENSE, "stages": ARMS[name]}
    assert two_losses(tiny_model(**changes), lr=1e-6) == pytest.approx(GOLDEN[name], rel=1e-3)


def test_a_few_steps_overfit_a_few_images() -> None:
    images, targets = squares(4)
    model = tiny_model(proposals=DENSE, stages=ARMS["stacked"], score_threshold=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(model.train()(images, targets).values())).sum().backward()
        optimizer.step()
    hits = 0
    for found, target in zip(detect(model, images), targets, strict=True):
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            near = ((found["boxes"] - box).abs() < 6).all(dim=1)
            hits += int(label in found["labels"][near])
    assert hits >= 6, "of 8 squares"


@pytest.mark.parametrize("recipe", ["retinanet_sample", "reasoning_retinanet_sample"])
def test_train_load_and_predict_work_as_with_any_other_recipe(recipe: str, tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data"), tmp_path / "run"
    graphs = [write_graph(tmp_path / "graph.npz")] if recipe.startswith("reasoning") else []
    config = override(load_recipe(recipe), {"train.epochs": 1, "train.batch_size": 3})
    result = train(config, data, run, graphs=graphs, quiet=True)
    assert set(result["metrics"]) >= {"AP", "AP50"}
    trained = load(run, threshold=0.001, device="cpu")
    assert len(trained.run.model.stages) == len(graphs)
    done = predict(trained, [data / "images" / "test_0.png"], tmp_path / "out")
    assert len(done.pictures) == 1
