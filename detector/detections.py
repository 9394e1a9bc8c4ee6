"""What a model finds in images, as columns, and as the results of COCO JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import Tensor

from detector.annotations import Annotations
from detector.files import atomic_path
from detector.knowledge import FOREGROUND
from detector.segmentation import RunLengths, encode_masks

#: A pixel belongs to a mask from this probability on.
MASK_THRESHOLD = 0.5

_ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes, and masks, that a model found, N of them, as columns.

    Attributes:
        image_N: int64 position of the image in its split.
        boxes_xyxy: (N, 4) float32 px of the image as stored.
        class_N: int64, 0..C-1 in the order of the model's classes.
        score_N: float32, 0..1.
        masks_N: run lengths of each mask; None from a model without masks.
    """

    image_N: np.ndarray
    boxes_xyxy: np.ndarray
    class_N: np.ndarray
    score_N: np.ndarray
    masks_N: list[RunLengths] | None = None

    def __len__(self) -> int:
        return len(self.image_N)

    def select(self, rows: np.ndarray) -> "Detections":
        """Keep some rows, in their order."""
        masks_N = None if self.masks_N is None else [self.masks_N[row] for row in rows.tolist()]
        return Detections(
            self.image_N[rows], self.boxes_xyxy[rows], self.class_N[rows], self.score_N[rows], masks_N
        )

    def boxes_xywh(self) -> np.ndarray:
        """(N, 4) float64 left, top, width, height, px, as COCO's results have them."""
        boxes = self.boxes_xyxy.astype(np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def to_arrays(output: dict[str, Tensor]) -> dict[str, Any]:
    """Bring what a model found in one image to the CPU; masks, cut at one half, as run lengths."""
    arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in output.items() if name != "masks"}
    if "masks" in output:
        arrays["masks"] = encode_masks((output["masks"][:, 0] >= MASK_THRESHOLD).cpu().numpy())
    return arrays


def to_detections(images: Sequence[int], outputs: Sequence[dict[str, Any]]) -> Detections:
    """Join what `to_arrays` made of each image as columns."""
    counts = [len(output["scores"]) for output in outputs]

    def column(name: str, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([output[name] for output in outputs] or [empty])

    with_masks = bool(outputs) and "masks" in outputs[0]
    return Detections(
        image_N=np.repeat(np.array(images, dtype=np.int64), counts),
        boxes_xyxy=column("boxes", np.zeros((0, 4), dtype=np.float32)),
        class_N=column("labels", np.zeros(0, dtype=np.int64)) - FOREGROUND.start,
        score_N=column("scores", np.zeros(0, dtype=np.float32)),
        masks_N=[runs for output in outputs for runs in output["masks"]] if with_masks else None,
    )


def save_predictions(annotations: Annotations, detections: Detections, path: Path) -> None:
    """Write detections as COCO's results, atomically: image_id, category_id, bbox, score, segmentation.

    Numbers are those that were evaluated, not rounded: another evaluator finds the same AP in the file.

    Args:
        annotations: the split that they were found in.
        detections: classes in the order of `annotations`.
        path: to write to; replaced if it is there.
    """
    encoder = msgspec.json.Encoder()
    with atomic_path(path) as part, part.open("wb") as file:
        file.write(b"[")
        for start in range(0, len(detections), _ROWS_AT_A_TIME):
            rows = np.arange(start, min(start + _ROWS_AT_A_TIME, len(detections)))
            results = _results(annotations, detections.select(rows))
            file.write((b",\n" if start else b"\n") + b",\n".join(map(encoder.encode, results)))
        file.write(b"\n]\n")


def _results(annotations: Annotations, detections: Detections) -> Iterator[dict[str, Any]]:
    columns = zip(
        annotations.image_ids[detections.image_N].tolist(),
        annotations.category_ids[detections.class_N].tolist(),
        detections.boxes_xywh().tolist(),
        detections.score_N.tolist(),
        strict=True,
    )
    for row, (image, category, box, score) in enumerate(columns):
        mask = {} if detections.masks_N is None else {"segmentation": detections.masks_N[row]}
        yield {"image_id": image, "category_id": category, "bbox": box, "score": score, **mask}
