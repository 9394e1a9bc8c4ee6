"""What a .zip or .tar holds, as files below a folder: never outside it, never more than the disk takes.

Every entry is checked before the first byte is written. Files are created by this module, not by `zipfile`
or `tarfile`: plain files and folders with plain permissions, whatever the archive says of owners and modes.
"""

import fcntl
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from filecmp import cmp
from functools import partial
from pathlib import Path
from typing import IO

from kgtool.download import Progress, check_room
from kgtool.errors import InputError, KgtoolError, OutputExistsError

_CHUNK = 1 << 20
#: What reading a damaged archive raises; names that are not in the encoding they say are UnicodeDecodeError.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold: more is an error before anything is written.

    Attributes:
        entries: files and folders.
        num_bytes: of all files together.
        ratio: bytes of all files to bytes of the archive; Visual Genome's JSON has about 10.
        free_bytes: so many bytes are allowed whatever the ratio.
    """

    entries: int = 1_000_000
    num_bytes: int = 200 << 30
    ratio: float = 100.0
    free_bytes: int = 10 << 20


@dataclass(frozen=True)
class _Entry:
    """One file of an archive: its parts below the folder, bytes, and what opens it."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


_USUAL = Limits()


def extract(
    archive: Path, folder: Path, *, limits: Limits = _USUAL, on_progress: Progress | None = None
) -> tuple[str, ...]:
    """Extract a .zip or a plain .tar into a folder that is there.

    All is written beside the folder's content first and moved when it is complete. What is there already
    stays: a file that is the same is passed over, another one is an error before anything is moved.

    Args:
        archive: told apart by its content.
        folder: where to.
        limits: what it may hold.
        on_progress: told how far it is.

    Returns:
        The names at the top of the archive, sorted.

    Raises:
        InputError: the archive is damaged, too large for the limits, or has an entry that is no plain file or
            folder below the folder.
        OutputExistsError: another file is there.
        KgtoolError: the disk has no room for it, or another process is extracting it there.
    """
    report = on_progress or (lambda *_: None)
    with _entries(archive, limits) as entries, _staging(folder / f".{archive.name}.part") as staging:
        total = sum(entry.size for entry in entries)
        check_room(folder, total, archive.name)
        done = 0
        for entry in entries:
            done += _write(entry, staging, archive.name)
            report(archive.name, done, total)
        _move(staging, folder, [entry.parts for entry in entries])
    return tuple(sorted({entry.parts[0] for entry in entries}))


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    """An empty folder for this process alone, gone at the end.

    Its name is fixed and it is locked, so that what a killed process left is told from what another one is
    writing: the lock of a process ends with it.

    Raises:
        KgtoolError: another process has it.
    """
    path.mkdir(exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise KgtoolError(f"{path}: another process is extracting there; wait for that one") from None
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(folder)):
            raise KgtoolError(f"{path}: another process has just extracted there; try again")
        try:
            _empty(path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(folder)


def _empty(folder: Path) -> None:
    for found in folder.iterdir():
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink()


@contextmanager
def _entries(archive: Path, limits: Limits) -> "Iterator[list[_Entry]]":
    """The files of an archive, checked; it is open meanwhile."""
    try:
        if _head(archive) in (b"PK\3\4", b"PK\5\6"):
            with zipfile.ZipFile(archive) as opened:
                entries = _zip_entries(opened, archive.name, limits)
                _check_sizes(entries, archive, limits)
                yield entries
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:") as opened_tar:
                entries = _tar_entries(opened_tar, archive.name, limits)
                _check_sizes(entries, archive, limits)
                yield entries
        else:
            raise InputError(f"{archive.name}: found neither zip nor tar; remove it and fetch it again")
    except _DAMAGED as error:
        raise _damaged(archive.name, error) from None
    except OSError as error:
        if error.errno is not None:  # the system's: a full disk
            raise
        raise _damaged(archive.name, error) from None  # what bz2 raises


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: cannot be read ({error}); remove it and fetch it again")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _zip_entries(opened: zipfile.ZipFile, name: str, limits: Limits) -> list[_Entry]:
    found = opened.infolist()
    _check_number(len(found), name, limits)
    entries = []
    for info in found:
        parts = _parts(info.filename, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            raise InputError(f"{name}, {info.filename}: found an encrypted entry; expected none")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{name}, {info.filename}: found a link or device; expected files and folders")
        if not info.is_dir():
            entries.append(_Entry(parts, info.file_size, partial(opened.open, info)))
    return entries


def _tar_entries(opened: tarfile.TarFile, name: str, limits: Limits) -> list[_Entry]:
    entries = []
    for number, member in enumerate(opened, start=1):
        _check_number(number, name, limits)
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise InputError(
                f"{name}, {member.name}: found a link, device or sparse file; expected files and folders"
            )
        if member.isdir() and member.name.strip("/") in ("", "."):
            continue
        parts = _parts(member.name, name)
        if member.isreg():
            entries.append(_Entry(parts, member.size, partial(_opened, opened, member)))
    return entries


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # a plain file
    return file


def _parts(path: str, name: str) -> tuple[str, ...]:
    """The parts of an entry's path.

    Raises:
        InputError: it could lead out of the folder, on this system or another one.
    """
    parts = tuple(part for part in path.rstrip("/").split("/") if part != ".")
    bad = any(part in ("", "..") or "\\" in part or "\0" in part or len(part) > 250 for part in parts)
    if not parts or bad or parts[0].endswith(":") or parts[0][1:2] == ":":
        raise InputError(f"{name}: found the entry {path[:200]!r}; expected a path below the folder")
    return parts


def _check_number(entries: int, name: str, limits: Limits) -> None:
    if entries > limits.entries:
        raise InputError(f"{name}: found more than {limits.entries} entries; expected a data set's archive")


def _check_sizes(entries: Sequence[_Entry], archive: Path, limits: Limits) -> None:
    """Check the bytes that an archive says it holds, and that no entry is another one's folder."""
    total, size = sum(entry.size for entry in entries), archive.stat().st_size
    allowed = min(limits.num_bytes, max(limits.free_bytes, int(limits.ratio * size)))
    if total > allowed:
        raise InputError(
            f"{archive.name}: found {total} bytes in {size} of archive; expected at most {allowed}; it may "
            "be made to fill the disk"
        )
    files: set[tuple[str, ...]] = set()
    for entry in entries:
        if entry.parts in files:
            path = "/".join(entry.parts)
            raise InputError(f"{archive.name}: found the entry {path!r} twice; expected it once")
        files.add(entry.parts)
    for entry in entries:
        if any(entry.parts[:length] in files for length in range(1, len(entry.parts))):
            path = "/".join(entry.parts)
            raise InputError(f"{archive.name}: found {path!r} below a file; expected it below a folder")


def _write(entry: _Entry, staging: Path, name: str) -> int:
    """Write one file; as many bytes as it said, and no more."""
    path = staging.joinpath(*entry.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with entry.open() as source, path.open("xb") as file:
        while data := source.read(_CHUNK):
            size += len(data)
            if size > entry.size:
                break
            file.write(data)
    if size != entry.size:
        raise InputError(
            f"{name}, {'/'.join(entry.parts)}: found another number of bytes than the {entry.size} it says; "
            "remove it and fetch it again"
        )
    return size


def _move(staging: Path, folder: Path, files: Sequence[tuple[str, ...]]) -> None:
    """Move what was extracted to its place: folders that are not there in one step, else file by file."""
    fresh: dict[tuple[str, ...], None] = {}  # what is moved as a whole
    for parts in files:
        at = next((n for n in range(1, len(parts)) if not folder.joinpath(*parts[:n]).exists()), len(parts))
        target = folder.joinpath(*parts[:at])
        if not target.exists() and target.parent.is_dir():
            fresh[parts[:at]] = None
        elif not target.is_file() or not cmp(staging.joinpath(*parts), target, shallow=False):
            raise OutputExistsError(
                f"{target}: already exists with other content; move it away, or give another --out"
            )
    for parts in fresh:
        staging.joinpath(*parts).replace(folder.joinpath(*parts))
