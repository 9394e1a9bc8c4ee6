"""Two steps of training on record for every head: a refactoring changes nothing."""

import pytest
import torch
from tiny_models import ARMS, tiny_model

from detector.config import ProposalConfig
from detector.rcnn import RCNN


def without_chance(model: RCNN) -> RCNN:
    """Weights from a formula; with every region and anchor taken, no random number is drawn in training."""
    for weight in model.parameters():
        wave = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + weight.ndim)
        weight.data = (wave * (2 / max(weight[0].numel(), 16)) ** 0.5).reshape(weight.shape).float()
    return model


GOLDEN: dict[str, list[float]] = {
    "faster": [2.59528, 2.41206],
    "stacked": [3.70393, 3.46732],
    "printed": [3.68991, 3.45455],
    "released": [3.60242, 3.34840],
    "working": [3.65379, 3.44034],
}


@pytest.mark.parametrize("name", ARMS)
def test_two_steps_of_training_give_the_losses_on_record(name: str) -> None:
    proposals = ProposalConfig(((12, 24),), (1.0,), 100, 100, 30, 30, 0.7, 10_000)
    model = without_chance(
        tiny_model(*ARMS[name], proposals=proposals, regions_per_image=200, positive_fraction=1.0)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    grid = torch.arange(64.0)
    stripes = 0.5 + 0.5 * torch.sin(grid[:, None] * 0.5) * torch.cos(grid * 0.3)
    images = [torch.stack([stripes, stripes.T, 1 - stripes]), torch.stack([stripes.T, 1 - stripes, stripes])]
    target = {"boxes": torch.tensor([[8.0, 8, 30, 28], [30, 34, 60, 58]]), "labels": torch.tensor([2, 5])}
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        total = torch.stack(list(model(images, [target, target]).values())).sum()
        total.backward()
        optimizer.step()
        found.append(total.item())
    assert found == pytest.approx(GOLDEN[name], rel=1e-3)
