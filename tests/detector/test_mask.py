"""The mask branch: its loss against loops, what it looks at, torchvision's weights, learning."""

import math

import numpy as np
import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from tiny_models import NUM_CLASSES, detect, random_image, tiny_model
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

from detector.config import MaskConfig, RetinaNetConfig
from detector.errors import ConfigError
from detector.interfaces import FeatureMaps, HeadConfig, Regions
from detector.mask import MaskBranch
from detector.rcnn import RCNN
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.stage import RegionPool

MASK = MaskConfig(roi_size=5, channels=8, convolutions=1)
ARMS: dict[str, tuple[HeadConfig, ...]] = {
    "mask": (),
    "reasoning": (ReasoningConfig(form="working", width=8, squeeze=6),),
}
every_arm = pytest.mark.parametrize("heads", ARMS.values(), ids=ARMS.keys())


def discs(num_images: int, seed: int = 0, side: int = 64) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Grey noise with two bright discs; the class is the colour channel, 1 to 3."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    images, targets = [], []
    for _ in range(num_images):
        image = torch.rand(3, side, side, generator=generator) * 0.2
        boxes, labels, masks = [], [], []
        for place in torch.randperm(4, generator=generator)[:2].tolist():
            radius = int(torch.randint(8, 13, (1,), generator=generator))
            x, y = (place % 2) * 32 + 16, (place // 2) * 32 + 16
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            label = int(torch.randint(1, 4, (1,), generator=generator))
            image[label - 1][inside] += 0.8
            boxes.append([x - radius + 1, y - radius + 1, x + radius, y + radius])
            labels.append(label)
            masks.append(inside.to(torch.uint8))
        images.append(image)
        targets.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32),
                "labels": torch.tensor(labels),
                "masks": torch.stack(masks),
            }
        )
    return images, targets


def branch(seed: int = 0) -> MaskBranch:
    torch.manual_seed(seed)
    return MaskBranch(MaskConfig(3, 8, 2), 6, NUM_CLASSES, RegionPool((4, 8), 3, 1))


