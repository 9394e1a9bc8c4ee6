"""What a model costs, counted by hand; what a recipe is compared with; the command."""

import json
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from detector.backbone_recipes import load_backbone
from detector.classifier import build_classifier
from detector.cli import main
from detector.config import ModelConfig
from detector.cost import base_of, cost_of_recipe, stacked_of
from detector.deformable import DeformableConvolution
from detector.measuring import LiveBytes, Stopwatch, count_weights, measure_times, measure_work
from detector.rcnn import build_model
from detector.recipes import load_recipe

CPU = torch.device("cpu")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_multiply_adds_weights_and_bytes_of_a_small_network_by_hand() -> None:
    """3 x 3 from 2 to 4 channels on 6 x 5 cells, then 120 to 7: 2,160 and 840; 4 bytes a number."""
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(120, 7))
    images = torch.zeros(1, 2, 6, 5)
    work = measure_work(network, partial(network, images))
    assert work.multiply_adds == 6 * 5 * 4 * 2 * 9 + 120 * 7
    assert work.weights == (4 * 2 * 9 + 4) + (120 * 7 + 7)
    assert work.peak_bytes == 4 * (work.weights + 120 + 7)


def test_bytes_are_those_alive_at_once_and_a_view_is_nothing_new() -> None:
    with LiveBytes() as live, torch.no_grad():
        kept = torch.ones(1000)
        for _ in range(5):
            passing = (kept + 1).view(10, 100)
            del passing
        both = kept + 1
    assert live.peak == 2 * 4000
    assert len(both) == 1000


def test_a_deformable_convolution_is_counted_with_its_offsets() -> None:
    layer = DeformableConvolution(nn.Conv2d(4, 6, 3, padding=1, bias=False))
    work = measure_work(layer, partial(layer, torch.zeros(1, 4, 8, 8)))
    assert work.multiply_adds == 64 * 9 * 4 * (6 + 18)


def test_frozen_normalisation_counts_like_one_that_trains() -> None:
    frozen, trained = (
        build_classifier(replace(load_backbone("resnet18"), norm=norm), 1000) for norm in ("frozen", "batch")
    )
    assert count_weights(frozen) == count_weights(trained) == 11_689_512


#: Products of state and projection, there and back, in two units of 28 x 28 and three of 14 x 14 cells.
GLORE_PRODUCTS = 2 * (2 * 256 * 128 * 28 * 28) + 3 * (2 * 512 * 256 * 14 * 14)


@pytest.mark.parametrize(
    ("name", "most", "uncounted"),
    [("glore_resnext50", 5.86e9, GLORE_PRODUCTS), ("vcrnet_resnext50", 4.26e9, 0)],
)
def test_blocks_have_the_multiply_adds_that_the_paper_prints(name: str, most: float, uncounted: int) -> None:
    """ResNeXt-50 at 224 px: 5.86 and 4.26 GFLOPs, 4.24 without blocks (VCRNet, table 1).

    GloRe's number is that of its convolutions: products of two maps are not in it. With them it is 6.10.
    """
    found = {}
    for blocks in ((), load_backbone(name).blocks):
        network = build_classifier(replace(load_backbone(name), blocks=blocks), 1000).eval()
        run = partial(network, torch.zeros(1, 3, 224, 224))
        found[bool(blocks)] = measure_work(network, run).multiply_adds
    assert found[False] == pytest.approx(4.24e9, rel=0.005)
    assert found[False] < found[True]
    assert most - 0.03e9 < found[True] - uncounted < most + 0.005e9


def test_times_are_medians_and_the_stopwatch_sees_its_modules_alone() -> None:
    class Waiting(nn.Module):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

        def forward(self, value: int) -> int:
            time.sleep(self.seconds)
            return value

    one, two = Waiting(0.02), Waiting(0.01)
    run = partial(nn.Sequential(one, two), 0)
    ((total, part),) = measure_times([run], [Stopwatch([two], CPU)], CPU, 3)
    assert 30 <= total < 60
    assert 10 <= part < 25
    assert part < total


PAIRS = [
    ("reasoning_rcnn_sample", "faster_rcnn_sample"),
    ("cascade_sample", "faster_rcnn_sample"),
    ("glore_sample", "faster_rcnn_sample"),
    ("se_sample", "faster_rcnn_sample"),
    ("non_local_mask_rcnn_r50_fpn_coco", "mask_rcnn_r50_fpn_coco"),
    ("reasoning_rcnn_r101_fpn", "faster_rcnn_r101_fpn"),
    ("reasoning_rcnn_r101_c4_coco", "faster_rcnn_r101_c4_coco"),
    ("faster_rcnn_r50_fpn_dcn_coco", "faster_rcnn_r50_fpn"),
    ("light_head_sample", "light_head_sample"),
]


