"""`detector pretrain`."""

from pathlib import Path
from typing import Any

import click

from detector.cli.output import echo_json


@click.command("pretrain")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with train/CLASS/picture.jpg and val/CLASS/picture.jpg.",
)
@click.option("--backbone", required=True, help="Name of a backbone, such as vcrnet_resnext50.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs (train.epochs).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step (train.batch_size).")
@click.option("--image-size", type=click.IntRange(min=64), help="Side of the images in px (image_size).")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all that is drawn (train.seed).")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting; may be repeated."
)
@click.option("--split", default="train", show_default=True, help="Split to train on.")
@click.option("--eval-split", default="val", show_default=True, help="Split to evaluate on.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a GPU when there is one.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the run that is in --out.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def pretrain_command(
    data: Path,
    backbone: str,
    out: Path,
    epochs: int | None,
    batch_size: int | None,
    image_size: int | None,
    seed: int | None,
    assignments: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train a backbone as a classifier, for a detector to start from.

    Backbones: resnet18, 34, 50, 101, resnext50_32x4d, resnext101_32x4d, tiny, and with context blocks
    glore_, vcrnet_, se_, cbam_, gc_ before resnext50 or resnext101, vcrnet_resnext50_pixel, glore_resnet50,
    nonlocal_resnet50, glore_tiny, vcrnet_tiny. Settings are backbone.*, train.*, image_size,
    label_smoothing and average_decay; the ablations of VCRNet's table 5 are backbone.blocks.0.sampler
    (pool, static, dynamic), .edges (none, static, dynamic), .modulator (scale, shift, both) and .level
    (channel, pixel).

    A detector takes the weights with --set model.backbone.weights=RUN/model.safetensors and says what did
    not match.

    Example: detector pretrain --data imagenet --backbone vcrnet_resnext50 --out runs/vcrnet50

    Example: detector pretrain --data imagenet --backbone vcrnet_resnext50 --out runs/pool
    --set backbone.blocks.0.sampler=pool
    """
    from detector.backbone_recipes import load_backbone
    from detector.overrides import override, parse_assignments
    from detector.pretrain import PretrainConfig, pretrain

    flags = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "image_size": image_size,
        "train.seed": seed,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    config = override(PretrainConfig(load_backbone(backbone)), {**parse_assignments(assignments), **given})
    result = pretrain(config, data, out, name=backbone, **options)
    if as_json:
        echo_json({"run": str(out), **result})
        return
    click.echo(f"{result['data']}, {result['num_images']} images, accuracy in percent")
    for metric, value in result["metrics"].items():
        click.echo(f"{metric:<6}{100 * value:>6.1f}")
