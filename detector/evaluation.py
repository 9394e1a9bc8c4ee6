"""How right a detector is: what it found in a split, the metrics, and the same for each class."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.annotations import Annotations
from detector.coco_metrics import Curves, class_metrics, frequency_metrics, mean_of_found, summarize
from detector.detections import Detections
from detector.files import atomic_path
from detector.frequencies import frequencies_of
from detector.voc_metrics import voc_ap


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model finds in a split, and how right it is.

    Attributes:
        annotations: the split, classes in the order of the model's.
        detections: what the model found.
        train_images: number of images that each class was trained on; empty where it is not known.
        curves: precision and recall of boxes.
        mask_curves: the same of masks, where model and annotations have them.
    """

    annotations: Annotations
    detections: Detections
    train_images: tuple[int, ...]
    curves: Curves
    mask_curves: Curves | None = None

    @property
    def frequencies(self) -> tuple[str, ...]:
        """Which classes are rare, common and frequent ("r", "c", "f").

        What the split's file says, else by the images trained on; empty where neither is known.
        """
        stated = self.annotations.frequencies
        return frequencies_of(self.train_images) if "" in stated else stated

    def summary(self) -> dict[str, Any]:
        """Return the name of the split's file, its number of images, and the metrics by name, 0..1.

        COCO's twelve; APr, APc and APf where it is known which classes are rare; VOC50, Pascal VOC's AP. Of
        masks, `mask_metrics`, without VOC's. -1 where the split has nothing to find.
        """
        result: dict[str, Any] = {
            "data": self.annotations.path.name,
            "num_images": self.annotations.num_images,
            "metrics": {
                **self._metrics(self.curves),
                "VOC50": mean_of_found(voc_ap(self.annotations, self.detections)),
            },
        }
        if self.mask_curves:
            result["mask_metrics"] = self._metrics(self.mask_curves)
        return result

    def _metrics(self, curves: Curves) -> dict[str, float]:
        return {**summarize(curves), **frequency_metrics(curves, self.frequencies)}

    def class_columns(self) -> dict[str, list[Any]]:
        """Return a row a class, as columns by name.

        name, synset, train_images, frequency, images, boxes, AP, AP50, AR; with masks also mask_AP, mask_AP50
        and mask_AR. None where a number is not known, or where the split has no box of the class.
        """
        annotations = self.annotations
        unknown = [None] * annotations.num_classes
        columns: dict[str, list[Any]] = {
            "name": list(annotations.class_names),
            "synset": list(annotations.synsets),
            "train_images": list(self.train_images) or unknown,
            "frequency": list(self.frequencies) or unknown,
            "images": annotations.images_per_class().tolist(),
            "boxes": annotations.boxes_per_class().tolist(),
        }
        for prefix, curves in (("", self.curves), ("mask_", self.mask_curves)):
            if curves:
                found = class_metrics(curves)
                for name, values_C in (("AP", found.ap_C), ("AP50", found.ap50_C), ("AR", found.ar_C)):
                    columns[prefix + name] = [None if value < 0 else value for value in values_C.tolist()]
        return columns


def save_class_table(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV with a row a class (see `Evaluation.class_columns`), atomically; None is empty."""
    columns = evaluation.class_columns()
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row)
