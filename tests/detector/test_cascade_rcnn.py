"""Several stages on ever better boxes: thresholds, units of deltas, one score from three classifiers."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from golden_losses import WITHOUT_CHANCE, two_losses
from random_weights import num_parameters
from tiny_models import NUM_CLASSES, detect, random_image, random_regions, squares, tiny_config, tiny_model

from detector.config import ClassScores, ModelConfig
from detector.ensemble import combine_logits
from detector.interfaces import Regions, SharedHeadConfig, TwoLinear, TwoLinearConfig
from detector.overrides import override
from detector.rcnn import RCNN, build_model
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.recipes import load_recipe
from detector.stage import RegionPool, Stage, StageOutput

WAYS: tuple[ClassScores, ...] = get_args(ClassScores)


def cascade_config(**changes: object) -> ModelConfig:
    """The stages of the recipe on images of 64 px."""
    stages = load_recipe("cascade_sample").model.stages
    narrow = tuple(replace(stage, head=TwoLinearConfig(16)) for stage in stages)
    return tiny_config(stages=narrow, class_scores="mean_on_last_boxes", **changes)


def cascade(seed: int = 0, **changes: object) -> RCNN:
    torch.manual_seed(seed)
    return build_model(cascade_config(**changes), NUM_CLASSES, None)


def chain(stages: list[Stage], regions: Regions) -> tuple[list[Regions], list[StageOutput]]:
    """What each stage sees and gives, as in evaluation."""
    seen, outputs = [], []
    for stage in stages:
        seen.append(regions)
        outputs.append(stage(regions))
        regions = stage.refine(regions, outputs[-1])
    return seen, outputs


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def first_regions(count: int = 5) -> Regions:
    regions = random_regions([image % 2 for image in range(count)], 2, width=16, channels=48, num_maps=1)
    return replace(regions, logits_RK=None, weight_KD1=None)


def test_a_box_is_foreground_for_ever_fewer_stages_as_their_thresholds_rise() -> None:
    """One object of 100 x 100 px, boxes of the same top and width that overlap it by 0.55, 0.65 and 0.75."""
    stages = load_recipe("cascade_sample").model.stages
    heights = torch.tensor([45.0, 55, 65, 75])
    boxes = torch.stack([torch.tensor([0, 0, 100, float(height)]) for height in heights])
    target = {"boxes": torch.tensor([[0.0, 0, 100, 100]]), "labels": torch.tensor([3])}
    pool = RegionPool((4,), 3, 1)
    found = []
    for config in stages:
        stage = Stage(config, TwoLinear(48 * 9, 16), NUM_CLASSES, pool)
        regions = replace(first_regions(4), boxes_R4=boxes, image_R=torch.zeros(4, dtype=torch.int64))
        labels = stage.assign(regions, [target]).labels_R
        assert labels is not None
        found.append(labels.tolist())
    assert found == [[0, 3, 3, 3], [0, 0, 3, 3], [0, 0, 0, 3]]


def test_regions_that_a_stage_has_improved_become_foreground_of_the_next() -> None:
    """Each stage assigns anew: a box of IoU 0.55 that moves to 0.75 is an object for stages 2 and 3."""
    config = cascade_config()
    model = build_model(config, NUM_CLASSES, None)
    target = {"boxes": torch.tensor([[0.0, 0, 40, 40]]), "labels": torch.tensor([2])}
    regions = replace(
        first_regions(1), boxes_R4=torch.tensor([[0.0, 0, 40, 22]]), image_R=torch.zeros(1, dtype=torch.int64)
    )
    first, second, third = model.stages
    output = first(regions)
    grow = torch.tensor([[0.0, 4 / 22, 0, np.log(30 / 22)]]) / torch.tensor(first.config.box_std)
    moved = first.refine(regions, replace(output, deltas_R4=grow))
    torch.testing.assert_close(moved.boxes_R4, torch.tensor([[0.0, 0, 40, 30]]))
    labels = [stage.assign(part, [target]).labels_R for stage, part in ((first, regions), (second, moved))]
    assert [int(label) for label in labels if label is not None] == [2, 2]
    assert int(second.assign(regions, [target]).labels_R) == 0  # type: ignore[arg-type]
    assert int(third.assign(moved, [target]).labels_R) == 2  # type: ignore[arg-type]


def test_later_stages_measure_deltas_in_smaller_units_as_worked_by_hand() -> None:
    """dx = (50 - 48) / 20 and so on, divided by 0.1, 0.05 and 0.033: smaller units, larger numbers."""
    box, truth = (38.0, 30.0, 58.0, 70.0), (40.0, 33.0, 60.0, 73.0)
    plain = np.array([(50 - 48) / 20, (53 - 50) / 40, np.log(20 / 20), np.log(40 / 40)])
    for config in load_recipe("cascade_sample").model.stages:
        stage = Stage(config, TwoLinear(48 * 9, 16), NUM_CLASSES, RegionPool((4,), 3, 1))
        regions = replace(
            first_regions(1),
            boxes_R4=torch.tensor([box]),
            truth_R4=torch.tensor([truth]),
            labels_R=torch.tensor([1]),
        )
        output = StageOutput(torch.zeros(1, 16), torch.zeros(1, NUM_CLASSES + 1), torch.zeros(1, 4), {})
        wanted = plain / np.array(config.box_std)
        smooth_l1 = sum(0.5 * value**2 * 9 if value < 1 / 9 else value - 0.5 / 9 for value in np.abs(wanted))
        loss = stage.losses(regions, output)["box"].item()
        assert loss == pytest.approx(smooth_l1 * config.loss_weight, rel=1e-5)
        exact = replace(output, deltas_R4=torch.tensor(wanted, dtype=torch.float32)[None])
        sizes = replace(regions, sizes_B2=torch.tensor([[100, 100]] * 2))
        torch.testing.assert_close(stage.refine(sizes, exact).boxes_R4, torch.tensor([truth]))


def test_the_published_settings_of_the_three_stages() -> None:
    stages = load_recipe("cascade_rcnn_r50_fpn_coco").model.stages
    assert [stage.foreground_iou for stage in stages] == [0.5, 0.6, 0.7]
    assert [stage.loss_weight for stage in stages] == [1, 0.5, 0.25]
    assert [round(0.1 / stage.box_std[0]) for stage in stages] == [1, 2, 3]


@pytest.mark.parametrize(("num_classes", "millions"), [(1000, 91.2), (3000, 97.3), (445, 89.5)])
def test_parameters_are_those_of_the_papers_table(num_classes: int, millions: float) -> None:
    """Reasoning-RCNN, table 1, "Cascade RCNN"; the paper cuts off where we round."""
    recipe = load_recipe("cascade_rcnn_r101_fpn_vg1000")
    config = override(recipe, {"model.backbone.weights": "none", "model.backbone.norm": "batch"})
    with torch.device("meta"):
        model = build_model(config.model, num_classes, None)
    assert millions <= num_parameters(model) / 1e6 < millions + 0.1


@pytest.mark.parametrize("how", WAYS)
def test_scores_are_as_worked_by_hand(how: ClassScores) -> None:
    """Three classifiers; for the paper's way all of them look at the boxes that the last stage got."""
    model = cascade(seed=4).eval()
    stages = list(model.stages)
    with torch.no_grad():
        seen, outputs = chain(stages, first_regions())
        combined = combine_logits(how, stages, seen, outputs).softmax(dim=1).double().numpy()
        own = [output.logits_RK.double().numpy() for output in outputs]
        on_last = []
        for stage in stages:
            pooled = stage.pool(seen[-1])
            on_last.append(stage.class_layer(stage.head(pooled, seen[-1])[0]).double().numpy())
    expected = {
        "last": softmax(own[2]),
        "mean_logits": softmax((own[0] + own[1] + own[2]) / 3),
        "mean_on_last_boxes": (softmax(on_last[0]) + softmax(on_last[1]) + softmax(on_last[2])) / 3,
    }
    np.testing.assert_allclose(combined, expected[how], rtol=1e-4, atol=1e-6)
    others = [expected[other] for other in WAYS if other != how]
    assert all(np.abs(combined - other).max() > 1e-3 for other in others), "the example tells them apart"


