"""Blocks of JSON text cut where a record ends.

The input is one top-level array of objects, or objects one a line (or just after another). Where a record
ends is guessed (`kgtool.record_ends`) and checked by parsing: a block that starts where a record starts, and
parses as complete records, also ends where a record ends. So up to the first block that does not parse every
cut was right. From there on records are cut exactly, one by one, with the standard library's parser; what
fails then is an error in the input.
"""

import json
import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgtool.byte_source import ByteSource
from kgtool.errors import InputError
from kgtool.joined_source import JoinedSource
from kgtool.record_ends import first_key, last_record_end

#: No record is longer: what has no end after so many bytes is not a file of records.
MAX_RECORD = 1 << 26
#: How a block was cut: by the guess; exactly; exactly, with one record, so that an error has its place.
GUESS, EXACT, SINGLE = 0, 1, 2

_HEAD = 1 << 16
_BLANK = b" \t\r\n"
_BLANKS = re.compile(r"[ \t\r\n]*")
_GOES_ON = re.compile(r'[]},:"]')  # whether there is more after a word or an escape that is wrong
_PARSER = json.JSONDecoder()


@dataclass(frozen=True, eq=False)
class Block:
    """Complete records: what stands between the brackets of an array, or lines.

    Attributes:
        memory: where the text lies.
        begin: its first byte there.
        end: the byte after its last.
        offset: position of its first byte in the input.
        after: what the input has between this block and the next.
        cut: GUESS, EXACT or SINGLE.
    """

    memory: mmap.mmap
    begin: int
    end: int
    offset: int
    after: bytes
    cut: int


