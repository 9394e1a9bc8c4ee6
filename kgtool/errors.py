"""Everything kgtool raises on purpose, and the exit code each becomes.

    KgtoolError               1  could not be done (a file that cannot be read or written)
    ├── OutputExistsError     1  the output is already there and --overwrite was not given
    ├── InputError            3  the input is not what it should be
    │   └── GraphFormatError  3  a class-graph file that breaks a rule of docs/graph-format.md
    ├── ClassMatchError       4  two class lists that should agree do not
    ├── MissingResourceError  5  an optional package or data file is not installed
    └── GateError             6  a check asked for with --fail or --fail-under was not met

Usage errors are click's (exit code 2); Ctrl-C is 130, SIGTERM 143.
"""


class KgtoolError(Exception):
    """Base of all errors meant for the user: one line, no traceback."""

    exit_code = 1


class OutputExistsError(KgtoolError):
    """Nothing is overwritten silently."""


class InputError(KgtoolError):
    """Bad input. The message says place, found, expected and remedy."""

    exit_code = 3


class GraphFormatError(InputError):
    """A class-graph file that breaks a rule of the format."""


class ClassMatchError(KgtoolError):
    """Class lists that should name the same classes and do not."""

    exit_code = 4


class MissingResourceError(KgtoolError):
    """Something optional is not installed; the message says how to get it."""

    exit_code = 5


class GateError(KgtoolError):
    """A quality gate that the user asked for was not met."""

    exit_code = 6
