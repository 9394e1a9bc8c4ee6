"""The `kgtool` command: a second spelling of the library.

A command parses, calls one function and prints. stdout is data, stderr is progress and messages.
"""

import os
import signal
import sys
from importlib import import_module

import click

from kgtool import __version__
from kgtool.cli.printable import tell
from kgtool.errors import KgtoolError

#: Where each command lives. A command's module is imported only when the command is used,
#: so that `kgtool --help` does not pay for pandas and pyarrow.
COMMANDS = {
    "build-relation": ("kgtool.cli.build", "build_relation", "Class graph from relationships."),
    "build-attribute": ("kgtool.cli.build", "build_attribute", "Class graph from attributes."),
    "build-cooccurrence": (
        "kgtool.cli.cooccurrence",
        "build_cooccurrence",
        "Class graph from your own boxes.",
    ),
    "merge": ("kgtool.cli.merge", "merge", "Graphs of shards into the graph of the whole."),
    "triples": ("kgtool.cli.triples", "triples", "Annotations as Parquet shards that any engine counts."),
    "boxes": ("kgtool.cli.boxes", "boxes", "Boxes and masks from mask images, as COCO JSON."),
    "convert": ("kgtool.cli.convert", "convert", "Annotations of a data set as COCO JSON."),
    "split": ("kgtool.cli.split", "split", "Train and test sets as COCO JSON, with the class list."),
    "validate": ("kgtool.cli.validate", "validate", "Everything that is wrong with a COCO file."),
    "stats": ("kgtool.cli.stats", "stats", "What is in a COCO file: counts, long tail, sizes."),
    "preview": ("kgtool.cli.preview", "preview", "Images of a COCO file with their boxes, as one picture."),
    "map": ("kgtool.cli.map", "map_", "Class names to WordNet synsets and to Visual Genome's."),
    "project": ("kgtool.cli.project", "project", "A graph onto another class list, as COCO's."),
    "leak": ("kgtool.cli.leak", "leak", "Validation images behind a graph."),
    "fetch": ("kgtool.cli.fetch", "fetch", "Data sets from where they are published."),
    "check": ("kgtool.cli.graph", "check", "Say whether a graph file is valid."),
    "show": ("kgtool.cli.graph", "show", "Header of a graph, or the top edges of a class."),
    "report": ("kgtool.cli.report", "report", "What is wrong with a graph; a gate for builds."),
    "explore": ("kgtool.cli.explore", "explore", "A graph as a page to search in a browser."),
    "diff": ("kgtool.cli.diff", "diff", "How two graphs differ."),
    "export": ("kgtool.cli.export", "export", "A graph for Gephi, Graphviz, spreadsheets, PyTorch."),
    "import-release": ("kgtool.cli.export", "import_release", "A graph of a published pickled matrix."),
    "controls": ("kgtool.cli.controls", "controls", "Control graphs for experiments."),
    "doctor": ("kgtool.cli.doctor", "doctor", "What is installed and in use, and how to get the rest."),
    "sample": ("kgtool.cli.sample", "sample", "Write a sample world: images, annotations, relations."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `COMMANDS`: the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the near names of a command that does not exist."""
        if args and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 bad input, 4 class lists differ, "
    "5 something not installed, 6 gate not met, 130 interrupted, 143 terminated.",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "KGTOOL"},
)
@click.version_option(__version__, prog_name="kgtool")
def group() -> None:
    """Make class graphs, class lists and splits from Visual Genome or your own annotations.

    Example: kgtool build-relation relationships.json --classes 1000 --out relation.npz
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line; every error meant for the user becomes one line and an exit code."""
    if args is None:
        # As an exception, so that what is half-written is removed on the way out.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status = group.main(args=args, prog_name="kgtool", standalone_mode=False)
    except KgtoolError as error:
        tell(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written to
        place = f"{error.filename}: " if error.filename else ""
        tell(f"{place}{error.strerror or error}")
        sys.exit(KgtoolError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("kgtool: interrupted", err=True)
        sys.exit(130)
    code = status if isinstance(status, int) else 0
    if args is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End this process without taking its modules down: for ibis and DuckDB that takes a fifth of a second.

    All files are closed and all workers have ended by now.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read the output has gone
        code = KgtoolError.exit_code
    os._exit(code)
