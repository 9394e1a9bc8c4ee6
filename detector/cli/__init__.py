"""The `detector` command: a second spelling of the library.

A command parses, calls one function and prints. stdout is data, stderr is progress and messages.
"""

import os
import signal
import sys
from importlib import import_module
from importlib.metadata import version

import click

# Threads that wait for each other sleep instead of spinning: beside other work on the same cores, spinning
# makes a small model several times slower. OpenMP reads this when torch is first imported, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Where each command lives. A command's module is imported only when the command is used,
#: so that `detector --help` does not pay for torch.
COMMANDS = {
    "train": ("detector.cli.train", "train_command", "Train a detector and evaluate it."),
    "eval": ("detector.cli.evaluate", "eval_command", "The twelve COCO numbers of a trained detector."),
    "compare": (
        "detector.cli.compare",
        "compare_command",
        "Two trained detectors on the same images, with intervals.",
    ),
    "predict": ("detector.cli.predict", "predict_command", "COCO results and pictures of images and videos."),
    "explain": (
        "detector.cli.explain",
        "explain_command",
        "The classes, edges and objects behind each score.",
    ),
    "embed": (
        "detector.cli.embed",
        "embed_command",
        "Objects as points, before and after reasoning.",
    ),
    "ablate": ("detector.cli.ablate", "ablate_command", "A method beside its controls, with intervals."),
    "rescore": (
        "detector.cli.rescore",
        "rescore_command",
        "A class graph on the detections of any detector.",
    ),
    "export": ("detector.cli.export", "export_command", "A detector as ONNX or torch.export, checked."),
    "push": ("detector.cli.push", "push_command", "A run to the Hugging Face Hub."),
    "pull": ("detector.cli.pull", "pull_command", "A run from the Hugging Face Hub."),
    "pretrain": ("detector.cli.pretrain", "pretrain_command", "Train a backbone as a classifier."),
    "cost": ("detector.cli.cost", "cost_command", "What a recipe costs beside its base."),
    "recipes": ("detector.cli.recipes", "recipes_command", "List the recipes, or the settings of one."),
    "doctor": ("detector.cli.doctor", "doctor_command", "What is installed and in use, and what to do."),
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
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 bad input, 4 class lists differ, "
    "5 something not installed, 130 interrupted, 143 terminated.",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DETECTOR"},
)
@click.version_option(version("kgtool-detector"), prog_name="detector")
def group() -> None:
    """Train and use object detectors that reason over class graphs.

    Example: detector train --data data/sample --graph relation.npz --recipe reasoning_rcnn_sample --out run
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line; every error meant for the user becomes one line and an exit code."""
    if args is None:
        # As an exception, so that what is half-written is removed, and what was learned saved, on the way.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status = group.main(args=args, prog_name="detector", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("detector: interrupted", err=True)
        sys.exit(130)
    except OSError as error:  # a full disk, a folder that may not be written to
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"detector: {place}{error.strerror or error}", err=True)
        sys.exit(1)
    except Exception as error:
        # DetectorError, and KgtoolError through the wall, carry their exit code; anything else is a bug.
        exit_code = getattr(error, "exit_code", None)
        if not isinstance(exit_code, int):
            raise
        click.echo(f"detector: {error}", err=True)
        sys.exit(exit_code)
    sys.exit(status if isinstance(status, int) else 0)
