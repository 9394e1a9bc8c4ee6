"""What the documents say is what the commands do."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]


def all_commands() -> list[tuple[str, click.Command]]:
    from detector.cli import group as detector
    from kgtool.cli import group as kgtool

    found = []

    def walk(command: click.Command, path: str) -> None:
        found.append((path, command))
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                walk(command.get_command(context, name), f"{path} {name}")

    walk(kgtool, "kgtool")
    walk(detector, "detector")
    return found


def test_the_page_of_commands_is_fresh() -> None:
    """In a process of its own: click keeps a command's first help option, whoever asked for it."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate_cli.py", "--check"])
    assert done.returncode == 0, "run: python docs/generate_cli.py"


@pytest.mark.parametrize(
    ("path", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_help_and_an_example(path: str, command: click.Command) -> None:
    assert command.help, f"{path} has no help"
    if not isinstance(command, click.Group):
        assert f"Example: {path}" in re.sub(r"\s+", " ", command.help.replace("\b", "")), (
            f"{path}: no runnable example"
        )
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{path} {parameter.opts[0]} has no help"


def test_links_between_documents_lead_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "data" / "README.md",
    ]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
