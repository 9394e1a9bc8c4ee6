"""Writing files so that a crash leaves the last good state, and nothing is overwritten silently.

A process that is killed at once (SIGKILL, a power cut) can leave what it was writing, under a hidden name
that ends in .part, beside the output; and, of a folder that was just being replaced, the old one, which ends
in .old. Nothing ever reads these, and none is in the way of the next run: they may be removed. Ctrl-C and
SIGTERM leave none.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from kgtool.errors import KgtoolError, OutputExistsError


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Check, before any long work, that `path` may be written.

    Raises:
        OutputExistsError: the file is there and `overwrite` is false.
        KgtoolError: it is a folder, or the folder to write into does not exist or may not be written to.
    """
    if path.is_dir():
        raise KgtoolError(f"{path}: is a folder; expected a file, or a name that is free")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: already exists; give --overwrite to replace it, or another --out")
    _check_folder(path)


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise KgtoolError(f"{path}: folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise KgtoolError(f"{path}: folder {path.parent} may not be written to; choose another --out")


@contextmanager
def atomic_path(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` when the block ends without an error.

    The move is atomic on one file system: a reader sees the old file or the whole new one, never a part.

    Raises:
        OutputExistsError: the file is there and `overwrite` is false.
        KgtoolError: it is a folder, or the folder to write into does not exist or may not be written to.
    """
    check_writable(path, overwrite=overwrite)
    part = _beside(path, "part")
    try:  # from before the file is there, so that Ctrl-C leaves none whenever it comes
        try:
            part.touch(exist_ok=False)
        except OSError as error:
            raise KgtoolError(f"{path}: cannot be written: {error.strerror}") from None
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, contents: Sequence[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends without an error.

    With `overwrite` an existing folder is replaced as a whole, after the new one is complete.

    Args:
        path: the folder to be.
        contents: names, or patterns of names, at the top of such a folder. With anything else in it a folder
            is not replaced: it may be the user's pictures.
        overwrite: replace it.

    Raises:
        OutputExistsError: the folder is there, is not empty, and `overwrite` is false; or it holds other
            things than `contents`.
        KgtoolError: a file is there, or the folder to write into does not exist or may not be written to.
    """
    if path.exists() and not path.is_dir():
        raise KgtoolError(f"{path}: is a file; expected a folder, or a name that is free")
    if path.exists() and any(path.iterdir()) and not overwrite:
        raise OutputExistsError(f"{path}: already exists; give --overwrite to replace it, or another --out")
    for found in sorted(path.iterdir()) if path.exists() else ():
        if not any(fnmatchcase(found.name, pattern) for pattern in contents):
            raise OutputExistsError(
                f"{path}: found {found.name!r}; --overwrite replaces only what this command writes "
                f"({', '.join(contents)}); move it away, or give another --out"
            )
    _check_folder(path)
    path = path.resolve()  # the working folder has no name of its own
    part, retired = _beside(path, "part"), _beside(path, "old")
    try:
        try:
            part.mkdir()
        except OSError as error:
            raise KgtoolError(f"{path}: cannot be written: {error.strerror}") from None
        yield part
        if path.exists():
            path.replace(retired)
        part.replace(path)
    finally:
        if retired.exists() and not path.exists():
            retired.replace(path)
        for folder in (part, retired):
            shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    """A hidden name that nothing has yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{suffix}")
