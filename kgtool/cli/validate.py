"""`kgtool validate`."""

import gc
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgtool.errors import InputError

if TYPE_CHECKING:
    from kgtool.validation.coco_file import Validation


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the images: look for missing files and other sizes, too.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes that open images. [default: the cores]"
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def validate(path: Path, images: Path | None, workers: int | None, as_json: bool) -> None:
    """Look through a COCO JSON file and print everything that is wrong with it.

    Errors are what breaks a reader, a training or its score, such as ids that are twice or lead nowhere,
    boxes outside their image, and fields of the wrong type. With errors the exit code is 3; warnings and
    notes leave it at 0. Places are counted from 0, as in `annotations[0]`.

    Example: kgtool validate instances.json --images images
    """
    from kgtool.validation.coco_file import validate_file
    from kgtool.workers import default_num_workers

    gc.disable()  # millions of lists and no cycles
    validation = validate_file(path, images=images, num_workers=workers or default_num_workers())
    counts = {f"num_{name}s": validation.count(name) for name in ("error", "warning", "note")}
    if as_json:
        report = {
            "file": str(path),
            "valid": validation.valid,
            **counts,
            "records": validation.num_records,
            "findings": [asdict(finding) for finding in validation.findings],
        }
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print(path, validation)
    if not validation.valid:
        kinds = ", ".join(finding.kind for finding in validation.findings if finding.severity == "error")
        number = validation.count("error")
        raise InputError(
            f"{path}: found {number} error{'s' * (number > 1)} ({kinds}); expected none; correct the file"
        )


def _print(path: Path, validation: "Validation") -> None:
    records = ", ".join(f"{count} {name}" for name, count in validation.num_records.items())
    click.echo(f"{path}: {records}")
    findings = validation.findings
    width = max((len(finding.kind) for finding in findings), default=0)
    for finding in findings:
        click.echo(f"\n{finding.severity:7}  {finding.kind:{width}}  {finding.count:>8,}  {finding.remedy}")
        for example in finding.examples:
            click.echo(f"           {example}")
        if finding.count > len(finding.examples):
            click.echo(f"           ... {finding.count - len(finding.examples):,} more")
    if not findings:
        click.echo("nothing found")
