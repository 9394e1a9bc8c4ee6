"""A file on its way: what has arrived, its SHA-256 so far, and which version of the original it is of."""

import fcntl
import hashlib
import os
from pathlib import Path

import msgspec

from kgtool.errors import KgtoolError

_CHUNK = 1 << 20


class Version(msgspec.Struct, frozen=True):
    """Which version of a file at a URL was received: what may be continued, and what may not.

    Attributes:
        url: where it came from.
        validator: its strong ETag or its date, for the header If-Range; "" where the server gives neither.
    """

    url: str = ""
    validator: str = ""


class PartialFile:
    """NAME.part beside the file to be, and NAME.part.json with its `Version`. Close it.

    Attributes:
        size: bytes that have arrived.
        version: of what they are.
        path: where they are.

    Args:
        path: the file to be.

    Raises:
        KgtoolError: another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.version = Version()
        self._target = path
        self._done = False
        self.path = path.with_name(f"{path.name}.part")
        self._version_path = path.with_name(f"{path.name}.part.json")
        self._sha256 = hashlib.sha256()
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise KgtoolError(f"{self.path}: another process is writing it; wait for that one") from None
        if not self._is_in_place():
            self._file.close()
            raise KgtoolError(f"{self.path}: another process has just finished it; look for {path}")
        self._read_version()
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)

    def append(self, data: bytes) -> None:
        """Add what has arrived."""
        self._file.write(data)
        self._count(data)

    def restart(self, version: Version) -> None:
        """Forget what has arrived; what comes now is of another version."""
        self._file.truncate(0)
        self.size = 0
        self._sha256 = hashlib.sha256()
        self.version = version
        self._version_path.write_bytes(msgspec.json.encode(version))

    def sha256(self) -> str:
        """SHA-256 of what has arrived, in hexadecimal."""
        return self._sha256.hexdigest()

    def finish(self) -> None:
        """Make it the file: complete and on the disk, in one step."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.path.replace(self._target)
        self._done = True
        self._version_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close it; what has arrived stays for the next time."""
        if not self._done and not self.size:
            self.path.unlink(missing_ok=True)
            self._version_path.unlink(missing_ok=True)
        self._file.close()

    def _is_in_place(self) -> bool:
        """Whether what was opened is still this path, and not by now the whole file, under its own name."""
        return self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))

    def _count(self, data: bytes) -> None:
        self.size += len(data)
        self._sha256.update(data)

    def _read_version(self) -> None:
        try:
            self.version = msgspec.json.decode(self._version_path.read_bytes(), type=Version)
        except (OSError, msgspec.DecodeError):
            self._file.truncate(0)  # nothing says what it is a part of