@pytest.mark.parametrize("how", WAYS)
def test_the_scores_reach_the_detections(how: ClassScores) -> None:
    model = cascade(score_threshold=0.0)
    model.config = replace(model.config, class_scores=how)
    found = detect(model, [random_image(1)])[0]
    changed = replace(model.config, class_scores="last" if how != "last" else "mean_logits")
    model.config = changed
    assert not torch.allclose(found["scores"], detect(model, [random_image(1)])[0]["scores"])


@pytest.mark.parametrize("how", WAYS)
def test_a_reasoning_stage_between_others_can_be_averaged_too(how: ClassScores) -> None:
    """On the last boxes, a stage that reads logits gets those of the stage before it, on the same boxes."""
    heads = (ReasoningConfig(form="working", width=8, squeeze=6), SharedHeadConfig())
    model = tiny_model(heads[0], score_threshold=0.0, class_scores=how)
    assert len(detect(model, [random_image(1)])[0]["boxes"]) > 0


def test_one_stage_has_nothing_to_average() -> None:
    images = [random_image(1)]
    plain, averaged = (tiny_model(score_threshold=0.0, class_scores=how) for how in ("last", WAYS[2]))
    torch.testing.assert_close(detect(averaged, images), detect(plain, images))


def test_every_stage_has_weights_of_its_own() -> None:
    model = cascade()
    places = [weight.data_ptr() for stage in model.stages for weight in stage.parameters()]
    assert len(places) == len(set(places)) == 3 * 8


def test_losses_are_named_by_stage_and_an_image_without_objects_trains() -> None:
    model = cascade()
    images, targets = squares(2)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images, [targets[0], nothing])
    assert {name for name in losses if name.startswith("stage")} == {
        f"stage{number}_{kind}" for number in (1, 2, 3) for kind in ("class", "box")
    }
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_two_steps_of_training_give_the_losses_on_record() -> None:
    config = cascade_config(**WITHOUT_CHANCE)
    assert two_losses(build_model(config, NUM_CLASSES, None)) == pytest.approx([4.10627, 3.86851], rel=1e-3)
