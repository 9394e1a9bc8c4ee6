"""What a JSON decoder complains of, in the words of whoever has to mend the file."""

import re

import msgspec

#: What decoding raises; besides malformed JSON: bytes that are no UTF-8, huge numbers, endless nesting.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)

_TYPES = {
    "object": "an object {...}",
    "array": "a list [...]",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_WRONG_TYPE = re.compile(r"Expected `(.+?)`, got `(\w+)`")
_WRONG_LENGTH = re.compile(r"Expected `array` of length (\d+)(?:, got (\d+))?")
_MISSING = re.compile(r"missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`")
_BYTE = re.compile(r"(.*) \(byte (\d+)\)")


def explain(error: Exception, text: bytes) -> tuple[str, str]:
    """Say where a document broke a rule, and what was found and expected there.

    Args:
        error: one of `UNREADABLE`.
        text: the document.

    Returns:
        The place, such as "annotations[3].bbox[1]" (counted from 0) or "line 7, column 12"; empty for the
        document as a whole. And "found ...; expected ...".
    """
    message = str(error)
    if isinstance(error, UnicodeDecodeError):
        return position_of_byte(text, first_bad_byte(text)), "found bytes that are no UTF-8; expected UTF-8"
    if isinstance(error, OverflowError):
        return "", "found a whole number of more than 64 bits; expected ids and sizes that 64 bits hold"
    if isinstance(error, RecursionError):
        return "", "found lists or objects nested without end; expected a few levels"
    if not isinstance(error, msgspec.ValidationError):
        return _explain_malformed(message, text)
    found_place = _PLACE.search(message)
    place = found_place.group(1) if found_place else ""
    if match := _WRONG_TYPE.search(message):
        expected = " or ".join(_TYPES.get(name.strip(), name) for name in match[1].split("|"))
        return place, f"found {_TYPES.get(match[2], match[2])}; expected {expected}"
    if match := _WRONG_LENGTH.search(message):
        return place, f"found a list of another length; expected {match[1]} numbers"
    if match := _MISSING.search(message):
        return place, f"found no {match[1]!r}; expected one"
    if "Number out of range" in message:
        return place, "found a number that 64 bits do not hold; expected a smaller one"
    return place, f"found a value that does not fit ({_plain(message)})"


def _explain_malformed(message: str, text: bytes) -> tuple[str, str]:
    if match := _BYTE.match(message):
        reason = _plain(match[1]).removeprefix("JSON is malformed: ")
        return position_of_byte(text, int(match[2])), f"found text that is not JSON ({reason}); expected JSON"
    if "truncated" in message:
        return position_of_byte(text, len(text)), (
            "found the end of the file in the middle; expected the whole (cut off while loading?)"
        )
    return "", f"found text that is not JSON ({_plain(message)}); expected JSON"


def position_of_byte(text: bytes, byte: int) -> str:
    """Line and column, from 1, of a byte; columns count bytes."""
    line, before = text.count(b"\n", 0, byte) + 1, text.rfind(b"\n", 0, byte)
    return f"line {line}, column {byte - before}"


def first_bad_byte(text: bytes) -> int:
    """The first byte that is no UTF-8; the length of the text if all are."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(text)


def _plain(message: str) -> str:
    return _PLACE.sub("", message).replace("`", '"')