def regions_on(targets: list[dict[str, Tensor]]) -> Regions:
    """Five regions, not grouped by image, three of them foreground."""
    generator = torch.Generator().manual_seed(3)
    image_R = torch.tensor([1, 0, 1, 0, 1])
    boxes = [targets[1]["boxes"][1] + 2, targets[0]["boxes"][0] - 1, targets[1]["boxes"][0] * 0.5]
    boxes += [targets[0]["boxes"][1] + 1, targets[1]["boxes"][0] + 3]
    labels = [targets[1]["labels"][1], targets[0]["labels"][0], 0, 0, targets[1]["labels"][0]]
    maps = tuple(torch.randn(2, 6, 64 // stride, 64 // stride, generator=generator) for stride in (4, 8))
    return Regions(
        boxes_R4=torch.stack(boxes).clamp(0, 64),
        image_R=image_R,
        sizes_B2=torch.full((2, 2), 64),
        context=FeatureMaps(maps, (4, 8)),
        labels_R=torch.tensor([int(label) for label in labels]),
    )


def bilinear(mask: np.ndarray, y: float, x: float) -> float:
    """The mask between its pixels; outside by more than one pixel it is 0."""
    height, width = mask.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, over = (0.0 if top == bottom else y - top), (0.0 if left == right else x - left)
    upper = mask[top, left] * (1 - over) + mask[top, right] * over
    lower = mask[bottom, left] * (1 - over) + mask[bottom, right] * over
    return float(upper * (1 - down) + lower * down)


def pooled_mask(mask: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """RoIAlign in loops: the mean over evenly spread points of each of side x side cells."""
    left, top, right, bottom = (float(edge) for edge in box)
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    points_y, points_x = math.ceil(height / side), math.ceil(width / side)
    pooled = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            for i in range(points_y):
                for j in range(points_x):
                    y = top + (row + (i + 0.5) / points_y) * height / side
                    x = left + (column + (j + 0.5) / points_x) * width / side
                    pooled[row, column] += bilinear(mask, y, x) / (points_y * points_x)
    return pooled


def test_the_mask_loss_is_that_of_the_paper() -> None:
    """Section 3: binary cross-entropy of the true class's map alone, the mean over pixels and regions."""
    _, targets = discs(2)
    regions, mask = regions_on(targets), branch()
    found = mask.losses(regions, targets)["mask"].item()
    logits = mask(regions).detach().double().numpy()
    foreground = {0: (1, 1), 1: (0, 0), 4: (1, 0)}  # region: image, and ground-truth box in it
    losses = []
    for row, (image, box) in foreground.items():
        label = int(targets[image]["labels"][box])
        target = pooled_mask(
            targets[image]["masks"][box].double().numpy(), regions.boxes_R4[row].double().numpy(), 6
        )
        for y in range(6):
            for x in range(6):
                p = 1 / (1 + math.exp(-logits[row, label, y, x]))
                losses.append(-target[y, x] * math.log(p) - (1 - target[y, x]) * math.log(1 - p))
    assert len(losses) == 3 * 36
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_without_foreground_the_loss_is_zero_and_has_a_gradient() -> None:
    _, targets = discs(2)
    regions, mask = regions_on(targets), branch()
    assert regions.labels_R is not None
    regions.labels_R.zero_()
    loss = mask.losses(regions, targets)["mask"]
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in mask.parameters())


@every_arm
def test_images_without_objects_train(heads: tuple[HeadConfig, ...]) -> None:
    _, targets = discs(1)
    nothing = {name: value[:0] for name, value in targets[0].items()}
    model = tiny_model(*heads, mask=MASK)
    losses = model([random_image(1), random_image(2)], [nothing, nothing])
    torch.stack(list(losses.values())).sum().backward()
    assert losses["mask"].item() == 0
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_arm
def test_training_has_a_mask_loss_that_reaches_every_parameter(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads, mask=MASK)
    losses = model(*discs(3))
    assert losses["mask"].item() == pytest.approx(math.log(2), abs=0.3)
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_arm
def test_masks_are_learned_from_the_last_stages_regions_and_made_for_the_final_boxes(
    heads: tuple[HeadConfig, ...],
) -> None:
    model = tiny_model(*heads, mask=MASK, score_threshold=0.13)
    of_stage: list[Regions] = []
    of_mask: list[Regions] = []
    model.stages[-1].register_forward_hook(lambda _, inputs, output: of_stage.append(inputs[0]))
    assert model.mask is not None
    model.mask.register_forward_hook(lambda _, inputs, output: of_mask.append(inputs[0]))
    model(*discs(3))
    labels = of_stage[0].labels_R
    assert labels is not None
    foreground = of_stage[0].boxes_R4[labels > 0]
    assert sorted(of_mask[0].boxes_R4.tolist()) == sorted(foreground.tolist())
    found = detect(model, [random_image(1), random_image(2)])
    boxes = torch.cat([one["boxes"] for one in found])
    assert len(boxes) > 0
    torch.testing.assert_close(of_mask[1].boxes_R4, boxes)


def test_a_mask_is_a_probability_inside_its_box_in_the_size_of_the_image() -> None:
    model = tiny_model(mask=MASK, score_threshold=0.13)
    image = torch.nn.functional.pad(random_image(1), (0, 32))
    (found,) = detect(model, [image])
    assert found["masks"].shape == (len(found["boxes"]), 1, 64, 96)
    assert 0 <= found["masks"].min() <= found["masks"].max() <= 1
    for mask, box in zip(found["masks"][:, 0], found["boxes"].tolist(), strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        assert box[0] - 3 <= columns.min() <= columns.max() <= box[2] + 3
        assert box[1] - 3 <= rows.min() <= rows.max() <= box[3] + 3


@every_arm
def test_an_image_alone_gives_the_masks_it_gives_in_a_batch(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads, mask=MASK, score_threshold=0.13)
    one, other = random_image(1), random_image(2)
    alone, together = detect(model, [one])[0], detect(model, [one, other])[0]
    assert len(alone["boxes"]) > 0
    torch.testing.assert_close(together["masks"], alone["masks"], rtol=1e-4, atol=1e-4)


def test_no_detections_have_no_masks() -> None:
    (found,) = detect(tiny_model(mask=MASK, score_threshold=1.0), [random_image(1)])
    assert found["masks"].shape == (0, 1, 64, 64)


def test_half_precision_stays_finite() -> None:
    model = tiny_model(mask=MASK, score_threshold=0.13)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(*discs(2))["mask"])
        (found,) = detect(model, [random_image(1)])
    assert torch.isfinite(found["masks"]).all()


def test_torchvisions_weights_of_the_branch_load_by_their_names() -> None:
    twin = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1).roi_heads
    mask = MaskBranch(MaskConfig(), 256, NUM_CLASSES, RegionPool((4, 8, 16, 32), 14, 2))
    mask.head.load_state_dict(twin.mask_head.state_dict())
    mask.predictor.load_state_dict(twin.mask_predictor.state_dict())
    pooled = torch.randn(2, 256, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = twin.mask_predictor(twin.mask_head(pooled))
        torch.testing.assert_close(mask.predictor(mask.head(pooled)), expected)
    assert expected.shape == (2, NUM_CLASSES + 1, 28, 28)


def test_the_branch_needs_a_stage_in_front_of_it() -> None:
    with pytest.raises(ConfigError, match="no region stages in front of the mask branch"):
        tiny_model(mask=MASK, stages=(), proposals=RetinaNetConfig(((12, 24),), (1.0,)))
    with pytest.raises(ConfigError, match=r"model\.mask\.channels: found 0"):
        MaskConfig(channels=0)


GOLDEN: dict[str, list[float]] = {"mask": [3.28146, 3.09784], "reasoning": [4.36516, 4.1521]}


@pytest.mark.parametrize("name", ARMS)
def test_two_steps_of_training_give_the_losses_on_record(name: str) -> None:
    model = tiny_model(*ARMS[name], mask=MASK, **WITHOUT_CHANCE)
    assert two_losses(model, masks=True) == pytest.approx(GOLDEN[name], rel=1e-3)


def overlap_of_masks(model: RCNN, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[float]:
    """For each object the IoU of its mask with that of the best detection of its class near it."""
    overlaps = []
    for found, target in zip(detect(model, images), targets, strict=True):
        for box, label, mask in zip(target["boxes"], target["labels"], target["masks"], strict=True):
            near = ((found["boxes"] - box).abs() < 8).all(dim=1) & (found["labels"] == label)
            masks = found["masks"][near, 0] >= 0.5
            union = (masks | mask.bool()).sum(dim=(1, 2)).clamp(min=1)
            overlaps += ((masks & mask.bool()).sum(dim=(1, 2)) / union).tolist()[:1] or [0.0]
    return overlaps


def test_discs_are_learned_as_discs_and_not_as_their_boxes() -> None:
    images, targets = discs(4)
    model = tiny_model(mask=MASK, score_threshold=0.4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(list(model.train()(images, targets).values())).sum().backward()
        optimizer.step()
    overlaps = sorted(overlap_of_masks(model, images, targets))
    assert overlaps[2] > math.pi / 4, f"a filled box has {math.pi / 4:.2f}: {overlaps}"
