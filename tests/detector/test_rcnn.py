"""Whole detectors: contract with the trainer, hard inputs, order of regions between stages, learning."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    ARMS,
    NUM_CLASSES,
    detect,
    random_graph,
    random_image,
    squares,
    tiny_config,
    tiny_model,
)
from torch import Tensor
from torchvision.ops import box_iou

from detector.boxes import assign_boxes, decode_boxes
from detector.config import BackboneConfig, ProposalConfig, StageConfig
from detector.errors import ConfigError
from detector.interfaces import HeadConfig, Regions, SharedHeadConfig, TwoLinearConfig
from detector.rcnn import RCNN, build_model
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.reasoning.relation_networks import LearnedRemovalConfig
from detector.recipes import load_recipe

STACKED = {name: heads for name, heads in ARMS.items() if heads}
every_arm = pytest.mark.parametrize("heads", ARMS.values(), ids=ARMS.keys())
every_stacked_arm = pytest.mark.parametrize("heads", STACKED.values(), ids=STACKED.keys())
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def train(model: RCNN, images: list[Tensor], targets: list[dict[str, Tensor]], steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    totals = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = torch.stack(list(model(images, targets).values())).sum()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


def seen_by_stages(model: RCNN, run: object) -> list[tuple[Regions, object]]:
    """The regions that each stage got and the output it made, while `run` ran the model."""
    seen: list[tuple[Regions, object]] = []
    hooks = [
        stage.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
        for stage in model.stages
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


@every_arm
def test_training_returns_finite_losses_named_by_stage(heads: tuple[HeadConfig, ...]) -> None:
    losses = tiny_model(*heads)(*squares(3))
    stages = [f"stage{number}_{name}" for number in range(1, len(heads) + 2) for name in ("class", "box")]
    assert set(losses) == {"rpn_objectness", "rpn_box", *stages}
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())


@every_arm
def test_evaluation_returns_boxes_labels_and_scores_best_first(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads, score_threshold=0.0, detections_per_image=20)
    for found in detect(model, [random_image(1), random_image(2)]):
        assert found["boxes"].shape == (20, 4)
        assert found["boxes"].min() >= 0
        assert found["boxes"].max() <= 64
        assert set(found["labels"].tolist()) <= set(range(1, NUM_CLASSES + 1))
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


@every_arm
def test_images_without_ground_truth_train(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads)
    images, targets = squares(2)
    for batch in ([targets[0], NOTHING], [NOTHING, NOTHING]):
        losses = model(images, batch)
        torch.stack(list(losses.values())).sum().backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["stage1_box"].item() == 0


@every_arm
def test_a_batch_without_regions_works(heads: tuple[HeadConfig, ...]) -> None:
    none = ProposalConfig(((12, 24),), (1.0,), 200, 200, 0, 0, 0.7, 32)
    model = tiny_model(*heads, proposals=none)
    losses = model(squares(2)[0], [NOTHING, NOTHING])
    torch.stack(list(losses.values())).sum().backward()
    assert losses["stage1_class"].item() == 0
    assert [len(found["boxes"]) for found in detect(model, squares(2)[0])] == [0, 0]


def test_one_image_without_regions_in_a_batch_works() -> None:
    model = tiny_model(
        *ARMS["working"], proposals=ProposalConfig(((12, 24),), (1.0,), 200, 200, 0, 0, 0.7, 32)
    )
    images, targets = squares(2)
    (first, _), _ = seen_by_stages(model, lambda: model(images, [NOTHING, targets[1]]))
    assert first.image_R.tolist() == [1, 1], "only the ground truth of the second image"


@every_arm
def test_loss_weights_scale_the_losses_of_their_stage(heads: tuple[HeadConfig, ...]) -> None:
    images, targets = squares(2)
    model = tiny_model(*heads)
    torch.manual_seed(5)
    plain = model(images, targets)
    last = model.stages[-1]
    last.config = replace(last.config, loss_weight=last.config.loss_weight * 3)
    torch.manual_seed(5)
    weighted = model(images, targets)
    for name, loss in plain.items():
        factor = 3 if name.startswith(f"stage{len(model.stages)}") else 1
        assert weighted[name].item() == pytest.approx(loss.item() * factor, rel=1e-4), name


@every_stacked_arm
def test_the_second_stage_gets_the_regions_of_the_first_in_the_same_order(
    heads: tuple[HeadConfig, ...],
) -> None:
    """f and f' of a row belong to one region: boxes, logits and labels are those of the same row before."""
    model = tiny_model(*heads)
    images, targets = squares(3)
    (first, output), (second, _) = seen_by_stages(model, lambda: model(images, targets))
    assert first.labels_R is not None
    assert second.labels_R is not None
    assert int((first.labels_R > 0).sum()) > 2
    assert torch.equal(second.image_R, first.image_R)
    assert second.logits_RK is output.logits_RK
    moved = decode_boxes(output.deltas_R4, first.boxes_R4, (0.1, 0.1, 0.2, 0.2)).clamp(0, 64)
    torch.testing.assert_close(second.boxes_R4, moved.detach())
    for image, target in enumerate(targets):
        rows = second.image_R == image
        labels, _ = assign_boxes(second.boxes_R4[rows], target["boxes"], target["labels"], 0.6)
        assert torch.equal(second.labels_R[rows], labels)


