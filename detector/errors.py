"""Everything detector raises on purpose, and the exit code each becomes.

    DetectorError             1  could not be done (a file that cannot be read or written)
    ├── OutputExistsError     1  the run or output is already there and --overwrite was not given
    ├── ConfigError           2  an unknown recipe, setting or value
    ├── InputError            3  the data set, checkpoint or image is not what it should be
    ├── ClassMatchError       4  the graph, the data and the checkpoint do not name the same classes
    ├── MissingResourceError  5  an optional package or data file is not installed
    └── TrainingError         1  training cannot go on (the loss is not finite)

Usage errors are click's (exit code 2); Ctrl-C is 130. Errors of kgtool keep their own exit code.
"""


class DetectorError(Exception):
    """Base of all errors meant for the user: one line, no traceback."""

    exit_code = 1


class OutputExistsError(DetectorError):
    """Nothing is overwritten silently."""


class ConfigError(DetectorError):
    """An unknown recipe, setting or value; the message names the near ones."""

    exit_code = 2


class InputError(DetectorError):
    """Bad input. The message says place, found, expected and remedy."""

    exit_code = 3


class ClassMatchError(DetectorError):
    """Graph, data and checkpoint should name the same classes and do not."""

    exit_code = 4


class MissingResourceError(DetectorError):
    """Something optional is not installed; the message says how to get it."""

    exit_code = 5


class TrainingError(DetectorError):
    """Training cannot go on."""