@pytest.mark.parametrize(("name", "base"), PAIRS)
def test_the_base_is_the_recipe_without_what_its_paper_adds(name: str, base: str) -> None:
    assert base_of(load_recipe(name).model) == load_recipe(base).model


def test_a_papers_stage_has_an_equally_stacked_plain_one_and_others_have_none() -> None:
    stacked = stacked_of(load_recipe("reasoning_rcnn_sample").model)
    assert stacked == load_recipe("stacked_plain_sample").model
    assert stacked_of(load_recipe("cascade_sample").model) is None
    assert stacked_of(load_recipe("faster_rcnn_sample").model) is None


@pytest.mark.parametrize(
    ("recipe", "num_classes", "percent"),
    [("reasoning_rcnn_r101_fpn", 80, 2), ("reasoning_rcnn_r101_fpn", 3000, 8)],
)
def test_reasoning_adds_few_weights(recipe: str, num_classes: int, percent: float) -> None:
    """At most 2 % for COCO; for 3,000 classes most of it is the second class layer."""

    def weights(config: ModelConfig) -> int:
        config = replace(config, backbone=replace(config.backbone, weights="none"))
        with torch.device("meta"):
            return count_weights(build_model(config, num_classes, torch.zeros(num_classes, num_classes)))

    config = load_recipe(recipe).model
    base = weights(base_of(config))
    assert 0 < 100 * (weights(config) - base) / base <= percent


def test_a_recipe_is_measured_with_its_base_and_its_stacked_twin() -> None:
    result = cost_of_recipe("reasoning_rcnn_sample", num_classes=20, repeats=1, device="cpu")
    base, stacked, full = result["models"]
    assert [row["name"] for row in result["models"]] == ["base", "stacked", "reasoning_rcnn_sample"]
    assert result["regions"] == 60
    assert base["multiply_adds"] < stacked["multiply_adds"] < full["multiply_adds"]
    assert min(row["region_milliseconds"] for row in result["models"]) > 0
    added = result["added_percent"]
    expected = 100 * (full["weights"] - base["weights"]) / base["weights"]
    assert added["weights"] == pytest.approx(expected, abs=0.01)
    regions = full["region_milliseconds"] - base["region_milliseconds"]
    assert added["region_milliseconds"] == pytest.approx(100 * regions / base["milliseconds"], abs=0.01)


def test_another_recipe_can_be_the_base() -> None:
    result = cost_of_recipe(
        "cascade_sample", base="light_head_sample", num_classes=3, repeats=1, device="cpu"
    )
    assert len(result["models"]) == 2
    assert "region_milliseconds" in result["added_percent"]


def test_settings_of_a_recipe_hold_for_its_base_too() -> None:
    few = {"model.proposals.post_nms_test": 7}
    result = cost_of_recipe("stacked_plain_sample", settings=few, num_classes=3, repeats=1, device="cpu")
    assert result["regions"] == 7
    all_regions = cost_of_recipe("stacked_plain_sample", num_classes=3, repeats=1, device="cpu")
    for row, other in zip(result["models"], all_regions["models"], strict=True):
        assert row["multiply_adds"] < other["multiply_adds"]


def test_the_command_prints_a_table_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--repeats", 1, "--device", "cpu")
    assert call("cost", "--recipe", "reasoning_rcnn_sample", "--classes", 5, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 classes, 128 px, 60 regions, cpu")
    assert [line.split()[0] for line in lines[2:5]] == ["base", "stacked", "reasoning_rcnn_sample"]
    assert lines[-1].startswith("added time for regions beyond stacked: ")
    assert call("cost", "--backbone", "glore_tiny", "--size", 64, *options, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["size"] == 64
    assert result["added_percent"]["weights"] > 0


def test_what_cannot_be_measured_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cost") == 2
    assert "give --recipe or --backbone, one of them" in capsys.readouterr().err
    assert call("cost", "--backbone", "tiny", "--set", "x=1") == 2
    assert "--base and --set are for recipes" in capsys.readouterr().err
    assert call("cost", "--recipe", "cascade_sample", "--set", "model.min_sise=1") == 2
    assert "did you mean model.min_size" in capsys.readouterr().err
    assert call("cost", "--recipe", "cascade_samples") == 2
    assert "did you mean cascade_sample" in capsys.readouterr().err