def test_ground_truth_boxes_are_regions_of_the_first_stage_and_so_have_its_logits() -> None:
    model = tiny_model(*ARMS["working"])
    images, targets = squares(3)
    (first, _), (second, _) = seen_by_stages(model, lambda: model(images, targets))
    for image, target in enumerate(targets):
        boxes = first.boxes_R4[first.image_R == image]
        for box in target["boxes"]:
            assert (boxes == box).all(dim=1).any()
    assert second.logits_RK is not None
    assert len(second.logits_RK) == len(first.boxes_R4)


def test_no_ground_truth_is_added_in_evaluation() -> None:
    model = tiny_model()
    ((regions, _),) = seen_by_stages(model, lambda: detect(model, squares(2)[0]))
    assert regions.labels_R is None
    assert len(regions) == 80


def test_regions_are_sampled_to_the_number_and_share_asked_for() -> None:
    model = tiny_model(regions_per_image=8, positive_fraction=0.25)
    images, targets = squares(4)
    ((regions, _),) = seen_by_stages(model, lambda: model(images, targets))
    assert torch.bincount(regions.image_R).tolist() == [8, 8, 8, 8]
    assert regions.labels_R is not None
    assert all(int((regions.labels_R[regions.image_R == image] > 0).sum()) <= 2 for image in range(4))


@every_arm
def test_an_image_alone_gives_the_detections_it_gives_in_a_batch(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads, score_threshold=0.13)
    one, other = random_image(1), random_image(2)
    alone, together = detect(model, [one])[0], detect(model, [one, other])[0]
    assert len(alone["boxes"]) > 0
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value)


def test_boxes_are_in_pixels_of_the_image_as_given() -> None:
    model = tiny_model(score_threshold=0.0)
    small = random_image(1)
    large = torch.nn.functional.interpolate(small[None], scale_factor=2, mode="nearest")[0]
    wide = torch.nn.functional.pad(small, (0, 64))
    found = detect(model, [large])[0]["boxes"]
    assert found[:, 2:].max() > 64
    assert found.max() <= 128
    widest = detect(model, [wide])[0]["boxes"]
    assert widest[:, 2].max() > 64
    assert widest[:, 3].max() <= 64


