"""What commands print on stdout."""

from typing import Any

import click


def echo_json(document: Any) -> None:
    """Print one JSON document."""
    from detector.files import to_json

    click.echo(to_json(document), nl=False)


def echo_metrics(result: dict[str, Any]) -> None:
    """Print the metrics, one a line, in percent; "-" where the data has nothing of that size.

    A model with masks has a second column, for the overlap of masks.
    """
    masks = result.get("mask_metrics", {})
    kinds = "box and mask" if masks else "box"
    click.echo(f"{result['data']}, {result['num_images']} images, {kinds} metrics in percent")
    for name, value in result["metrics"].items():
        click.echo(f"{name:<6}{_percent(value)}" + (_percent(masks[name]) if name in masks else ""))


def _percent(value: float) -> str:
    return f"{'-' if value < 0 else f'{100 * value:.1f}':>6}"