class RecordCutter:
    """Cuts the bytes of a source into blocks of records.

    Attributes:
        lines: whether the input is objects one after another, and not an array.

    Args:
        source: the input.

    Raises:
        InputError: the input is empty, or starts with something else than an array or an object.
    """

    def __init__(self, source: ByteSource | JoinedSource) -> None:
        self._source = source
        head = source.read(_HEAD)
        self._ended = len(head) < _HEAD  # the source has no more bytes
        self._closed = False  # the last record was cut
        self._after_record = False  # in exact cutting: a separator comes next
        self._records = 0  # in exact cutting: records before byte `_offset`
        start = len(head) - len(head.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK))
        if start == len(head):
            raise InputError(
                f"{source.name}: found an empty file; expected a JSON array of records; download it again"
            )
        self.lines = head[start] == ord("{")
        if not self.lines and head[start] != ord("["):
            raise self._error(start, f"found {head[start : start + 16]!r}", "expected a JSON array")
        self._offset = start if self.lines else start + 1
        self._rest = head[self._offset :]  # read and not yet cut; starts at byte `_offset`
        self._key = None if self.lines else first_key(self._rest, 0, len(self._rest))
        self._cut = EXACT if self._key == b"" else GUESS

    def next_block(self, memory: mmap.mmap, begin: int, size: int) -> Block | None:
        """Cut the next block into `memory`, or into memory of its own where a record is larger than that.

        Args:
            memory: where blocks go.
            begin: first byte there that may be used.
            size: how many bytes may be used.

        Returns:
            None after the last record.

        Raises:
            InputError: the input cannot be read, is cut off or malformed; the message says where.
        """
        if self._closed:
            return None
        self._source.finish_hash()  # the bytes of the last block may have lain here
        if self._cut != GUESS:
            return self._cut_exactly(memory, begin, size)
        block = self._cut_by_guess(memory, begin, size)
        while block is None and self._cut == GUESS and not self._closed:
            if len(self._rest) > MAX_RECORD:
                raise self._too_long(self._offset)
            size *= 4
            block = self._cut_by_guess(mmap.mmap(-1, size), 0, size)
        return self._cut_exactly(memory, begin, size) if block is None and not self._closed else block

    def push_back(self, blocks: Sequence[Block], records: int) -> None:
        """Take blocks back, of which the first could not be parsed, to cut more exactly from there on.

        Args:
            blocks: all blocks from that one to the last that was cut, in their order.
            records: how many records the input has before them.
        """
        texts = [block.memory[block.begin : block.end] + block.after for block in blocks]
        self._rest = b"".join([*texts, self._rest])
        self._offset = blocks[0].offset
        self._cut = blocks[0].cut + 1
        self._closed = self._after_record = False
        self._records = records

    def _cut_by_guess(self, memory: mmap.mmap, begin: int, size: int) -> Block | None:
        """A block, or None where no end of a record is seen; `_rest` is all that is not cut."""
        taken, kept = self._rest[:size], self._rest[size:]
        fresh = last = begin + len(taken)
        memory[begin:fresh] = taken
        if not kept and not self._ended:
            # Released by name: an error keeps its frames, and they the views, and those the memory open.
            with memoryview(memory) as whole, whole[fresh : begin + size] as room:
                last += self._source.readinto(room)
                self._source.hash(whole[fresh:last])
            self._ended = last < begin + size
        if self._ended and not kept:
            end, following = self._end_of_input(memory, begin, last)
        else:
            end, following = last_record_end(memory, begin, last, self._key)
        after, self._rest = memory[end:following], memory[following:last] + kept
        if end == begin:
            return None
        offset, self._offset = self._offset, self._offset + following - begin
        return Block(memory, begin, end, offset, after, self._cut)

    def _end_of_input(self, memory: mmap.mmap, begin: int, last: int) -> tuple[int, int]:
        """Where the last record ends, and the text; `begin` twice if an array lacks its bracket."""
        end = begin + len(memory[begin:last].rstrip(_BLANK))
        if not self.lines:
            if memory[begin:end][-1:] != b"]":
                self._cut = EXACT  # which will say what is wrong
                return begin, begin
            end = begin + len(memory[begin : end - 1].rstrip(_BLANK))
        self._closed = True
        return end, last

    def _cut_exactly(self, memory: mmap.mmap, begin: int, size: int) -> Block | None:
        most = 1 if self._cut == SINGLE else size
        while True:
            text = self._rest.decode("latin-1")  # one character a byte, so positions are bytes
            first, end, seen = self._scan(text, most)
            offset, self._offset = self._offset + first, self._offset + seen
            content, after = self._rest[first:end], self._rest[end:seen]
            self._rest = self._rest[seen:]
            if content:
                if len(content) > size:
                    memory, begin = mmap.mmap(-1, len(content)), 0
                memory[begin : begin + len(content)] = content
                return Block(memory, begin, begin + len(content), offset, after, self._cut)
            if self._closed:
                return None
            wanted = max(size, len(self._rest))
            more = self._source.read(wanted)
            self._ended = len(more) < wanted
            self._rest += more

    def _scan(self, text: str, most: int) -> tuple[int, int, int]:
        """Records at the start of `text`, of `most` bytes or a little more.

        Returns:
            Where the first record starts and the last one ends, and up to where the text is done with.
        """
        at = first = end = 0
        while True:
            at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
            if at == len(text):
                if self._ended:
                    self._check_end(at)
                return first, end, at
            if self._after_record and not self.lines and text[at] == ",":
                at, self._after_record = at + 1, False
            elif not self.lines and text[at] == "]" and (self._after_record or self._records == 0):
                self._check_nothing_follows(text[at + 1 :], self._offset + at + 1)
                return first, end, at + 1
            elif text[at] != "{" or (self._after_record and not self.lines):
                separated = self._after_record and not self.lines
                expected = "a comma or the end of the array" if separated else "an object"
                raise self._error(self._offset + at, f"found {text[at : at + 16]!r}", f"expected {expected}")
            else:
                stop = self._end_of_record(text, at)
                if stop == 0 or (end > first and stop - first > most):
                    return first, end, at
                first, end, at = (first if end > first else at), stop, stop
                self._after_record = True
                self._records += 1

    def _end_of_record(self, text: str, start: int) -> int:
        """Byte after the record that starts at `start`; 0 where more text is needed to tell."""
        try:
            return _PARSER.raw_decode(text, start)[1]
        except json.JSONDecodeError as error:
            if not self._ended and len(text) - start <= MAX_RECORD:
                return 0
            if not self._ended and error.pos >= len(text) - 1:
                raise self._too_long(self._offset + start) from None
            if error.msg.startswith("Unterminated") or not _GOES_ON.search(text, error.pos):
                raise self._cut_off(len(text)) from None
            found = f"found malformed JSON ({error.msg})"
            raise self._error(self._offset + error.pos, found, "expected a valid record") from None
        except RecursionError:
            raise self._error(
                self._offset + start, "found nesting without end", "expected a record"
            ) from None

    def _check_end(self, at: int) -> None:
        if not self.lines:
            raise self._cut_off(at)
        self._closed = True

    def _check_nothing_follows(self, text: str, offset: int) -> None:
        self._closed = True
        while not text.strip(" \t\r\n") and not self._ended:
            more = self._source.read(_HEAD)
            self._ended = len(more) < _HEAD
            offset, text = offset + len(text), more.decode("latin-1")
        blanks = len(text) - len(text.lstrip(" \t\r\n"))
        if blanks < len(text):
            found = f"found {text[blanks : blanks + 16]!r} after the end of the array"
            raise self._error(offset + blanks, found, "expected nothing there")

    def _cut_off(self, length: int) -> InputError:
        expected = "expected the rest of it" if self.lines else 'expected more, and a closing "]"'
        return self._error(self._offset + length, "found the end of the input", expected)

    def _too_long(self, offset: int) -> InputError:
        return self._error(
            offset, f"found a record of more than {MAX_RECORD} bytes", "expected small records"
        )

    def _error(self, offset: int, found: str, expected: str) -> InputError:
        return InputError(
            f"{self._source.where(offset, self._records)}: {found}; {expected}; copy or download it again"
        )
