"""Kept regions give what the whole detector would compute on them, and stages train on nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_data
from tiny_models import random_graph, tiny_config

from detector.annotations import Annotations, load_annotations
from detector.config import StageConfig, TrainConfig
from detector.data import ImageDataset
from detector.errors import ConfigError, InputError, TrainingError
from detector.frozen_trunk import (
    check_memory,
    detect_kept,
    keep_regions,
    lay_pool,
    load_kept,
    save_kept,
    start_stages,
    take_images,
    train_stages,
    walk_kept,
)
from detector.heads import ImageContextConfig
from detector.interfaces import SharedHeadConfig
from detector.rcnn import RCNN, build_model
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.reasoning.relation_networks import RelationConfig

SETTINGS = TrainConfig(epochs=2, batch_size=4, optimizer="adamw", lr=1e-3, schedule="onecycle")
WORKING = ReasoningConfig(form="working", width=8, squeeze=6)


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return load_annotations(write_data(tmp_path / "data", train=6), "train")


def on_same_regions(*heads: object, seed: int = 0) -> RCNN:
    """A model whose second stage has the threshold and scale of the first, as every arm has.

    Random weights are sure of nothing, so every score is a detection.
    """
    config = tiny_config(score_threshold=0.0)
    torch.manual_seed(seed)
    stages = (*config.stages, *(StageConfig(head) for head in heads))
    return build_model(replace(config, stages=stages), 3, random_graph(3))


def test_kept_regions_give_the_logits_of_the_detector_run_in_full(annotations: Annotations) -> None:
    model = on_same_regions(WORKING).eval()
    kept = keep_regions(model, annotations, training=False)
    images = [1, 4]
    dataset = ImageDataset(annotations, torch.tensor(images).numpy())
    with torch.no_grad():
        pixels = [dataset[number][0].float() / 255 for number in range(2)]
        batch, _ = model.transform(pixels)
        whole, _ = model.proposals(batch, model.backbone(batch.tensors), None)
        first_output = model.stages[0](whole)
        refined = model.stages[0].refine(whole, first_output)
        second_output = model.stages[1](replace(refined, boxes_R4=whole.boxes_R4))
        regions, pooled_RCPP = take_images(kept, images)
        lay_pool(model)
        (_, _, first), (_, _, second) = walk_kept(model, regions, pooled_RCPP)
    torch.testing.assert_close(regions.boxes_R4, whole.boxes_R4)
    torch.testing.assert_close(first.logits_RK, first_output.logits_RK)
    torch.testing.assert_close(second.logits_RK, second_output.logits_RK)
    torch.testing.assert_close(second.deltas_R4, second_output.deltas_R4)


def test_of_one_stage_the_detections_are_those_of_the_detector(annotations: Annotations) -> None:
    model = on_same_regions().eval()
    kept = keep_regions(model, annotations, training=False)
    dataset = ImageDataset(annotations, annotations.usable_images())
    with torch.no_grad():
        expected = [model([dataset[image][0].float() / 255])[0] for image in range(len(dataset))]
    found, milliseconds = detect_kept(model, kept, annotations)
    assert len(found) == sum(len(output["scores"]) for output in expected) > 0
    scores = torch.cat([output["scores"] for output in expected])
    boxes = torch.cat([output["boxes"] for output in expected])
    torch.testing.assert_close(torch.from_numpy(found.score_N), scores)
    torch.testing.assert_close(torch.from_numpy(found.boxes_xyxy), boxes)
    assert milliseconds > 0


def test_what_is_kept_comes_back_from_its_file_to_the_bit(annotations: Annotations, tmp_path: Path) -> None:
    kept = keep_regions(on_same_regions(), annotations, training=True)
    save_kept(kept, tmp_path / "kept.safetensors")
    loaded = load_kept(tmp_path / "kept.safetensors")
    for one, other in zip(take_images(kept, [3, 0]), take_images(loaded, [3, 0]), strict=True):
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            for name in ("boxes_R4", "image_R", "sizes_B2", "labels_R", "truth_R4", "proposed_R"):
                assert torch.equal(getattr(one, name), getattr(other, name))
            assert torch.equal(one.context.maps[0], other.context.maps[0])


def test_training_regions_are_sampled_with_their_truth_and_evaluation_regions_are_not(
    annotations: Annotations,
) -> None:
    model = on_same_regions()
    sampled = keep_regions(model, annotations, training=True).regions
    proposed = keep_regions(model, annotations, training=False).regions
    assert sampled.labels_R is not None
    assert (torch.bincount(sampled.image_R) <= 16).all()
    assert (torch.bincount(sampled.image_R[sampled.labels_R > 0], minlength=6) > 0).all()
    assert sampled.proposed_R is not None
    assert proposed.labels_R is None


def test_nothing_to_learn_from_is_one_clear_line(annotations: Annotations) -> None:
    empty = annotations.select(np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError, match="found no image with a box to learn from"):
        keep_regions(on_same_regions(), empty, training=True)


def test_images_of_two_sizes_make_a_batch_in_which_none_sees_the_margin_of_another(
    annotations: Annotations,
) -> None:
    model = on_same_regions(WORKING).eval()
    kept = keep_regions(model, annotations, training=False)
    cut = tuple(level[:, :8] for level in kept.maps[0])
    sizes_B2 = kept.regions.sizes_B2.clone()
    sizes_B2[0, 0] = 32
    kept = replace(kept, maps=(cut, *kept.maps[1:]), regions=replace(kept.regions, sizes_B2=sizes_B2))
    lay_pool(model)
    with torch.no_grad():
        alone = [list(walk_kept(model, *take_images(kept, [image])))[1][2].logits_RK for image in (0, 1)]
        together = list(walk_kept(model, *take_images(kept, [0, 1])))[1][2].logits_RK
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("head", [SharedHeadConfig(), WORKING, ImageContextConfig(6)], ids=repr)
def test_a_later_stage_starts_with_the_class_and_box_layer_of_the_trained_one(head: object) -> None:
    trained, model = on_same_regions(seed=5), on_same_regions(head)
    drawn = {name: tensor.clone() for name, tensor in model.stages[1].state_dict().items()}
    start_stages(model, trained)
    for name in ("class_layer", "box_layer"):
        first, second = (getattr(stage, name) for stage in (trained.stages[0], model.stages[1]))
        width = first.weight.shape[1]
        assert torch.equal(second.weight[:, :width], first.weight)
        assert torch.equal(second.bias, first.bias)
        assert torch.equal(second.weight[:, width:], drawn[f"{name}.weight"][:, width:])
    assert torch.equal(model.stages[0].head.fc6.weight, trained.stages[0].head.fc6.weight)


def test_a_head_with_linear_layers_of_its_own_starts_with_the_trained_ones() -> None:
    trained, model = on_same_regions(seed=5), on_same_regions(RelationConfig(width=16, heads=2, key_width=4))
    start_stages(model, trained)
    assert torch.equal(model.stages[1].head.fc7.weight, trained.stages[0].head.fc7.weight)


def test_a_head_of_another_width_starts_with_its_own_layers() -> None:
    trained, model = on_same_regions(seed=5), on_same_regions(RelationConfig(width=8, heads=2, key_width=4))
    drawn = model.stages[1].head.fc6.weight.clone()
    start_stages(model, trained)
    assert torch.equal(model.stages[1].head.fc6.weight, drawn)


def test_heads_that_differ_in_one_part_start_alike_in_all_others() -> None:
    trained, full = on_same_regions(seed=5), on_same_regions(WORKING)
    without = on_same_regions(replace(WORKING, attention="off"))
    assert not torch.equal(without.stages[1].head.transform.weight, full.stages[1].head.transform.weight)
    start_stages(full, trained, full)
    start_stages(without, trained, full)
    own = full.state_dict()
    for name, tensor in without.state_dict().items():
        assert torch.equal(tensor, own[name]), name


def test_only_stages_train_and_the_same_seed_gives_the_same_weights(annotations: Annotations) -> None:
    model = on_same_regions(WORKING)
    kept = keep_regions(model, annotations, training=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    again, other = on_same_regions(WORKING), on_same_regions(WORKING)
    train_stages(model, kept, SETTINGS)
    train_stages(again, kept, SETTINGS)
    train_stages(other, kept, replace(SETTINGS, seed=1))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, _ in model.named_parameters() if name.startswith("stages.")}
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(model.stages[0].head.fc6.weight, other.stages[0].head.fc6.weight)


def test_training_lowers_the_losses_of_both_stages(annotations: Annotations) -> None:
    model = on_same_regions(SharedHeadConfig())
    kept = keep_regions(model, annotations, training=True)

    def losses() -> list[float]:
        lay_pool(model)
        with torch.no_grad():
            seen = list(walk_kept(model, *take_images(kept, range(6))))
        return [float(stage.losses(regions, output)["class"]) for stage, regions, output in seen]

    before = losses()
    train_stages(model, kept, replace(SETTINGS, epochs=30, lr=5e-3))
    assert all(after < 0.9 * one for after, one in zip(losses(), before, strict=True))


def test_a_loss_that_is_not_finite_is_one_clear_line(annotations: Annotations) -> None:
    model = on_same_regions()
    kept = keep_regions(model, annotations, training=True)
    wild = replace(
        SETTINGS, optimizer="sgd", lr=1e30, schedule="constant", warmup_iterations=0, clip_norm=0.0
    )
    with pytest.raises(TrainingError, match="step 2: the loss is"):
        train_stages(model, kept, wild)


def test_more_than_fits_into_memory_is_refused_after_one_image(annotations: Annotations) -> None:
    check_memory(10**6, 100, annotations)
    with pytest.raises(ConfigError, match="regions of 1000 images take 1000000 GB; expected at most"):
        check_memory(10**12, 1000, annotations)
