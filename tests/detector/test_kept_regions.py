"""A stage that keeps the regions of the one before: the same numbers, made once, and no box moved between."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_models import ARMS, NUM_CLASSES, detect, random_graph, random_image, squares, tiny_config
from torch import Tensor, nn

from detector.boxes import assign_boxes, decode_boxes
from detector.config import MaskConfig, ModelConfig, RetinaNetConfig
from detector.errors import ConfigError
from detector.explanation import explain
from detector.heads import LightHeadConfig
from detector.interfaces import HeadConfig, Regions, SharedHeadConfig, TwoLinearConfig
from detector.overrides import override
from detector.rcnn import RCNN, build_model
from detector.reasoning.relation_networks import RelationConfig
from detector.recipes import load_recipe
from detector.stage import StageOutput

STACKED = {name: heads for name, heads in ARMS.items() if heads}
every_head = pytest.mark.parametrize("heads", STACKED.values(), ids=STACKED.keys())
WORKING = ARMS["working"]


def with_regions(config: ModelConfig, regions: str, *, of: int = -1) -> ModelConfig:
    """The same detector, one of whose stages keeps its regions or not."""
    stages = list(config.stages)
    stages[of] = replace(stages[of], regions=regions)
    return replace(config, stages=tuple(stages))


def build(config: ModelConfig, *, still: bool = False) -> RCNN:
    """A detector with random weights; still: no stage but the last moves a box."""
    torch.manual_seed(0)
    model = build_model(config, NUM_CLASSES, random_graph())
    with torch.no_grad():
        for stage in list(model.stages)[: -1 if still else 0]:
            stage.box_layer.weight.zero_()
            stage.box_layer.bias.zero_()
    return model


def kept_and_refined(*heads: HeadConfig, **changes: object) -> tuple[RCNN, RCNN]:
    """Two detectors with the same weights whose first stage leaves boxes where they are."""
    config = tiny_config(*heads, score_threshold=0.05, **changes)
    kept, refined = (build(with_regions(config, regions), still=True) for regions in ("kept", "refined"))
    refined.load_state_dict(kept.state_dict())
    return kept, refined


def seen_by_stages(model: RCNN, run: Callable[[], object]) -> list[tuple[Regions, StageOutput]]:
    seen: list[tuple[Regions, StageOutput]] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    run()
    return seen


def count_calls(module: nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@every_head
def test_where_no_box_moves_kept_regions_train_as_refined_ones_do(heads: tuple[HeadConfig, ...]) -> None:
    """Losses and every gradient, those of the layers that both stages share included."""
    losses, gradients = [], []
    for model in kept_and_refined(*heads):
        torch.manual_seed(1)
        found = model(*squares(3))
        torch.stack(list(found.values())).sum().backward()
        losses.append(found)
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    assert gradients[0]["stages.0.head.fc6.weight"].any()


@every_head
def test_where_no_box_moves_kept_regions_are_detected_as_refined_ones_are(
    heads: tuple[HeadConfig, ...],
) -> None:
    images = [random_image(1), random_image(2, 48, 64)]
    found = [detect(model, images) for model in kept_and_refined(*heads)]
    assert len(found[0][0]["boxes"]) > 0
    torch.testing.assert_close(found[0], found[1])


@every_head
def test_regions_are_pooled_and_taken_through_the_linear_layers_once(heads: tuple[HeadConfig, ...]) -> None:
    kept, refined = kept_and_refined(*heads)
    for model, times in ((kept, 1), (refined, 2)):
        counted = count_calls(model.stages[0].pool.align), count_calls(model.stages[0].head.fc6)
        detect(model, [random_image(1)])
        assert [len(calls) for calls in counted] == [times, times]


def test_the_same_boxes_get_labels_anew_and_their_new_boxes_start_from_them() -> None:
    model = build(with_regions(tiny_config(*WORKING), "kept"))
    model.stages[1].config = replace(model.stages[1].config, foreground_iou=0.3)
    images, targets = squares(3)
    (first, before), (second, _) = seen_by_stages(model, lambda: model(images, targets))
    assert torch.equal(second.boxes_R4, first.boxes_R4)
    assert second.features_RD is before.features_RD
    assert second.logits_RK is before.logits_RK
    assert not torch.equal(second.labels_R, first.labels_R), "0.3 and 0.5 give other labels"
    for image, target in enumerate(targets):
        rows = second.image_R == image
        labels, _ = assign_boxes(second.boxes_R4[rows], target["boxes"], target["labels"], 0.3)
        assert torch.equal(second.labels_R[rows], labels)
    model.eval()
    with torch.no_grad():
        batch, _ = model.transform([random_image(1)])
        proposed, _ = model.proposals(batch, model.backbone(batch.tensors), None)
        _, outputs, regions = model.walk(proposed)
    moved = decode_boxes(outputs[1].deltas_R4, proposed.boxes_R4, model.stages[1].config.box_std).clamp(0, 64)
    torch.testing.assert_close(regions.boxes_R4, moved)
    assert regions.features_RD is None


def test_a_refined_stage_behind_a_kept_one_pools_its_own_boxes() -> None:
    config = tiny_config(SharedHeadConfig(), SharedHeadConfig())
    model = build(with_regions(config, "kept", of=1))
    calls = count_calls(model.stages[0].pool.align)
    (_, _), (_, second), (third, _) = seen_by_stages(model, lambda: detect(model, [random_image(1)]))
    assert len(calls) == 2
    assert third.features_RD is None
    moved = decode_boxes(second.deltas_R4, _boxes(model), model.stages[1].config.box_std).clamp(0, 64)
    torch.testing.assert_close(third.boxes_R4, moved)


def _boxes(model: RCNN) -> Tensor:
    with torch.no_grad():
        batch, _ = model.transform([random_image(1)])
        return model.proposals(batch, model.backbone(batch.tensors), None)[0].boxes_R4


def test_a_kept_stage_behind_a_reasoning_one_gets_all_of_its_features() -> None:
    model = build(with_regions(tiny_config(*WORKING, SharedHeadConfig()), "kept", of=2))
    _, (_, second), (third, output) = seen_by_stages(model, lambda: detect(model, [random_image(1)]))
    assert third.features_RD is second.features_RD
    assert output.features_RD.shape[1] == 16 + 8


def test_the_mask_branch_pools_for_itself() -> None:
    images, targets = squares(2)
    for target in targets:
        target["masks"] = torch.ones(len(target["boxes"]), 64, 64, dtype=torch.uint8)
    losses = []
    for model in kept_and_refined(*WORKING, mask=MaskConfig(roi_size=5, channels=8, convolutions=1)):
        torch.manual_seed(1)
        losses.append(model(images, targets)["mask"])
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("scores", ["mean_logits", "mean_on_last_boxes"])
def test_scores_of_both_stages_become_one_as_with_refined_regions(scores: str) -> None:
    found = [detect(model, [random_image(1)]) for model in kept_and_refined(*WORKING, class_scores=scores)]
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", ["working", "sgrn_working"])
def test_a_detection_is_explained_as_with_refined_regions(name: str) -> None:
    kept, refined = (
        explain(model.eval(), random_image(0), threshold=0.0, most_detections=2)
        for model in kept_and_refined(*ARMS[name])
    )
    assert len(kept.detections) == 2
    for one, other in zip(kept.detections, refined.detections, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-5)
        assert len(one.edges) == len(other.edges)
        torch.testing.assert_close(one.looks_M, other.looks_M)
    torch.testing.assert_close(kept.attention_C, refined.attention_C)


def test_an_image_alone_gives_the_detections_it_gives_in_a_batch() -> None:
    model = build(with_regions(tiny_config(*WORKING, score_threshold=0.13), "kept"))
    alone = detect(model, [random_image(1)])[0]
    assert len(alone["boxes"]) > 0
    torch.testing.assert_close(detect(model, [random_image(2), random_image(1)])[1], alone)


def test_half_precision_trains_with_finite_gradients() -> None:
    model = build(with_regions(tiny_config(*WORKING), "kept"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*squares(2))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("proposals", [None, RetinaNetConfig(((12, 16, 24),), (1.0,))])
def test_a_first_stage_has_nothing_to_keep(proposals: RetinaNetConfig | None) -> None:
    with pytest.raises(ConfigError, match=r"model\.stages\.0\.regions: found kept; expected refined in the"):
        with_regions(tiny_config(**({} if proposals is None else {"proposals": proposals})), "kept")


@pytest.mark.parametrize(
    "head", [TwoLinearConfig(16), RelationConfig(width=16, heads=4, key_width=4), LightHeadConfig(kernel=3)]
)
def test_a_head_that_reads_pooled_maps_is_refused(head: HeadConfig) -> None:
    with pytest.raises(ConfigError, match=r"model\.stages\.1\.regions: found kept with .*, which reads pool"):
        build(with_regions(tiny_config(head), "kept"))


def test_it_is_one_setting_of_a_recipe() -> None:
    config = override(load_recipe("sgrn_sample"), {"model.stages.1.regions": "kept"})
    assert config.model.stages[1].regions == "kept"
    with pytest.raises(ConfigError, match=r"model\.stages\.1\.regions"):
        override(load_recipe("sgrn_sample"), {"model.stages.1.regions": "moved"})
