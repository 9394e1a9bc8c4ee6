"""Two steps of training in which nothing is drawn: the same losses for as long as nothing changes."""

import torch

from detector.config import ProposalConfig
from detector.rcnn import RCNN

#: Changes of `tiny_config`: every region and anchor is taken, so that none is drawn.
WITHOUT_CHANCE: dict[str, object] = {
    "proposals": ProposalConfig(((12, 24),), (1.0,), 100, 100, 30, 30, 0.7, 10_000),
    "regions_per_image": 200,
    "positive_fraction": 1.0,
}


def two_losses(model: RCNN, lr: float = 0.02, *, masks: bool = False, spread: float = 1.0) -> list[float]:
    """The summed losses of two steps on two striped images, with weights from a formula.

    A single number keeps its start. With a `spread` of 1 most logits are near zero, and a part deep inside
    the detector hardly shows in the losses; with 2 it does.
    """
    for weight in (weight for weight in model.parameters() if weight.ndim):
        wave = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + weight.ndim)
        weight.data = (wave * spread * (2 / max(weight[0].numel(), 16)) ** 0.5).reshape(weight.shape).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    grid = torch.arange(64.0)
    stripes = 0.5 + 0.5 * torch.sin(grid[:, None] * 0.5) * torch.cos(grid * 0.3)
    images = [torch.stack([stripes, stripes.T, 1 - stripes]), torch.stack([stripes.T, 1 - stripes, stripes])]
    target = {"boxes": torch.tensor([[8.0, 8, 30, 28], [30, 34, 60, 58]]), "labels": torch.tensor([2, 5])}
    if masks:
        target["masks"] = torch.stack([(grid[:, None] + grid < 40), (grid[:, None] + grid > 90)]).byte()
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        total = torch.stack(list(model(images, [target, target]).values())).sum()
        total.backward()
        optimizer.step()
        found.append(total.item())
    return found
