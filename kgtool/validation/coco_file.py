"""A COCO JSON file checked from end to end."""

from dataclasses import dataclass
from pathlib import Path

from kgtool.errors import InputError
from kgtool.validation.document import NEEDED_LISTS, read_lists
from kgtool.validation.findings import ERROR, Finding, Findings
from kgtool.validation.image_files import check_image_files
from kgtool.validation.rules import (
    check_boxes,
    check_categories,
    check_images,
    check_known,
    check_relations,
    check_unique,
    check_used,
    sizes_of,
)
from kgtool.validation.segmentation import MaskCheck
from kgtool.validation.table import Field, Table, read_table

_FIELDS = {
    "images": (
        Field("id", "int"),
        Field("coco_url", "text", required=False, nullable=True),
        Field("file_name", "text", instead="coco_url"),
        Field("width", "int"),
        Field("height", "int"),
        Field("coco_id", "int", required=False, nullable=True),
    ),
    "categories": (
        Field("id", "int"),
        Field("name", "text"),
        Field("synset", "text", required=False),
        Field("frequency", "text", required=False),
        Field("supercategory", "text", required=False, nullable=True),
        Field("image_count", "int", required=False, nullable=True),
        Field("instance_count", "int", required=False, nullable=True),
    ),
    "annotations": (
        Field("id", "int"),
        Field("image_id", "int"),
        Field("category_id", "int"),
        Field("bbox", "box"),
        Field("area", "number", required=False, nullable=True),
        Field("iscrowd", "int", required=False),
    ),
    "rel_categories": (Field("id", "int"), Field("name", "text")),
    "rel_annotations": tuple(
        Field(name, "int") for name in ("id", "image_id", "subject_id", "predicate_id", "object_id")
    ),
}


@dataclass(frozen=True)
class Validation:
    """What a look through a file gave.

    Attributes:
        num_records: records of each list, readable or not.
        findings: by kind, errors first; empty for a file without fault.
    """

    num_records: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Whether there is no error; warnings and notes do not count."""
        return self.count(ERROR) == 0

    def count(self, severity: str) -> int:
        """How many faults of a severity there are, of all kinds."""
        return sum(finding.count for finding in self.findings if finding.severity == severity)


def validate_file(path: Path, *, images: Path | None = None, num_workers: int = 1) -> Validation:
    """Look through a COCO JSON file; faults are reported, never raised.

    A file without errors is one that `kgtool.coco.load_dataset` loads.

    Args:
        path: the file.
        images: the folder of its images, to compare their sizes with; None leaves them alone.
        num_workers: processes that open images, where there are many.

    Raises:
        InputError: there is no such file or folder, or it may not be read.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: found no such folder; expected the images of {path}")
    findings = Findings()
    lists = read_lists(path, findings)
    masks = MaskCheck(findings)
    tables = {
        name: read_table(
            name, lists.get(name, []), fields, findings, masks.add if name == "annotations" else None
        )
        for name, fields in _FIELDS.items()
    }
    num_records = {name: len(records) for name, records in lists.items()}
    del lists  # the text of the file
    _check(tables, masks, findings)
    if "rel_annotations" in num_records:
        check_relations(tables, findings)
    if images is not None:
        check_image_files(tables["images"], images, findings, num_workers)
    return Validation(num_records, findings.report())


def _check(tables: dict[str, Table], masks: MaskCheck, findings: Findings) -> None:
    images, categories, annotations = (tables[name] for name in NEEDED_LISTS)
    check_images(images, findings)
    check_categories(categories, findings)
    check_unique(annotations, "id", "duplicate id", findings)
    image_N = check_known(annotations, "image_id", images, findings)
    category_N = check_known(annotations, "category_id", categories, findings)
    ids, crowd = annotations.value["id"], annotations.value["iscrowd"]
    findings.add_rows(
        "annotation id 0",
        (annotations.known["id"] & (ids == 0)).nonzero()[0],
        lambda row: f"annotations[{row}]",
    )
    findings.add_rows(
        "wrong type",
        ((crowd != 0) & (crowd != 1)).nonzero()[0],
        lambda row: f"{annotations.place(row)}: iscrowd {crowd[row]}, not 0 or 1",
    )
    check_boxes(annotations, images, image_N, masks.rows_with_mask(), findings)
    width_N, height_N = sizes_of(images, image_N)
    masks.check_sizes(annotations, height_N, width_N)
    check_used(categories, category_N, "category without boxes", "name", findings)
    check_used(images, image_N, "image without boxes", "file_name", findings)
