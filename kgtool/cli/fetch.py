"""`kgtool fetch`: the archives that data sets are published as."""

import json
from pathlib import Path
from typing import Any

import click

from kgtool.archives import ARCHIVES
from kgtool.cli.reading import progress_bar


@click.command()
@click.argument("dataset", type=click.Choice(list(ARCHIVES)))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder to fill. [default: the data set's name]",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="NAME",
    help="Only this archive; may be repeated. [default: all]",
)
@click.option(
    "--mirror",
    default="",
    metavar="URL",
    help="Look for the archives below this URL first, by their file names.",
)
@click.option(
    "--dry-run", is_flag=True, default=False, help="Say what would be fetched and how much disk it needs."
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def fetch(
    dataset: str, out: Path | None, parts: tuple[str, ...], mirror: str, dry_run: bool, as_json: bool
) -> None:
    """Fetch a data set from where it is published, and extract it.

    What was cut off goes on where it ended, the next time too. A file counts as fetched when its size and
    SHA-256 are the published ones; where none is published, what was received is recorded beside the file.
    Archives are kept in DIR/archives and may be removed.

    Example: kgtool fetch vg --part relationships --part image-data --dry-run
    """
    from kgtool.fetched_data import FetchOptions, fetch_data, plan_fetch

    folder = out or Path(dataset)
    if dry_run:
        plan = plan_fetch(dataset, folder, parts=parts, options=FetchOptions(mirror))
        click.echo(json.dumps(plan) if as_json else _plan_text(plan))
        return
    with progress_bar() as show:
        report = fetch_data(dataset, folder, parts=parts, options=FetchOptions(mirror, show))
    click.echo(json.dumps(report) if as_json else _report_text(report))


def _plan_text(plan: dict[str, Any]) -> str:
    lines = []
    for row in plan["archives"]:
        size = f"about {_megabytes(row['about'])}" if row["size"] is None else f"{row['size']} bytes"
        state = ", there already" if row["there"] else ""
        lines.append(f"{row['part']}: {size}, SHA-256 {row['sha256'] or 'not published'}{state}")
        lines += [f"  {url}" for url in row["urls"]]
    lines.append(f"{plan['out']}: about {_megabytes(plan['disk_bytes_about'])} of disk needed")
    return "\n".join(lines)


def _report_text(report: dict[str, Any]) -> str:
    lines = []
    for row in report["archives"]:
        known = "as published" if row["published"] else "recorded; none is published"
        state = "was there" if row["there"] else "fetched"
        content = ", ".join(row["content"])
        lines.append(f"{row['part']}: {state}, {row['size']} bytes, SHA-256 {row['sha256']} ({known})")
        lines.append(f"  {report['out']}: {content}")
    return "\n".join(lines)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
