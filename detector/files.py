"""Writing files so that a crash leaves the last good state, and nothing is overwritten silently."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.errors import DetectorError, InputError, OutputExistsError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it onto `path` when the block ends without an error.

    The move is atomic on one file system: a reader sees the old file or the whole new one, never a part.

    Raises:
        DetectorError: the folder to write into does not exist or cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:  # from before the file is there, so that Ctrl-C leaves none whenever it comes
        try:
            part.touch(exist_ok=False)
        except OSError as error:
            raise DetectorError(f"{path}: cannot be written: {error.strerror}") from error
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def to_json(document: Any) -> str:
    """Convert a document to indented JSON that ends in a newline; NaN and infinity are refused."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def save_json(document: Any, path: Path) -> None:
    """Write a document as JSON, atomically."""
    with atomic_path(path) as part:
        part.write_text(to_json(document), encoding="utf-8")


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file is missing, is not JSON, or is not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: found a JSON {type(document).__name__}; expected an object")
    return document


def check_folder_free(folder: Path, *, overwrite: bool) -> None:
    """Check, before any long work, that results may be written into `folder`.

    Raises:
        OutputExistsError: the folder holds something and `overwrite` is false.
        DetectorError: the place is taken by a file, or the folder around it does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise DetectorError(f"{folder}: is a file; expected a folder, or a name that is free")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise OutputExistsError(f"{folder}: already exists; give --overwrite to replace it, or another --out")
    if not folder.exists() and not folder.parent.is_dir():
        raise DetectorError(f"{folder}: folder {folder.parent} does not exist; create it first")


def check_file_free(path: Path, *, overwrite: bool) -> None:
    """Check, before any long work, that a result may be written to `path`.

    Raises:
        OutputExistsError: it is there and `overwrite` is false.
        DetectorError: it is a folder, or the folder around it does not exist.
    """
    if path.is_dir():
        raise DetectorError(f"{path}: is a folder; expected a file, or a name that is free")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: already exists; give --overwrite to replace it, or another name")
    if not path.parent.is_dir():
        raise DetectorError(f"{path}: folder {path.parent} does not exist; create it first")