@every_stacked_arm
def test_permuting_the_classes_of_everything_leaves_the_detections_unchanged(
    heads: tuple[HeadConfig, ...],
) -> None:
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    rows = torch.cat([torch.tensor([0]), order + 1])
    model = tiny_model(*heads, score_threshold=0.13)
    train(model, *squares(4), steps=3)
    permuted = build_model(model.config, NUM_CLASSES, random_graph()[order][:, order])
    state = {
        name: value[rows] if "class_layer" in name else value
        for name, value in model.state_dict().items()
        if not name.endswith("graphs")
    }
    assert permuted.load_state_dict(state, strict=False).unexpected_keys == []
    images = squares(2, seed=3)[0]
    for before, after in zip(detect(model, images), detect(permuted, images), strict=True):
        assert len(before["boxes"]) > 0
        torch.testing.assert_close(after["scores"], before["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after["boxes"], before["boxes"], rtol=1e-4, atol=1e-3)
        assert rows[after["labels"]].tolist() == before["labels"].tolist()


def test_the_graph_is_among_the_weights_so_that_a_run_needs_no_graph_file() -> None:
    model = tiny_model(*ARMS["working"])
    loaded = build_model(model.config, NUM_CLASSES, torch.zeros(NUM_CLASSES, NUM_CLASSES))
    loaded.load_state_dict(model.state_dict())
    images = squares(1)[0]
    torch.testing.assert_close(detect(loaded, images), detect(model, images))


@every_arm
def test_weights_go_through_safetensors_and_back(heads: tuple[HeadConfig, ...], tmp_path: Path) -> None:
    model, other = tiny_model(*heads, seed=1), tiny_model(*heads, seed=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = squares(1)[0]
    torch.testing.assert_close(detect(other, images), detect(model, images))


def test_weights_of_the_plain_detector_fit_the_first_stage_of_the_reasoning_one() -> None:
    plain, reasoning = tiny_model(seed=1), tiny_model(*ARMS["working"], seed=2)
    keys = reasoning.load_state_dict(plain.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert all(name.startswith("stages.1.") for name in keys.missing_keys)


def test_a_copied_model_shares_its_head_with_itself_and_not_with_the_original() -> None:
    model = tiny_model(SharedHeadConfig())
    copied = copy.deepcopy(model)
    train(copied, *squares(2), steps=1)
    _, (_, second) = seen_by_stages(copied, lambda: copied(*squares(2)))
    assert torch.isfinite(second.features_RD).all()
    weight, copied_weight = (m.stages[0].head.fc6.weight for m in (model, copied))
    assert not torch.equal(weight, copied_weight)
    shared = copied.stages[1].head._owned_elsewhere[0]
    assert shared is copied.stages[0].head


@every_arm
def test_the_same_seed_gives_the_same_losses(heads: tuple[HeadConfig, ...]) -> None:
    runs = []
    for _ in range(2):
        model = tiny_model(*heads)
        torch.manual_seed(7)
        runs.append(train(model, *squares(2), steps=2))
    assert runs[0] == runs[1]


@every_arm
def test_training_under_autocast_stays_finite(heads: tuple[HeadConfig, ...]) -> None:
    model = tiny_model(*heads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*squares(2))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = detect(model, squares(1)[0])
    assert found[0]["boxes"].dtype == torch.float32


def test_proposals_keep_their_precision_under_autocast() -> None:
    """bfloat16 has 8 bits: coordinates above 256 px would be whole multiples of 2."""
    model = tiny_model(min_size=512, max_size=512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ((regions, _),) = seen_by_stages(model, lambda: detect(model, [random_image(1, 512, 512)]))
    far = regions.boxes_R4[regions.boxes_R4 > 256]
    assert len(far) > 10
    assert not torch.equal(far, far.bfloat16().float())


def test_diagnostics_carry_the_number_of_their_stage() -> None:
    model = tiny_model(*ARMS["working"])
    model(*squares(2))
    assert set(model.diagnostics()) == {"stage2_context_sd_ratio", "stage2_attention_max"}
    assert tiny_model().diagnostics() == {}


def test_three_thousand_classes_pass_through_evaluation_and_training() -> None:
    torch.manual_seed(0)
    config = tiny_config(*ARMS["working"], score_threshold=0.0, detections_per_image=50)
    model = build_model(config, 3000, random_graph(3000))
    assert all(torch.isfinite(loss) for loss in model(*squares(2)).values())
    assert [len(found["boxes"]) for found in detect(model, squares(2)[0])] == [50, 50]


@pytest.mark.parametrize("heads", [ARMS["faster"], ARMS["working"]], ids=["faster", "working"])
def test_a_few_steps_overfit_a_few_images(heads: tuple[HeadConfig, ...]) -> None:
    images, targets = squares(4)
    model = tiny_model(*heads, score_threshold=0.5)
    totals = train(model, images, targets, steps=150)
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])
    hits = 0
    for found, target in zip(detect(model, images), targets, strict=True):
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            near = ((found["boxes"] - box).abs() < 6).all(dim=1)
            hits += int(label in found["labels"][near])
    assert hits >= 6, "of 8 squares"


def test_parts_that_do_not_fit_together_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match='found "resnet19"; expected one of resnet18'):
        tiny_model(backbone=BackboneConfig("resnet19"))
    with pytest.raises(ConfigError, match="found 6; expected 0 to 5"):
        tiny_model(backbone=BackboneConfig("resnet18", trainable_layers=6))
    with pytest.raises(ConfigError, match="found imagenet for"):
        tiny_model(backbone=BackboneConfig("tiny", weights="imagenet"))
    with pytest.raises(ConfigError, match="found 5 levels; expected 1"):
        tiny_model(proposals=ProposalConfig())
    with pytest.raises(ConfigError, match="found none; expected one or more"):
        build_model(replace(tiny_config(), stages=()), NUM_CLASSES, None)
    with pytest.raises(ConfigError, match="put a plain stage first"):
        build_model(
            replace(tiny_config(), stages=(StageConfig(ReasoningConfig()),)), NUM_CLASSES, random_graph()
        )
    with pytest.raises(ConfigError, match="give --graph"):
        build_model(tiny_config(ReasoningConfig()), NUM_CLASSES, None)
    retinanet = load_recipe("retinanet_sample").model
    with pytest.raises(ConfigError, match="a learned one without region features"):
        build_model(replace(retinanet, duplicate_removal=LearnedRemovalConfig()), NUM_CLASSES, None)


def test_a_detector_without_graph_needs_none() -> None:
    build_model(tiny_config(TwoLinearConfig(8)), NUM_CLASSES, None)


def test_proposals_overlap_less_in_evaluation_where_a_recipe_says_so() -> None:
    """Reasoning-RCNN, implementation details: proposals of the tests are those after NMS at 0.6."""
    model = tiny_model()
    most: dict[float, float] = {}
    for limit in (0.9, 0.3):
        proposals = replace(model.config.proposals, nms_iou=0.9, nms_iou_test=limit)
        model.proposals.config = proposals
        ((regions, _),) = seen_by_stages(model, lambda: detect(model, [random_image(0)]))
        boxes = regions.boxes_R4
        overlap = box_iou(boxes, boxes).fill_diagonal_(0)
        most[limit] = overlap.max().item()
    assert most[0.3] <= 0.3 < most[0.9]


@pytest.mark.parametrize("average", [False, True])
def test_scores_are_of_the_last_stage_or_of_the_mean_over_stages(average: bool) -> None:
    """Averaged are the logits, as in the official code of Reasoning-RCNN, not the probabilities."""
    how = "mean_logits" if average else "last"
    model = tiny_model(*ARMS["stacked"], score_threshold=0.0, class_scores=how)
    found: list[Tensor] = []
    seen = seen_by_stages(model, lambda: found.append(detect(model, [random_image(0)])[0]["scores"]))
    logits = torch.stack([output.logits_RK for _, output in seen])
    assert not torch.allclose(logits[0], logits[1])
    expected = (logits.mean(dim=0) if average else logits[-1]).softmax(dim=1)[:, 1:]
    assert len(found[0]) > 0
    assert torch.isclose(found[0][:, None], expected.flatten(), rtol=1e-5, atol=0).any(dim=1).all()
