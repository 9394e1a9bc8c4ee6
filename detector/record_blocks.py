"""The members of one large JSON object, arrays of records in blocks: what is in memory at once is a block.

Where a record ends is guessed: an object's end and a comma before an object's begin. Whoever reads the blocks
decodes them, and that is the proof: text that begins where a record begins, and is whole records once it has
brackets, also ends where a record ends. Text that is not is no error yet; records that hold arrays of objects
are cut wrongly, and such a file must be decoded as a whole.
"""

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

#: Bytes that are read at a time.
BLOCK = 1 << 22

_BLANKS = re.compile(rb"[ \t\r\n]*")
_ARRAY_OF_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")
_LAST_RECORD = re.compile(rb"\}[ \t\r\n]*\]")
_NEXT_RECORD = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_AFTER_VALUE = frozenset(bytes([byte]) for byte in b" \t\r\n,:}]")
_PARSER = json.JSONDecoder()


class NotCutError(Exception):
    """The text is not laid out so that it can be cut; it may be right all the same."""


def iter_blocks(path: Path, block: int = BLOCK) -> Iterator[tuple[str, bytes]]:
    """Yield the members of the object that a file holds, in its order.

    Args:
        path: the file.
        block: bytes that are read at a time; a record may be larger.

    Yields:
        name, and JSON text: of an array of objects a part, an array too; of anything else the whole value.

    Raises:
        NotCutError: this is no object, not cut where it could be, or a member is there twice.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        text = _Text(file, block)
        text.skip_mark()
        text.take(b"{")
        seen: set[str] = set()
        while True:
            name = json.loads(text.value())
            if not isinstance(name, str) or name in seen:  # of two, a parser takes the last
                raise NotCutError
            seen.add(name)
            text.take(b":")
            if text.holds_objects():
                yield from ((name, records) for records in text.records())
            else:
                yield name, text.value()
            if text.ends(b"}"):
                return
            text.take(b",")


class _Text:
    """A window of a file that moves on.

    Args:
        file: to read.
        block: bytes to read at a time.
    """

    def __init__(self, file: BinaryIO, block: int) -> None:
        self._file = file
        self._block = block
        self._text = file.read(block)
        self._at = 0

    def skip_mark(self) -> None:
        """Read over a byte order mark."""
        self._at = len(codecs.BOM_UTF8) if self._text.startswith(codecs.BOM_UTF8) else 0

    def take(self, byte: bytes) -> None:
        """Read over blanks and one byte; raise where it is another."""
        if self._next() != byte:
            raise NotCutError
        self._at += 1

    def ends(self, byte: bytes) -> bool:
        """Say whether this byte comes next; then it must be the last one."""
        if self._next() != byte:
            return False
        self._at += 1
        if self._next():
            raise NotCutError
        return True

    def holds_objects(self) -> bool:
        """Say whether an array comes next whose first item is an object; then stand at that."""
        if self._next() != b"[":
            return False
        if len(self._text) - self._at < self._block:
            self._fill()
        first = _ARRAY_OF_OBJECTS.match(self._text, self._at)
        self._at = first.end() - 1 if first else self._at
        return first is not None

    def value(self) -> bytes:
        """Read the value that comes next."""
        self._next()
        while True:
            length = 0
            with suppress(json.JSONDecodeError, RecursionError):
                # One character a byte, so that places are bytes.
                _, length = _PARSER.raw_decode(self._text[self._at :].decode("latin-1"))
            end = self._at + length
            if length and self._text[end : end + 1] in _AFTER_VALUE:  # else a number may go on
                value, self._at = self._text[self._at : end], end
                return value
            if not self._fill():
                raise NotCutError

    def records(self) -> Iterator[bytes]:
        """Yield the rest of an array of objects, whose first comes next, in arrays."""
        while True:
            if len(self._text) - self._at < self._block:
                self._fill()
            last = _LAST_RECORD.search(self._text, self._at)
            end, after = (last.start() + 1, last.end()) if last else self._last_cut()
            if end:
                start, self._at = self._at, after
                yield b"[%b]" % self._text[start:end]
                if last:
                    return
            elif not self._fill():
                raise NotCutError

    def _last_cut(self) -> tuple[int, int]:
        """Where, in this window, a record ends last that another one follows, and where that begins; or 0."""
        at = self._text.rfind(b"}", self._at)
        while at >= 0:
            cut = _NEXT_RECORD.match(self._text, at)
            if cut:
                return at + 1, cut.end() - 1
            at = self._text.rfind(b"}", self._at, at)
        return 0, 0

    def _next(self) -> bytes:
        """Read over blanks; return the byte that follows them, nothing at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def _fill(self) -> bool:
        """Read on, and drop what is read over; say whether there was more."""
        more = self._file.read(self._block)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)
