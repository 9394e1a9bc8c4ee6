"""What commands print on stdout."""

from typing import Any

import click


def echo_json(document: Any) -> None:
    """Print one JSON document."""
    from detector.files import to_json

    click.echo(to_json(document), nl=False)


def echo_metrics(result: dict[str, Any]) -> None:
    """Print the twelve COCO numbers, one a line, in percent; "-" where the data has nothing of that size."""
    click.echo(f"{result['data']}, {result['num_images']} images, COCO box metrics in percent")
    for name, value in result["metrics"].items():
        shown = "-" if value < 0 else f"{100 * value:.1f}"
        click.echo(f"{name:<6}{shown:>6}")
