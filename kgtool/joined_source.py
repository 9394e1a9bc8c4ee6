"""Many JSON files read as if they were one: a folder or a glob of arrays, or of objects one a line.

The arrays become one array: the brackets between two files are replaced by a comma as the bytes pass. So a
hundred thousand small files are read in blocks, like one large file, and a large one among them as well.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from kgtool.byte_source import STDIN, ByteSource
from kgtool.errors import InputError

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_CHUNK = 1 << 20
_BOM, _BLANK = b"\xef\xbb\xbf", b" \t\r\n"


def json_files(place: Path | str) -> list[Path]:
    """The JSON files of a folder or of a glob that names no file itself, sorted; empty for anything else."""
    from glob import glob

    path = Path(place)
    if "://" in str(place) or str(place) == STDIN or path.is_file():
        return []
    found = path.iterdir() if path.is_dir() else map(Path, glob(str(place)))  # noqa: PTH207 (absolute patterns)
    return sorted(file for file in found if file.name.lower().endswith(_SUFFIXES) and file.is_file())


def open_source(place: Path | str) -> "ByteSource | JoinedSource":
    """The bytes of one file, of standard input, or of the JSON files of a folder or glob.

    Raises:
        InputError: there is nothing to read there.
    """
    files = json_files(place)
    return JoinedSource(place, files) if files else ByteSource(place)


class JoinedSource:
    """The bytes of one array (or of lines) made of many files; to be used as a `ByteSource`.

    Attributes:
        name: of the folder, or the last part of the glob.
        size: bytes of all files as they lie on disk.
        num_files: how many.

    Args:
        place: the folder or glob.
        files: at least one; all arrays, or all objects.
    """

    def __init__(self, place: Path | str, files: list[Path]) -> None:
        self.name = Path(place).name or str(place)
        self.size: int | None = sum(file.stat().st_size for file in files)
        self.num_files = len(files)
        self._files = files
        self._digest = hashlib.sha256()
        self._done = 0  # bytes on disk of the files that are read
        self._given = 0  # bytes given out
        self._starts: list[int] = []  # where each file starts in what is given out,
        self._origins: list[tuple[str, int]] = []  # and its name and first byte of content there
        self._chunks = self._iter_chunks()
        self._rest = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        """Fill `view` as far as the files reach; fewer bytes than asked for mean the end.

        Raises:
            InputError: a file is damaged, cut off, or holds something else than the first one.
        """
        filled = 0
        while filled < len(view):
            if not len(self._rest):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            part = self._rest[: len(view) - filled]
            view[filled : filled + len(part)] = part
            self._rest = self._rest[len(part) :]
            filled += len(part)
        return filled

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end."""
        data = bytearray(size)
        return bytes(data[: self.readinto(memoryview(data))])

    def hash(self, data: bytes | bytearray | memoryview) -> None:
        """Nothing: what is hashed is the files, not the array made of them."""

    def finish_hash(self) -> None:
        """Nothing is hashed in a thread."""

    def sha256(self) -> str:
        """64 hexadecimal digits over the decompressed files, one after another, sorted by name."""
        return self._digest.hexdigest()

    def position(self) -> int:
        """Bytes on disk of the files that have been read so far."""
        return self._done

    def where(self, offset: int, record: int) -> str:
        """The place in a file that a byte came from, for a message."""
        number = max(0, bisect_right(self._starts, offset) - 1)
        name, first = self._origins[number]
        return (
            f"{name} (byte {max(0, first + offset - self._starts[number])}), record {record} of {self.name}"
        )

    def close(self) -> None:
        """Close the file that is open."""
        self._chunks.close()

    def _iter_chunks(self) -> Generator[bytes, None, None]:
        """The content of all files, with what joins them."""
        lines: bool | None = None
        separator = b""
        for file in self._files:
            with closing(ByteSource(file)) as source:
                head = self._take(source)
                text = head.removeprefix(_BOM).lstrip(_BLANK)
                if text[:1] not in (b"[", b"{") or (lines is not None and lines != (text[:1] == b"{")):
                    raise self._unlike(file, text, lines)
                if lines is None:
                    lines = text[:1] == b"{"
                    yield self._counted(b"" if lines else b"[")
                offset = len(head) - len(text) + (not lines)
                started = False
                for content in self._contents(source, text if lines else text[1:], lines):
                    if not started:
                        yield self._counted(separator)
                        self._starts.append(self._given)
                        self._origins.append((file.name, offset))
                        started, separator = True, b"\n" if lines else b","
                    yield self._counted(content)
            self._done += file.stat().st_size
        if lines is False:
            yield self._counted(b"]")

    def _contents(self, source: ByteSource, text: bytes, lines: bool) -> Iterator[bytes]:
        """What a file has between its brackets, in pieces; of lines, all but blanks at the end."""
        held = b""  # may be the end: a bracket, and blanks
        while text:
            text = held + text
            content = text.rstrip(_BLANK)
            if not lines and content.endswith(b"]"):
                content = content[:-1]
            held = text[len(content) :]
            if content.strip(_BLANK):
                yield content
            else:
                held = text
            text = self._take(source)
        if not lines and held.strip(_BLANK) != b"]":
            raise InputError(
                f'{source.name}: found the end of the file; expected "]" there; copy or download it again'
            )

    def _take(self, source: ByteSource) -> bytes:
        assert source.size is not None
        data = bytearray(min(_CHUNK, source.size + 1))
        data = data[: source.readinto(memoryview(data))]
        self._digest.update(data)
        return bytes(data)

    def _counted(self, chunk: bytes) -> bytes:
        self._given += len(chunk)
        return chunk

    def _unlike(self, file: Path, text: bytes, lines: bool | None) -> InputError:
        expected = "an array or objects" if lines is None else "objects" if lines else "an array"
        found = repr(text[:16]) if text else "an empty file"
        return InputError(
            f"{file.name}: found {found}; expected {expected}, as in the other files of {self.name}; "
            "correct it or take it away"
        )
