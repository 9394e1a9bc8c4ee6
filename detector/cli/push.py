"""`detector push`."""

from dataclasses import asdict
from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("push")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="OWNER/NAME", help="Repository; made where there is none.")
@click.option(
    "--private",
    is_flag=True,
    default=False,
    help="Make a new repository private; one that is public is refused.",
)
@click.option("--overwrite", is_flag=True, default=False, help="Replace the run that the repository holds.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def push_command(run: Path, to: str, private: bool, overwrite: bool, as_json: bool) -> None:
    """Push a finished run to the Hugging Face Hub: weights, settings, classes, metrics, and its card.

    Weights go as safetensors, all else as JSON, CSV, PNG and Markdown; the training state and the log stay
    here. Needs the extra hub, and a token (`hf auth login`, or HF_TOKEN).

    Example: detector push run --to alice/birds --private
    """
    from detector.hub import push_run

    pushed = push_run(run, to, private=private, overwrite=overwrite)
    if as_json:
        echo_json(asdict(pushed))
        return
    click.echo(f"{pushed.url}: {len(pushed.files)} files, commit {pushed.commit}")
