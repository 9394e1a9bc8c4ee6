"""One training step and one inference of our Faster R-CNN R50-FPN against torchvision's own.

Run: python bench/train_step.py [--device cpu|cuda] [--side 512] [--batch 2] [--rounds 5]
     [--precision bf16] [--compile] [--channels-last] [--loader [DATA]] [--workers N] [--json]

Both sides have 80 classes, random weights, batch norm that trains, the same images and boxes, the same
numbers of proposals and regions, and SGD. They take turns; medians and their ratio are printed. Our boxes are
the same for all classes, torchvision's are one a class. With --loader, the images a second that are
read from a data folder, with --workers processes beside this one, are printed beside the images a second that
the model takes; without DATA the images are JPEG files of the batch's own size, made for it. With --compile
our backbone is compiled, with --channels-last our weights lie in that order; torchvision's model stays as it
is. On a GPU the memory that a step took beyond what was there before it is printed too.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from detector.annotations import load_annotations
from detector.augmentation import Augmentation
from detector.data import ImageDataset, load_batches
from detector.rcnn import build_model
from detector.recipes import load_recipe
from detector.sampling import batches_of

NUM_CLASSES = 80
DTYPES = {"none": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}

Step = Callable[[], object]


def ours(side: int) -> nn.Module:
    """The model of our recipe, without weights from a download."""
    config = load_recipe("faster_rcnn_r50_fpn").model
    backbone = replace(config.backbone, weights="none", norm="batch", trainable_layers=5)
    # The recipe is the papers', with 2,000 proposals in evaluation; torchvision takes 1,000.
    proposals = replace(config.proposals, pre_nms_test=1000, post_nms_test=1000, nms_iou_test=0.7)
    config = replace(config, backbone=backbone, proposals=proposals, min_size=side, max_size=side)
    return build_model(config, NUM_CLASSES, None)


def theirs(side: int) -> nn.Module:
    """The same of torchvision."""
    model: nn.Module = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, trainable_backbone_layers=5,
        min_size=side, max_size=side,
    )  # fmt: skip
    return model


def make_batch(
    batch: int, side: int, device: str
) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Noise with eight boxes an image."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(batch):
        corners = torch.rand(8, 2, generator=generator) * side * 0.6
        sizes = (0.05 + 0.3 * torch.rand(8, 2, generator=generator)) * side
        labels = torch.randint(1, NUM_CLASSES + 1, (8,), generator=generator)
        images.append(torch.rand(3, side, side, generator=generator).to(device))
        targets.append(
            {"boxes": torch.cat([corners, corners + sizes], 1).to(device), "labels": labels.to(device)}
        )
    return images, targets


def steps_of(model: nn.Module, args: argparse.Namespace) -> tuple[Step, Step]:
    """A training step and an inference of a model."""
    model.to(args.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    images, targets = make_batch(args.batch, args.side, args.device)

    def precision() -> torch.autocast:
        return torch.autocast(args.device, DTYPES[args.precision], enabled=args.precision != "none")

    def train() -> None:
        model.train()
        with precision():
            losses = model(images, targets)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimizer.step()

    def infer() -> None:
        model.eval()
        with torch.inference_mode(), precision():
            model(images)

    return train, infer


def seconds(step: Step, device: str) -> float:
    """How long a step takes."""
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def write_images(folder: Path, side: int, count: int) -> None:
    """Write a data folder of square JPEG files, smooth as photographs are, with eight boxes each."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (side // 16 + 1, side // 16 + 1, 3)).astype(np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.jpg")
    files = [{"id": i, "file_name": f"{i}.jpg", "width": side, "height": side} for i in range(count)]
    box = {"category_id": 1, "bbox": [1, 1, side // 2, side // 2]}
    boxes = [{"id": i, "image_id": i % count, **box} for i in range(8 * count)]
    document = {"images": files, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "train.json").write_text(json.dumps(document))


def loader_rate(data: Path, batch: int, workers: int) -> float:
    """Images a second that are read and decoded, from the second batch on, in one epoch."""
    annotations = load_annotations(data, "train")
    images = annotations.usable_images()
    dataset = ImageDataset(annotations, images, augmentation=Augmentation(flip=0.5))
    loader = iter(load_batches(dataset, batches_of(np.arange(len(images)), batch), workers))
    next(loader)  # processes have started
    start, count = time.perf_counter(), 0
    for pixels, _ in loader:
        count += len(pixels)
    return count / (time.perf_counter() - start)


def loader_rates(args: argparse.Namespace, eaten: float) -> dict[str, Any]:
    """The loader alone beside the model: images a second of both, and their ratio."""
    with tempfile.TemporaryDirectory() as made:
        if args.loader is None:
            write_images(Path(made), args.side, 16 * args.batch * (args.workers + 1))
        rate = loader_rate(args.loader or Path(made), args.batch, args.workers)
    return {"images_per_s": rate, "workers": args.workers, "ratio_to_training": rate / eaten}


def compare(steps: dict[str, Step], args: argparse.Namespace) -> dict[str, Any]:
    """Time a step of both sides in turns; on a GPU their memory too."""
    took: dict[str, list[float]] = {name: [] for name in steps}
    peak_mb: dict[str, float] = {}
    for turn in range(args.rounds + 1):
        for name, step in steps.items():
            took[name].append(seconds(step, args.device))
            if turn == 0:  # the first turn warms up
                took[name].clear()
    for name, step in steps.items() if args.device == "cuda" else ():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak_mb[name] = (torch.cuda.max_memory_allocated() - before) / 1e6
    median = {name: statistics.median(values) for name, values in took.items()}
    ratios = [slow / fast for slow, fast in zip(took["torchvision"], took["ours"], strict=True)]
    return {
        "torchvision_s": median["torchvision"],
        "ours_s": median["ours"],
        "ours_images_per_s": args.batch / median["ours"],
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_mb": peak_mb,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--side", type=int, default=512, help="px of the square images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=sorted(DTYPES), default="none")
    parser.add_argument("--loader", type=Path, nargs="?", default=False, help="data folder to read")
    parser.add_argument("--workers", type=int, default=0, help="processes that read")
    parser.add_argument("--compile", action="store_true", help="torch.compile our backbone")
    parser.add_argument("--channels-last", action="store_true", help="memory order of our convolutions")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    torch.manual_seed(0)
    models = {"torchvision": theirs(args.side), "ours": ours(args.side)}
    if args.compile:
        models["ours"].backbone.compile()
    if args.channels_last:
        models["ours"].to(memory_format=torch.channels_last)
    sides = {name: steps_of(model, args) for name, model in models.items()}
    found = {
        kind: compare({name: steps[number] for name, steps in sides.items()}, args)
        for number, kind in enumerate(("training step", "inference"))
    }
    steps = dict(found)
    if args.loader is not False:
        found["loader"] = loader_rates(args, found["training step"]["ours_images_per_s"])
    if args.json:
        print(json.dumps(found))
        return
    for kind, numbers in steps.items():
        memory = [f", {side} {mb:.0f} MB" for side, mb in numbers["peak_mb"].items()]
        print(
            f"{kind}: torchvision {numbers['torchvision_s']:.3f} s, "
            f"ours {numbers['ours_s']:.3f} s ({numbers['ours_images_per_s']:.1f} images/s), "
            f"ratio {numbers['ratio']:.2f} ({min(numbers['ratios']):.2f} to {max(numbers['ratios']):.2f})"
            + "".join(memory)
        )
    if "loader" in found:
        loader = found["loader"]
        print(
            f"loader: {loader['images_per_s']:.0f} images/s with {loader['workers']} workers, "
            f"{loader['ratio_to_training']:.1f} times what training takes"
        )


if __name__ == "__main__":
    main()
