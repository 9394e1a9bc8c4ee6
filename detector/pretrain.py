"""Pre-training: a backbone with its context blocks learns to classify pictures before it learns to detect.

A network changed by GloRe or VCRNet has no published weights. The run folder's model.safetensors holds them
under the names that a detector's backbone knows: `--set model.backbone.weights=RUN/model.safetensors`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.checkpoint import (
    CLASSES_FILE,
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    RUN_FILES,
    save_weights,
)
from detector.classifier import build_classifier
from detector.config import BackboneConfig, TrainConfig
from detector.device import pick_device
from detector.errors import ConfigError
from detector.execution import denormals_as_zero, seed_everything
from detector.files import save_json
from detector.image_folder import LabelledImages, SquareImages, iter_squares, load_labelled_images
from detector.optimizer import build_optimizer, build_schedule
from detector.overrides import flatten
from detector.processes import ALONE
from detector.rcnn import IMAGENET_MEAN, IMAGENET_STD
from detector.readings import Readings, StepNumbers
from detector.run_folder import check_run_folder_free
from detector.training_log import TrainingLog
from detector.weight_average import WeightAverage

#: One cycle fits a run of any length; the rate is the customary one for 256 images a step.
IMAGENET_SCHEDULE = TrainConfig(
    epochs=100, batch_size=256, lr=0.1, schedule="onecycle", clip_norm=0.0, workers=8
)


@dataclass(frozen=True)
class PretrainConfig:
    """One run of pre-training, completely.

    VCRNet's own setting is in an appendix that is not to be had; only its moving average is known. The other
    defaults are what is common for ResNets on ImageNet.
    """

    backbone: BackboneConfig
    train: TrainConfig = IMAGENET_SCHEDULE
    image_size: int = 224  #: px of the square that is classified
    label_smoothing: float = 0.1  #: share of a label that goes to all classes alike
    average_decay: float = 0.9999  #: of the moving average that is evaluated and saved; 0: no average

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value out of its range.
        """
        for name in ("label_smoothing", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"setting {name}: found {getattr(self, name)}; expected 0 or more, below 1")
        if self.image_size < 64:
            raise ConfigError(f"setting image_size: found {self.image_size}; expected 64 or more px")


def pretrain(
    config: PretrainConfig,
    data: Path,
    out: Path,
    *,
    name: str,
    split: str = "train",
    eval_split: str = "val",
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a backbone as a classifier; `out` becomes a folder with weights, settings, log and metrics.

    Args:
        config: the whole configuration.
        data: folder with a folder a split, a folder a class in it.
        out: folder to make.
        name: of the backbone, for config.json.
        split: what to train on.
        eval_split: what to evaluate on; the same classes.
        device: "auto", "cpu" or "cuda".
        overwrite: replace a run that is already in `out`.
        quiet: nothing on stderr.

    Returns:
        what metrics.json holds: top-1 and top-5 accuracy, 0..1, and what they were measured on.

    Raises:
        ConfigError: parts of the configuration do not fit.
        InputError: the data is not what it should be.
        ClassMatchError: the splits have other classes.
        OutputExistsError: `out` is there and `overwrite` is false.
        TrainingError: the loss is not finite.
    """
    check_run_folder_free(out, overwrite=overwrite)
    target_device = pick_device(device)
    images, evaluated = load_labelled_images(data, split), load_labelled_images(data, eval_split)
    images.check_same_classes(evaluated)
    seed_everything(config.train.seed)
    model = build_classifier(config.backbone, len(images.class_names)).to(target_device)
    out.mkdir(exist_ok=True)
    for file in RUN_FILES:
        (out / file).unlink(missing_ok=True)
    save_json({"backbone": name, "settings": flatten(config)}, out / CONFIG_FILE)
    save_json({"classes": images.class_names}, out / CLASSES_FILE)
    steps_per_epoch = math.ceil(len(images.paths) / config.train.batch_size)
    with (
        denormals_as_zero(),
        TrainingLog(out / LOG_FILE, config.train.epochs, steps_per_epoch, quiet=quiet) as log,
    ):
        million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        log.message(f"{name}: {million:.2f} M parameters on {target_device}")
        for found in (images, evaluated):
            log.message(f"{found.folder}: {len(found.paths)} images of {len(found.class_names)} classes")
        return fit_classifier(model, config, images, evaluated, out, target_device, log)


def fit_classifier(
    model: nn.Module,
    config: PretrainConfig,
    images: LabelledImages,
    evaluated: LabelledImages,
    out: Path,
    device: torch.device,
    log: TrainingLog,
) -> dict[str, Any]:
    """Run all epochs; save the weights, or their average, after each; return the last evaluation."""
    settings = config.train
    dataset = SquareImages(images, config.image_size, cut="random", flip=settings.flip, seed=settings.seed)
    order = torch.Generator().manual_seed(settings.seed)
    optimizer = build_optimizer(model, settings)
    schedule = build_schedule(optimizer, settings, math.ceil(len(dataset) / settings.batch_size))
    average = WeightAverage(model, config.average_decay) if config.average_decay else None
    kept = average.model if average else model
    readings = Readings(log, ALONE, device)
    step, result = 0, {}
    for epoch in range(1, settings.epochs + 1):
        dataset.epoch = epoch
        model.train()
        for squares, labels in iter_squares(
            dataset, settings.batch_size, device, workers=settings.workers, shuffle=order
        ):
            step += 1
            logits = model(normalised(squares))
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
            optimizer.step()
            if average:
                average.update(model)
            lr = float(schedule.get_last_lr()[0])
            readings.add(StepNumbers(step, lr, (), {"class": loss.detach()}, {"gradient norm": norm}, {}))
            if readings.due:
                readings.read()
            schedule.step()
        readings.read()
        save_weights(kept, out)
        last = epoch == settings.epochs
        if last or (settings.eval_every and epoch % settings.eval_every == 0):
            metrics = evaluate_classifier(kept, config, evaluated, device)
            result = {"epoch": epoch, "step": step, "seconds": round(log.seconds, 1), **metrics}
            log.write(result)
            save_json(result, out / METRICS_FILE)
    return result


@torch.no_grad()
def evaluate_classifier(
    model: nn.Module, config: PretrainConfig, evaluated: LabelledImages, device: torch.device
) -> dict[str, Any]:
    """Classify the centre of every picture; return top-1 and top-5 accuracy, 0..1.

    With fewer than five classes top-5 is 1.
    """
    dataset = SquareImages(evaluated, config.image_size)
    right_1, right_5 = 0, 0
    model.eval()
    for squares, labels in iter_squares(
        dataset, config.train.batch_size, device, workers=config.train.workers
    ):
        logits_BC = model(normalised(squares))
        best_B5 = logits_BC.topk(min(5, logits_BC.shape[1]), dim=1).indices
        right = best_B5 == labels[:, None]
        right_1 += int(right[:, 0].sum())
        right_5 += int(right.sum())
    count = len(dataset)
    return {
        "data": str(evaluated.folder),
        "num_images": count,
        "metrics": {"top1": right_1 / count, "top5": right_5 / count},
    }


def normalised(images_B3HW: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its deviation, as a detector does."""
    mean = images_B3HW.new_tensor(IMAGENET_MEAN)[:, None, None]
    return (images_B3HW - mean) / images_B3HW.new_tensor(IMAGENET_STD)[:, None, None]
