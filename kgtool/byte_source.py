"""The bytes of an input: a plain file, a .gz, a .zip with one member, or standard input.

What a file is, is told by its first bytes and not by its name. The SHA-256 of the decompressed content is
taken in a thread while the bytes pass, so that it costs no second reading.
"""

import hashlib
import io
import sys
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

from kgtool.errors import InputError

STDIN = "-"
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_DAMAGE = (EOFError, zlib.error, zipfile.BadZipFile, OSError)


def sha256_of(path: Path | str) -> str:
    """64 hexadecimal digits over the bytes of a file as it lies on disk."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ByteSource:
    """Decompressed bytes of one input, read once from front to end.

    Attributes:
        name: file name without its folder, or "stdin".
        size: bytes of the file as it lies on disk; None for standard input.
        num_files: 1.

    Raises:
        InputError: there is no such file, it cannot be read, or it is an archive of several files.
    """

    num_files = 1

    def __init__(self, path: Path | str) -> None:
        self.name = "stdin" if str(path) == STDIN else Path(path).name
        self.size: int | None = None
        self._file = self._open(path)
        try:
            self._stream = self._decompressed()
        except InputError:
            self._close_file()
            raise
        self._digest = hashlib.sha256()
        self._hasher: ThreadPoolExecutor | None = None
        self._hashing: Future[None] | None = None

    def readinto(self, view: memoryview) -> int:
        """Fill `view` as far as the input reaches; fewer bytes than asked for mean its end.

        The caller hands every byte to `hash`, once and in order.

        Raises:
            InputError: the input is damaged or cut off (compressed files know), or cannot be read.
        """
        self.finish_hash()
        filled = 0
        while filled < len(view):
            try:
                count = self._stream.readinto(view[filled:])  # type: ignore[attr-defined]
            except _DAMAGE as error:
                raise InputError(
                    f"{self.name}: found a damaged or cut off file ({error}); download or copy it again"
                ) from None
            if not count:
                break
            filled += count
        return filled

    def read(self, size: int) -> bytes:
        """The next `size` bytes, hashed; fewer at the end of the input.

        Raises:
            InputError: the input is damaged or cut off, or cannot be read.
        """
        data = bytearray(size)
        data = data[: self.readinto(memoryview(data))]
        self.hash(data)
        return bytes(data)

    def hash(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes into the hash, in a thread: they must stay as they are until `finish_hash`.

        A view is released there, so that after `finish_hash` the memory it shows can be closed.
        """
        self._hasher = self._hasher or ThreadPoolExecutor(max_workers=1)
        self._hashing = self._hasher.submit(self._update_digest, data)

    def finish_hash(self) -> None:
        """Wait until all bytes handed to `hash` are hashed and no longer needed."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def position(self) -> int:
        """Bytes of the file on disk (compressed where it is) that have been read so far."""
        try:
            return self._file.tell()
        except OSError:  # a pipe
            return 0

    def where(self, offset: int, record: int) -> str:
        """A place in the input, for a message."""
        return f"{self.name}, record {record} (byte {offset})"

    def sha256(self) -> str:
        """64 hexadecimal digits over all decompressed bytes that were read."""
        self.finish_hash()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self.finish_hash()
        if self._hasher is not None:
            self._hasher.shutdown()
        if self._stream is not self._file:
            self._stream.close()
        self._close_file()

    def _update_digest(self, data: bytes | bytearray | memoryview) -> None:
        self._digest.update(data)
        if isinstance(data, memoryview):
            data.release()

    def _close_file(self) -> None:
        if self.size is not None:
            self._file.close()

    def _open(self, path: Path | str) -> io.BufferedReader:
        if str(path) == STDIN:
            return cast(io.BufferedReader, sys.stdin.buffer)
        try:
            file = Path(path).open("rb")  # noqa: SIM115 (closed by `close`)
            self.size = Path(path).stat().st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file of JSON") from None
        return file

    def _decompressed(self) -> IO[bytes]:
        """The stream of decompressed bytes, by the first bytes of the file."""
        try:
            magic = self._file.peek(4)[:4]
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror})") from None
        if magic[:2] == _GZIP:
            import gzip

            return cast(IO[bytes], gzip.GzipFile(fileobj=self._file))
        if magic == _ZIP:
            return self._only_member()
        return self._file

    def _only_member(self) -> IO[bytes]:
        if self.size is None:
            raise InputError("stdin: found a zip archive; expected JSON or gzip; use: unzip -p FILE.zip")
        try:
            archive = zipfile.ZipFile(self._file)
            members = [info for info in archive.infolist() if not _is_clutter(info)]
            if len(members) != 1:
                names = ", ".join(info.filename for info in members[:4]) or "none"
                raise InputError(
                    f"{self.name}: found {len(members)} files ({names}); expected a zip of one JSON file; "
                    "unpack it and name the file"
                )
            return archive.open(members[0])
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise InputError(f"{self.name}: found a zip that cannot be read ({error}); unpack it") from None


def _is_clutter(info: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS adds to archives."""
    return info.is_dir() or info.filename.startswith("__MACOSX/") or info.filename.endswith(".DS_Store")
