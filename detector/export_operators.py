"""Operators that an exporter does not know, in terms of those that it knows; each gives the same numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torchvision.ops import roi_align


@contextmanager
def onnx_operators(opset: int) -> Iterator[None]:
    """Inside the block ONNX has position-sensitive RoIAlign and stable sorting.

    Args:
        opset: of the export.
    """
    onnx: Any = torch.onnx
    onnx.register_custom_op_symbolic("aten::sort", _sorted, opset)
    try:
        with mock.patch("detector.heads.ps_roi_align", position_sensitive):
            yield
    finally:
        onnx.unregister_custom_op_symbolic("aten::sort", opset)


@contextmanager
def program_operators() -> Iterator[None]:
    """Inside the block batched NMS takes the one of its two ways that asks for no number of boxes."""
    with (
        mock.patch("torchvision.ops.boxes.batched_nms", _shifted_nms),
        mock.patch("detector.boxes.batched_nms", _shifted_nms),
    ):
        yield


def position_sensitive(
    map_BCHW: Tensor, boxes_R5: Tensor, side: int, scale: float, sampling_ratio: int
) -> Tensor:
    """Return what `ps_roi_align` does: plain RoIAlign, of which each bin keeps its own channel.

    It pools side * side times as many numbers.

    Args:
        map_BCHW: C a multiple of side * side.
        boxes_R5: image and corners, xyxy in px of the image.
        side: bins a side.
        scale: px of the map a px of the image.
        sampling_ratio: points a bin and side, 1 or more.
    """
    bins = side * side
    pooled: Tensor = roi_align(map_BCHW, boxes_R5, side, scale, sampling_ratio, aligned=True)
    own = pooled.reshape(-1, map_BCHW.shape[1] // bins, bins * bins)[..., :: bins + 1]
    return own.reshape(*own.shape[:2], side, side)


def _sorted(graph: Any, values: Any, *how: Any) -> Any:
    """Sort with ONNX's TopK, which has the first of equals first: stable, as is said or not.

    Args:
        graph: takes ONNX operators.
        values: to sort.
        how: perhaps `stable`; axis; descending.
    """
    helper = torch.onnx.symbolic_helper
    axis, descending = (helper._get_const(option, "i", "option") for option in how[-2:])  # type: ignore[no-untyped-call]
    length = graph.op(
        "Gather",
        graph.op("Shape", values),
        graph.op("Constant", value_t=torch.tensor([axis])),
        axis_i=0,
    )
    return graph.op("TopK", values, length, axis_i=axis, largest_i=descending, outputs=2)


def _shifted_nms(boxes_N4: Tensor, score_N: Tensor, group_N: Tensor, iou: float) -> Tensor:
    """NMS within groups: each group is shifted to a place of its own.

    torch.export takes for granted that NMS keeps two boxes or more. Two that always stay, behind all others,
    make that true.
    """
    farthest = torch.cat([boxes_N4.flatten(), boxes_N4.new_zeros(1)]).max()
    shifted_N4 = boxes_N4 + (group_N.to(boxes_N4) * (farthest + 1))[:, None]
    apart_24 = boxes_N4.new_tensor([[-2, -2, -1, -1], [-4, -4, -3, -3]])
    last_2 = score_N.new_full((2,), -torch.inf)
    keep_N: Tensor = torch.ops.torchvision.nms(
        torch.cat([shifted_N4, apart_24]), torch.cat([score_N, last_2]), iou
    )
    return keep_N[:-2]
