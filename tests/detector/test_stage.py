"""One region stage against slow definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import NUM_CLASSES, random_regions
from torch import nn
from torchvision.ops import roi_align

from detector.boxes import decode_boxes, encode_boxes
from detector.config import StageConfig
from detector.errors import ConfigError
from detector.interfaces import HeadInputs, Regions, SharedHeadConfig, TwoLinearConfig
from detector.stage import RegionPool, Stage, StageOutput

STRIDES = (4, 8, 16, 32, 64)
IMAGES = [1, 0, 2, 0, 1, 1, 0]


@pytest.fixture
def stage() -> Stage:
    torch.manual_seed(0)
    config = StageConfig(TwoLinearConfig(10), foreground_iou=0.5, loss_weight=0.5)
    head = config.head.build(HeadInputs(6, 5, 3, NUM_CLASSES))
    return Stage(config, head, NUM_CLASSES, RegionPool(STRIDES, 3, 2))


@pytest.fixture
def regions() -> Regions:
    return random_regions(IMAGES, 4, width=10)


def test_indexing_moves_every_column_of_the_regions_at_once(regions: Regions) -> None:
    order = torch.tensor([3, 0, 0, 5])
    moved = regions[order]
    assert len(moved) == 4
    for column in ("boxes_R4", "image_R", "logits_RK", "labels_R", "truth_R4"):
        assert torch.equal(getattr(moved, column), getattr(regions, column)[order]), column
    assert moved.weight_KD1 is regions.weight_KD1
    assert moved.context is regions.context


def test_indexing_moves_every_column_that_has_a_row_a_region(regions: Regions) -> None:
    """Guards against a new column that `regions[index]` forgets."""
    moved = regions[torch.arange(3)]
    for name, value in vars(moved).items():
        if isinstance(value, torch.Tensor) and name.split("_")[-1].startswith("R"):
            assert len(value) == 3, name


def test_pooling_follows_the_order_of_the_regions(regions: Regions) -> None:
    """Row by row against RoIAlign on the one map that equation 1 of the FPN paper names."""
    big = replace(regions, boxes_R4=regions.boxes_R4 * torch.tensor([1, 1, 1, 1, 1, 8, 1.0])[:, None])
    pooled = RegionPool(STRIDES, 3, 2)(big)
    levels = set()
    for row in range(len(big)):
        x1, y1, x2, y2 = big.boxes_R4[row].tolist()
        level = int(np.clip(np.floor(4 + np.log2(np.sqrt((x2 - x1) * (y2 - y1)) / 224)), 2, 5)) - 2
        levels.add(level)
        features = big.context.maps[level][big.image_R[row]][None]
        expected = roi_align(features, [big.boxes_R4[row : row + 1]], 3, 1 / STRIDES[level], 2)
        torch.testing.assert_close(pooled[row : row + 1], expected)
    assert len(levels) > 1


def test_each_region_is_assigned_the_ground_truth_of_its_own_image(stage: Stage) -> None:
    box = [10.0, 10.0, 30.0, 30.0]
    regions = random_regions([2, 0, 1, 0], 3, width=10)
    regions = replace(regions, boxes_R4=torch.tensor([box, box, box, [40.0, 40.0, 50.0, 50.0]]))
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    targets = [
        {"boxes": torch.tensor([[12.0, 10.0, 32.0, 30.0]]), "labels": torch.tensor([5])},
        nothing,
        {"boxes": torch.tensor([[10.0, 12.0, 30.0, 32.0]]), "labels": torch.tensor([2])},
    ]
    assigned = stage.assign(regions, targets)
    assert assigned.labels_R is not None
    assert assigned.truth_R4 is not None
    assert assigned.labels_R.tolist() == [2, 5, 0, 0]
    assert assigned.truth_R4[:2].tolist() == [[10, 12, 30, 32], [12, 10, 32, 30]]
    assert torch.equal(assigned.boxes_R4, regions.boxes_R4)


def test_losses_are_cross_entropy_and_smooth_l1_over_all_regions(stage: Stage, regions: Regions) -> None:
    output = stage(regions)
    losses = stage.losses(regions, output)
    assert regions.labels_R is not None
    assert regions.truth_R4 is not None
    logits, deltas = output.logits_RK.detach().double().numpy(), output.deltas_R4.detach().numpy()
    wanted = encode_boxes(regions.boxes_R4, regions.truth_R4, stage.config.box_std).numpy()
    class_loss = box_loss = 0.0
    for row, label in enumerate(regions.labels_R.tolist()):
        class_loss += np.log(np.exp(logits[row]).sum()) - logits[row, label]
        for found, right in zip(deltas[row], wanted[row], strict=True):
            error = abs(found - right)
            box_loss += (label > 0) * (4.5 * error**2 if error < 1 / 9 else error - 1 / 18)
    assert 0 < int((regions.labels_R > 0).sum()) < len(regions)
    assert losses["class"].item() == pytest.approx(0.5 * class_loss / 7, rel=1e-5)
    assert losses["box"].item() == pytest.approx(0.5 * box_loss / 7, rel=1e-5)


def test_the_next_stage_gets_the_same_regions_moved(stage: Stage, regions: Regions) -> None:
    output = stage(regions)
    moved = stage.refine(regions, output)
    expected = decode_boxes(output.deltas_R4, regions.boxes_R4, stage.config.box_std).clamp(0, 64)
    torch.testing.assert_close(moved.boxes_R4, expected.detach())
    assert torch.equal(moved.image_R, regions.image_R)
    assert moved.logits_RK is output.logits_RK
    assert moved.labels_R is None
    assert moved.truth_R4 is None


def test_boxes_and_class_layer_pass_on_without_gradient_but_logits_with(
    stage: Stage, regions: Regions
) -> None:
    moved = stage.refine(regions, stage(regions))
    assert moved.weight_KD1 is not None
    assert moved.logits_RK is not None
    assert not moved.boxes_R4.requires_grad
    assert not moved.weight_KD1.requires_grad
    assert moved.logits_RK.requires_grad


def test_the_class_layer_passes_on_with_its_bias_as_last_column(stage: Stage, regions: Regions) -> None:
    output = stage(regions)
    rows = stage.refine(regions, output).weight_KD1
    assert rows is not None
    ones = torch.ones(len(regions), 1)
    torch.testing.assert_close(torch.cat([output.features_RD, ones], dim=1) @ rows.T, output.logits_RK)


def test_no_regions_give_losses_of_zero_that_can_be_propagated(stage: Stage, regions: Regions) -> None:
    none = regions[torch.zeros(0, dtype=torch.int64)]
    losses = stage.losses(none, stage(none))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.item() == 0
    assert len(stage.refine(none, stage(none))) == 0


def test_losses_are_in_float32_whatever_the_head_computes_in(stage: Stage, regions: Regions) -> None:
    output = stage(regions)
    half = StageOutput(output.features_RD, output.logits_RK.bfloat16(), output.deltas_R4.bfloat16(), {})
    for name, loss in stage.losses(regions, half).items():
        assert loss.dtype == torch.float32, name
    assert stage.refine(regions, half).boxes_R4.dtype == torch.float32


def test_a_shared_head_is_the_same_computation_and_has_no_weights_of_its_own(
    stage: Stage, regions: Regions
) -> None:
    shared = SharedHeadConfig().build(HeadInputs(6, 5, 3, NUM_CLASSES, previous=stage.head))
    pooled = stage.pool(regions)
    assert torch.equal(shared(pooled, regions)[0], stage.head(pooled, regions)[0])
    assert list(shared.parameters()) == []
    assert shared.state_dict() == {}


def test_a_shared_head_in_the_first_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="put a plain stage first"):
        SharedHeadConfig().build(HeadInputs(6, 5, 3, NUM_CLASSES))


def test_two_linear_layers_with_relu_are_the_plain_head() -> None:
    torch.manual_seed(0)
    head = TwoLinearConfig(4).build(HeadInputs(2, 1, 3, NUM_CLASSES))
    pooled = torch.randn(3, 2, 3, 3)
    regions = random_regions([0, 0, 0], 1, width=4)
    features, losses = head(pooled, regions)
    weights = {name: value.detach().numpy() for name, value in head.named_parameters()}
    hidden = np.maximum(pooled.numpy().reshape(3, 18) @ weights["fc6.weight"].T + weights["fc6.bias"], 0)
    expected = np.maximum(hidden @ weights["fc7.weight"].T + weights["fc7.bias"], 0)
    np.testing.assert_allclose(features.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert losses == {}
    assert isinstance(head, nn.Module)


def test_only_the_regions_of_the_highest_loss_of_each_image_are_learnt_from(
    stage: Stage, regions: Regions
) -> None:
    """Against loops: two hard regions an image (OHEM), one where an image has no more."""
    output = stage(regions)
    deltas = encode_boxes(regions.boxes_R4, regions.truth_R4, stage.config.box_std)
    both = []
    for row, label in enumerate(regions.labels_R.tolist()):
        class_loss = -output.logits_RK[row].log_softmax(dim=0)[label]
        off = (output.deltas_R4[row] - deltas[row]).abs()
        box_loss = torch.where(off < 1 / 9, off**2 * 9 / 2, off - 1 / 18).sum() * (label > 0)
        both.append((float(class_loss.detach()), float(box_loss.detach())))
    hard = [
        row
        for image in set(IMAGES)
        for row in sorted(
            (row for row in range(len(IMAGES)) if IMAGES[row] == image), key=lambda row: -sum(both[row])
        )[:2]
    ]
    assert len(hard) == 5
    stage.config = replace(stage.config, hard_regions=2)
    losses = stage.losses(regions, output)
    for place, name in enumerate(("class", "box")):
        expected = sum(both[row][place] for row in hard) / len(hard) * stage.config.loss_weight
        np.testing.assert_allclose(float(losses[name].detach()), expected, rtol=1e-5)


def test_more_hard_regions_than_there_are_is_all_of_them(stage: Stage, regions: Regions) -> None:
    output = stage(regions)
    expected = stage.losses(regions, output)
    stage.config = replace(stage.config, hard_regions=100)
    for name, loss in stage.losses(regions, output).items():
        torch.testing.assert_close(loss, expected[name])
    none = regions[torch.zeros(0, dtype=torch.int64)]
    assert all(float(loss.detach()) == 0 for loss in stage.losses(none, stage(none)).values())
