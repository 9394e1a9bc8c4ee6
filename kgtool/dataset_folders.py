"""What a conversion or a split leaves behind: COCO JSON, a report, and a table of what disagrees."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kgtool.coco import Dataset, save_dataset
from kgtool.files import atomic_folder, atomic_path
from kgtool.splits import SPLIT_FILES, Split, save_split

#: The report of a run, and its findings as CSV, or nothing where a data set has none.
Account = tuple[dict[str, Any], str]


def write_dataset(
    out: Path, make: Callable[[], tuple[Dataset, Account]], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a data set: a .json file alone, or a folder with instances.json, report.json and report.csv.

    Args:
        out: a file that ends in .json, or a folder that does not exist or is empty.
        make: reads and converts; called once it is known that `out` can be written.
        overwrite: replace the output if it is there.

    Returns:
        The report.

    Raises:
        OutputExistsError: the output is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
    """
    if out.suffix.lower() == ".json":
        with atomic_path(out, overwrite=overwrite) as part:
            dataset, (report, _) = make()
            save_dataset(dataset, part, overwrite=True)
        return report
    with atomic_folder(out, ("instances.json", "report.json", "report.csv"), overwrite=overwrite) as part:
        dataset, (report, findings) = make()
        save_dataset(dataset, part / "instances.json")
        _save_findings(findings, part)
        text = msgspec.json.format(msgspec.json.encode(report))
        (part / "report.json").write_bytes(text + b"\n")
    return report


def write_split(
    out: Path, make: Callable[[], tuple[Split, Account]], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder with train.json, test.json, classes.csv, report.json and report.csv.

    Args:
        out: a folder that does not exist, or is empty.
        make: reads and splits; called once it is known that `out` can be written. What the two sets hold is
            added to its report.
        overwrite: replace the folder if it is there.

    Returns:
        The report.

    Raises:
        OutputExistsError: `out` is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist.
    """
    with atomic_folder(out, SPLIT_FILES, overwrite=overwrite) as part:
        split, (report, findings) = make()
        images = report.setdefault("images", {})
        images["skipped"] = images.get("skipped", {}) | split.images_dropped
        for name, made in (("train", split.train), ("test", split.test)):
            report[name] = {"images": len(made.images), "boxes": len(made.annotations)}
            without = len(made.images) - len(np.unique(made.annotations.image_id_N))
            if without:
                report[name]["images without a box"] = without
        report["messages"] = [*report.get("messages", []), *split.messages]
        save_split(split, part, report)
        _save_findings(findings, part)
    return report


def findings_csv(kind: type[Any], findings: Iterable[Any]) -> str:
    """Findings as CSV with a header, for an `Account`.

    Args:
        kind: the dataclass that they are of, whose fields are the columns.
        findings: one a row.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(kind)])
    writer.writerows(map(astuple, findings))
    return text.getvalue()


def _save_findings(findings: str, folder: Path) -> None:
    if findings:
        (folder / "report.csv").write_text(findings, encoding="utf-8")
