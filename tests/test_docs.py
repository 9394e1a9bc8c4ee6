"""What the documents say is what the commands do."""

import importlib.util
import re
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs" / "generate_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    generator = load_generator()
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run: python docs/generate_cli.py"


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
