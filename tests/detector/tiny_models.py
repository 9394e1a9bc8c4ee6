"""Small detectors, graphs and regions that the tests of the model share."""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from detector.config import BackboneConfig, ModelConfig, ProposalConfig, StageConfig
from detector.interfaces import (
    FeatureMaps,
    HeadConfig,
    HeadInputs,
    Regions,
    SharedHeadConfig,
    TwoLinear,
    TwoLinearConfig,
)
from detector.rcnn import RCNN, build_model
from detector.reasoning.reasoning_rcnn import ReasoningConfig
from detector.reasoning.sgrn import SGRNConfig

NUM_CLASSES = 7
SECOND_STAGE = {"foreground_iou": 0.6, "box_std": (0.05, 0.05, 0.1, 0.1), "loss_weight": 0.5}

#: Heads after the plain first stage, by the name of the arm.
ARMS: dict[str, tuple[HeadConfig, ...]] = {
    "faster": (),
    "stacked": (SharedHeadConfig(),),
    "printed": (ReasoningConfig(width=8, squeeze=6),),
    "released": (ReasoningConfig(form="released", width=8, squeeze=6),),
    "working": (ReasoningConfig(form="working", width=8, squeeze=6),),
    "sgrn": (SGRNConfig(neighbours=4, kernels=2, latent=8, hidden=8, width=8),),
    "sgrn_working": (
        SGRNConfig(form="working", nodes="soft", neighbours=4, kernels=2, latent=8, hidden=8, width=8),
    ),
}


def tiny_config(*heads: HeadConfig, **changes: object) -> ModelConfig:
    """Images of 64 px; a plain first stage and one more stage for every head given."""
    settings: dict[str, object] = {
        "backbone": BackboneConfig("tiny"),
        "stages": (
            StageConfig(TwoLinearConfig(16)),
            *(StageConfig(head, **SECOND_STAGE) for head in heads),
        ),
        "proposals": ProposalConfig(((12, 24),), (1.0,), 200, 200, 40, 40, 0.7, 32),
        "min_size": 64,
        "max_size": 64,
        "roi_size": 3,
        "roi_sampling_ratio": 1,
        "regions_per_image": 16,
        "positive_fraction": 0.5,
    }
    return ModelConfig(**(settings | changes))


def tiny_model(*heads: HeadConfig, seed: int = 0, **changes: object) -> RCNN:
    """A detector for `NUM_CLASSES` classes with random weights."""
    torch.manual_seed(seed)
    return build_model(tiny_config(*heads, **changes), NUM_CLASSES, random_graph())


def random_graph(num_classes: int = NUM_CLASSES, seed: int = 3) -> Tensor:
    """A graph with some edges missing, not symmetric, so that a transposed one shows."""
    weight = torch.rand(num_classes, num_classes, generator=torch.Generator().manual_seed(seed))
    return weight * (weight > 0.4)


def random_image(seed: int, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def squares(num_images: int, seed: int = 0, side: int = 64) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Grey noise with bright squares on it; the class is the colour channel, 1 to 3."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for _ in range(num_images):
        image = torch.rand(3, side, side, generator=generator) * 0.2
        boxes, labels = [], []
        for place in torch.randperm(4, generator=generator)[:2].tolist():
            size = int(torch.randint(12, 24, (1,), generator=generator))
            x, y = (place % 2) * 32 + 4, (place // 2) * 32 + 4
            label = int(torch.randint(1, 4, (1,), generator=generator))
            image[label - 1, y : y + size, x : x + size] += 0.8
            boxes.append([x, y, x + size, y + size])
            labels.append(label)
        images.append(image)
        targets.append({"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)})
    return images, targets


def random_regions(
    image_of_region: list[int],
    num_images: int,
    *,
    width: int,
    channels: int = 6,
    num_maps: int = 5,
    seed: int = 0,
) -> Regions:
    """Regions as a second stage sees them: 64 x 64 px images, maps from stride 4 on, K = 8 classes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    count = len(image_of_region)
    corner = torch.rand(count, 2, generator=generator) * 30
    size = 8 + torch.rand(count, 2, generator=generator) * 20
    strides = (4, 8, 16, 32, 64)[:num_maps]
    return Regions(
        boxes_R4=torch.cat([corner, corner + size], dim=1),
        image_R=torch.tensor(image_of_region, dtype=torch.int64),
        sizes_B2=torch.full((num_images, 2), 64),
        context=FeatureMaps(
            tuple(normal(num_images, channels, 64 // stride, 64 // stride) for stride in strides), strides
        ),
        logits_RK=normal(count, NUM_CLASSES + 1),
        weight_KD1=normal(NUM_CLASSES + 1, width + 1) / 2,
        labels_R=torch.randint(1, NUM_CLASSES + 1, (count,), generator=generator)
        * (torch.arange(count) % 3 > 0),
        truth_R4=torch.cat([corner, corner + size], dim=1) + 1,
        proposed_R=torch.ones(count, dtype=torch.bool),
    )


def head_inputs(*, width: int, channels: int = 6, num_maps: int = 5, roi_size: int = 3) -> HeadInputs:
    """What a head of the second stage is built from, after a plain first stage of that width."""
    previous = TwoLinear(channels * roi_size**2, width)
    return HeadInputs(
        channels, num_maps, roi_size, NUM_CLASSES, random_graph(), previous, fourth_layer(channels)
    )


def fourth_layer(channels: int) -> nn.Sequential:
    """A ResNet's last layer in small: one residual block that doubles the channels and halves the sides."""
    shortcut = nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 1, 2, bias=False), nn.GroupNorm(2, 2 * channels)
    )
    norm = partial(nn.GroupNorm, 2)
    return nn.Sequential(BasicBlock(channels, 2 * channels, 2, shortcut, norm_layer=norm))


def detect(model: RCNN, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Detections of the model in evaluation, where it stays."""
    model.eval()
    with torch.no_grad():
        return model(images)
