"""Writing files so that a crash leaves the last good state, and nothing is overwritten silently."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kgtool.errors import KgtoolError, OutputExistsError


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Check, before any long work, that `path` may be written.

    Raises:
        OutputExistsError: the file is there and `overwrite` is false.
        KgtoolError: the folder to write into does not exist, or may not be written to.
    """
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
        KgtoolError: the folder to write into does not exist, or may not be written to.
    """
    check_writable(path, overwrite=overwrite)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends without an error.

    With `overwrite` an existing folder is replaced as a whole, after the new one is complete.

    Raises:
        OutputExistsError: the folder is there, is not empty, and `overwrite` is false.
        KgtoolError: the folder to write into does not exist, or may not be written to.
    """
    import shutil

    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not overwrite:
        raise OutputExistsError(f"{path}: already exists; give --overwrite to replace it, or another --out")
    _check_folder(path)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o777 & ~umask)
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(retired)
            part.replace(path)
            shutil.rmtree(retired)
        else:
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
