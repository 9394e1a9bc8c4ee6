"""Where a record ends in the middle of a huge JSON array: a guess that is right for files as published.

Records start with the same key as the first one, as in `}, {"image_id":`, and text like that cannot stand
inside a string, where a quotation mark has a backslash before it. Only an object inside a record that starts
with the same key can be taken for a record; whoever cuts there finds out by parsing.
"""

import mmap
import re

_FIRST_KEY = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:')
_BEFORE_KEY = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(\{)[ \t\r\n]*$")
_AFTER_KEY = re.compile(rb"[ \t\r\n]*:")
_WINDOW = 256  # bytes before a key in which the end of the record before it is looked for


def first_key(text: bytes | mmap.mmap, begin: int, end: int) -> bytes:
    """The first key, in its quotation marks, of the object that starts at `begin`; empty if none does."""
    key = _FIRST_KEY.match(text, begin, end)
    return key[1] if key else b""


def last_record_end(text: mmap.mmap, begin: int, end: int, key: bytes | None) -> tuple[int, int]:
    """The last place in text[begin:end] where, it seems, a record ends and another one starts.

    Args:
        text: JSON.
        begin: where a record starts.
        end: where the text ends, which may be inside a record.
        key: first key of the records of an array; None where records are lines.

    Returns:
        The end of the one and the start of the other; `begin` twice if there is no such place.
    """
    if key is None:
        after_line = text.rfind(b"\n", begin, end) + 1
        return (after_line, after_line) if after_line > begin else (begin, begin)
    at = text.rfind(key, begin, end) if key else -1
    while at >= 0:
        window = max(begin, at - _WINDOW)
        before = _BEFORE_KEY.search(text[window:at])
        if before and _AFTER_KEY.match(text, at + len(key), end):
            return window + before.start() + 1, window + before.start(1)
        at = text.rfind(key, begin, at)
    return begin, begin
