"""`kgtool leak`: validation images behind a graph."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgtool.cli.reading import read_options

if TYPE_CHECKING:
    from kgtool.image_lists import ImageList
    from kgtool.leakage import Leakage

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("subject", metavar="GRAPH|ANNOTATIONS")
@click.option(
    "--against",
    type=_FILE,
    metavar="LIST",
    required=True,
    help="The validation images: a COCO JSON, or one image id a line.",
)
@click.option(
    "--image-data",
    type=_FILE,
    metavar="FILE",
    help="image_data.json: the images of --against are COCO's, found by their coco_id.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="ANNOTATIONS",
    help="Of a graph: what it was built from; may be repeated.",
)
@click.option(
    "--exclude-images",
    "excluded",
    type=_FILE,
    multiple=True,
    metavar="LIST",
    help="Of a graph: a list it was built with, in the ids of its annotations.",
)
@click.option(
    "--kind",
    type=click.Choice(["relation", "attribute"]),
    default="relation",
    show_default=True,
    help="What triples hold.",
)
@click.option(
    "--out", type=_FILE, metavar="LIST", help="Write the validation images as a list for --exclude-images."
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the list if it is there.")
@click.option("--fail", is_flag=True, default=False, help="Exit with code 6 if a validation image is found.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read. [default: the cores]")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def leak(
    subject: str,
    against: Path,
    image_data: Path | None,
    sources: tuple[str, ...],
    excluded: tuple[Path, ...],
    kind: str,
    out: Path | None,
    overwrite: bool,
    fail: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Say which validation images a graph was built from, so that a detector's score can be trusted.

    ANNOTATIONS is what the build commands take. A GRAPH keeps no image ids, but its header names its sources
    and the lists of images left out of them by SHA-256: if the validation images are left out, nothing else
    is needed, otherwise --source is.

    Example: kgtool leak relationships.json --against val.json --image-data image_data.json --out exclude.txt
    """
    from kgtool.errors import GateError
    from kgtool.files import check_writable
    from kgtool.image_lists import read_image_ids, save_image_ids
    from kgtool.leakage import find_leaks_in

    if out is not None:
        check_writable(out, overwrite=overwrite)
    validation = read_image_ids(against, image_data=image_data)
    with read_options(False, workers) as options:
        found = find_leaks_in(
            subject,
            validation,
            kind=kind,
            sources=sources,
            excluded=[read_image_ids(path) for path in excluded],
            options=options,
        )
    report = _report(subject, validation, found, out)
    if out is not None:
        save_image_ids(validation, out, overwrite=overwrite)
    click.echo(json.dumps(report) if as_json else _text(report))
    if fail and (found.leaked_ids or found.of_unknown_image):
        raise GateError(
            f"{subject}: found {len(found.leaked_ids)} validation images and {found.of_unknown_image} "
            "annotations of unknown images; expected none; build with --exclude-images"
        )


def _report(subject: str, validation: "ImageList", found: "Leakage", out: Path | None) -> dict[str, Any]:
    leaked = len(found.leaked_ids)
    return {
        "subject": subject,
        "against": validation.name,
        "validation_images": len(validation),
        "images": found.images,
        "annotations": found.annotations,
        "leaked_images": leaked,
        "leaked_annotations": found.leaked_annotations,
        "share_of_images": leaked / found.images if found.images else 0.0,
        "share_of_annotations": found.leaked_annotations / found.annotations if found.annotations else 0.0,
        "of_unknown_image": found.of_unknown_image,
        "out": None if out is None else str(out),
    }


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['against']}: {report['validation_images']} validation images"]
    if report["images"] is None:
        lines.append(f"{report['subject']}: none of them; they were left out, as the header says")
    else:
        lines.append(
            f"{report['subject']}: {report['leaked_images']} of {report['images']} images "
            f"({report['share_of_images']:.2%}) are validation images, and of these are "
            f"{report['leaked_annotations']} of {report['annotations']} annotations "
            f"({report['share_of_annotations']:.2%})"
        )
    if report["of_unknown_image"]:
        lines.append(f"annotations of unknown images: {report['of_unknown_image']}")
    if report["out"]:
        lines.append(f"{report['out']}: the validation images, for --exclude-images")
    return "\n".join(lines)
