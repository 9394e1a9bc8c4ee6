"""`kgtool doctor`."""

import json
from typing import Any

import click

from kgtool.errors import MissingResourceError


@click.command()
@click.option(
    "--wordnet",
    default="",
    metavar="SOURCE",
    help="Look at this WordNet: shipped, nltk, or a directory. Default: KGTOOL_WORDNET, else shipped.",
)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def doctor(wordnet: str, as_json: bool) -> None:
    """Say what is installed, which WordNet is in use, and how to get the others.

    Exit code 5 when something needed is missing.

    Example: kgtool doctor --json
    """
    from kgtool.doctor import diagnose

    report = diagnose(wordnet)
    if as_json:
        click.echo(json.dumps(report, indent=2, sort_keys=True))
    else:
        _print(report)
    if report["problems"]:
        raise MissingResourceError("; ".join(report["problems"]))


def _print(report: dict[str, Any]) -> None:
    click.echo(f"kgtool {report['kgtool']}, Python {report['python']}, {report['platform']}")
    click.echo("\nPackages")
    for package in report["packages"]:
        missing = f"not installed; pip install 'kgtool-detector[{package['extra']}]'"
        if package["extra"] is None:
            missing = f"not installed; pip install '{package['wanted']}'"
        click.echo(f"  {package['name']:<20} {package['version'] or missing}")
    wordnet = report["wordnet"]
    click.echo(f"\nWordNet in use: {wordnet['in_use']} (chosen by {wordnet['chosen_by']})")
    if wordnet["version"] is not None:
        glosses = "with glosses" if wordnet["glosses"] else "without glosses"
        click.echo(f"  version {wordnet['version']}, {wordnet['num_synsets']:,} noun synsets, {glosses}")
    click.echo("WordNet that --wordnet or KGTOOL_WORDNET can name")
    for source in wordnet["sources"]:
        state = f"found in {source['place']}" if source["found"] else f"not found: {source['how_to_get']}"
        click.echo(f"  {source['name']:<20} {state}")
