"""Test-time augmentation: views come into one coordinate system and one duplicate removal."""

from dataclasses import replace

import pytest
import torch
from tiny_models import ARMS, random_image, tiny_model
from torch import Tensor, nn

from detector.errors import ConfigError
from detector.interfaces import Regions
from detector.rcnn import RCNN
from detector.views import View, detect_in_views, list_views

SIZES = [(64, 48), (40, 64), (64, 64)]


@pytest.fixture
def images() -> list[Tensor]:
    return [random_image(seed, *size) for seed, size in enumerate(SIZES)]


@pytest.fixture
def model() -> RCNN:
    return tiny_model(*ARMS["working"], score_threshold=0.01).eval()


def test_views_are_listed_once_and_the_plain_one_is_not_among_them() -> None:
    assert list_views() == ()
    assert list_views(flip=True) == (View(flip=True),)
    assert list_views(scales=(1.0, 2.0, 2.0)) == (View(scale=2.0),)
    assert list_views(flip=True, scales=(0.5,)) == (View(True, 1.0), View(False, 0.5), View(True, 0.5))
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="expected a number above 0"):
            list_views(scales=(wrong,))


@torch.no_grad()
def test_no_view_and_a_view_that_is_the_plain_one_change_nothing(model: RCNN, images: list[Tensor]) -> None:
    expected = model(images)
    for views in ((), (View(),)):
        for found, wanted in zip(detect_in_views(model, images, views), expected, strict=True):
            for name in ("boxes", "labels", "scores"):
                assert torch.equal(found[name], wanted[name])


class _Painted(nn.Module):
    """Proposals that know where the bright pixels of an image are, for every view alike."""

    box_head = None

    def forward(self, batch: object, maps: object, targets: object) -> tuple[Regions, dict[str, Tensor]]:
        boxes = []
        for image, (height, width) in zip(batch.tensors, batch.image_sizes, strict=True):
            rows, columns = torch.nonzero(image[0, :height, :width] > 1.5, as_tuple=True)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes.append(torch.stack(corners).float())
        return Regions(
            torch.stack(boxes),
            torch.arange(len(boxes)),
            torch.tensor(batch.image_sizes),
            maps,
            logits_RK=torch.tensor([[-9.0, -9.0, 3.0]]).repeat(len(boxes), 1),
        ), {}


@pytest.mark.parametrize("views", [(View(True),), (View(False, 2.0),), (View(True, 0.5),)], ids=str)
@torch.no_grad()
def test_boxes_of_every_view_lie_on_the_object_in_px_of_the_image(
    model: RCNN, views: tuple[View, ...]
) -> None:
    """The plain view is blinded, so that only the other one can have found the box."""
    model.proposals, model.stages = _Painted(), nn.ModuleList()
    images, expected = [], []
    for (height, width), (x, y) in zip(SIZES, [(4, 8), (40, 20), (24, 16)], strict=True):
        image = torch.zeros(3, height, width)
        image[:, y : y + 12, x : x + 8] = 1.0
        images.append(image)
        expected.append(torch.tensor([[x, y, x + 8, y + 12]], dtype=torch.float32))
    look, calls = model.look, []

    def blind_at_first(*arguments: object) -> object:
        batch, regions, last = look(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            regions = replace(regions, logits_RK=regions.logits_RK - 99)
        return batch, regions, last

    model.look = blind_at_first
    for found, wanted in zip(detect_in_views(model, images, views), expected, strict=True):
        assert found["labels"].tolist() == [2]
        assert torch.allclose(found["boxes"], wanted, atol=2.0)
    assert len(calls) == 2


@torch.no_grad()
def test_every_view_can_add_and_nms_joins_what_is_the_same(model: RCNN, images: list[Tensor]) -> None:
    mirrored = detect_in_views(model, images, list_views(flip=True))
    back = detect_in_views(model, [image.flip(-1) for image in images], list_views(flip=True))
    for one, other, image in zip(mirrored, back, images, strict=True):
        flipped = other["boxes"][:, [2, 1, 0, 3]]
        flipped[:, [0, 2]] = image.shape[-1] - flipped[:, [0, 2]]
        assert torch.allclose(one["scores"], other["scores"], atol=1e-4)
        for box, label in zip(one["boxes"], one["labels"], strict=True):
            assert (((flipped - box).abs().amax(dim=1) < 0.01) & (other["labels"] == label)).any()


def test_learned_duplicate_removal_is_refused_in_one_line(model: RCNN, images: list[Tensor]) -> None:
    model.duplicate_removal = nn.Identity()
    with pytest.raises(ConfigError, match="duplicate removal is learned"):
        detect_in_views(model, images, list_views(flip=True))
