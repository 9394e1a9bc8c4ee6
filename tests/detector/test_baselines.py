"""The baselines from data to COCO numbers: trained for a few steps on the sample world, loaded, evaluated."""

from pathlib import Path

import pytest
import torch

from detector.config import Config
from detector.evaluate import evaluate_run
from detector.overrides import override
from detector.recipes import load_recipe
from detector.train import train

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
FULL_SIZE = (
    "faster_rcnn_r50_c4_coco",
    "light_head_r101_coco",
    "faster_rcnn_r50_fpn_dcn_coco",
    "relation_r50_c5_coco",
)


def quick(name: str) -> Config:
    """A recipe for two steps: the full-size ones on a small network and small images."""
    values: dict[str, object] = {"train.epochs": 1, "train.batch_size": 2, "train.workers": 0}
    if name in FULL_SIZE:
        values |= {
            "model.backbone.name": "resnet18",
            "model.backbone.weights": "none",
            "model.backbone.norm": "group",
            "model.min_size": 128,
            "model.proposals.post_nms_train": 50,
            "model.proposals.post_nms_test": 20,
            "model.proposals.pre_nms_train": 200,
            "model.regions_per_image": 8,
            "model.roi_size": 7,
            "train.lr": 0.001,
        }
    return override(load_recipe(name), values)


@pytest.mark.parametrize("name", ["cascade_sample", "light_head_sample", *FULL_SIZE])
def test_a_baseline_trains_and_comes_back_from_its_folder_with_the_same_numbers(
    name: str, tmp_path: Path
) -> None:
    config = quick(name)
    run = tmp_path / "run"
    trained = train(config, SAMPLE, run, max_images=4, device="cpu", quiet=True)
    assert torch.tensor(list(trained["metrics"].values())).isfinite().all()
    assert evaluate_run(run, SAMPLE, max_images=4, device="cpu").summary()["metrics"] == trained["metrics"]
