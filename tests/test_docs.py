"""What the documents say is what the commands do."""

import re
import shlex
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


def lines_of_code(page: Path) -> list[str]:
    """The lines of a page's shell blocks, continued ones joined, without comments."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|text|console)\n(.*?)^```", text, re.M | re.S)
    blocks += re.findall(r"(?:^    \S.*\n)+", text, re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s#.*", "", line).strip() for line in lines]


def commands_of(page: Path) -> list[list[str]]:
    lines = [line for line in lines_of_code(page) if re.match(r"(kgtool|detector) [a-z]", line)]
    return [shlex.split(line) for line in lines]


def wrong_with(words: list[str]) -> str:
    """What the command line of a document has that the command has not, or the other way round."""
    command = dict(all_commands())[words[0]]
    words = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return f"no command {words[0]}"
        command, words = found, words[1:]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    known = {name for option in options for name in option.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    if given - known:
        return f"no option {', '.join(sorted(given - known))}"
    missing = [option.opts[0] for option in options if option.required and not given & set(option.opts)]
    return f"{', '.join(missing)} is missing" if missing else ""


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_command_lines_of_the_documents_are_what_the_commands_take(page: Path) -> None:
    if page.name == "cli.md":
        pytest.skip("is generated")
    wrong = {" ".join(words): wrong_with(words) for words in commands_of(page)}
    assert {line: why for line, why in wrong.items() if why} == {}
    if page.name == "README.md":
        assert len(wrong) >= 10


def test_links_between_documents_lead_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "data" / "README.md",
    ]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
