"""`detector pull`."""

from pathlib import Path

import click

from detector.cli.output import echo_json


@click.command("pull")
@click.argument("source", metavar="OWNER/NAME[@REVISION]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def pull_command(source: str, out: Path, as_json: bool) -> None:
    """Pull a run from the Hugging Face Hub.

    Only files that a run has are fetched, none of them a pickle; the run is loaded before the folder is made,
    so that weights, settings and classes fit. Needs the extra hub.

    Example: detector pull alice/birds --out run
    """
    from detector.hub import pull_run

    files = pull_run(source, out)
    if as_json:
        echo_json({"run": str(out), "files": files})
        return
    click.echo(f"{out}: {', '.join(files)}")
