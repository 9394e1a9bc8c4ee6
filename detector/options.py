"""The check that dataclasses of options share: words and counts, in one clear line."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

from detector.errors import ConfigError


def check_options(section: str, options: Any, *, from_zero: Collection[str] = ()) -> None:
    """Check words and counts of a dataclass: a typing error must not silently be another experiment.

    Fields of other types than `Literal` and `int` are left to the caller.

    Args:
        section: where these options are among the settings, for the message ("head").
        options: the dataclass; its annotations are types, not text.
        from_zero: names of counts that may be 0; the others are 1 or more.

    Raises:
        ConfigError: a word that is none of its `Literal`'s, or a count that is too small.
    """
    for field in fields(options):
        value, words = getattr(options, field.name), get_args(field.type)
        if get_origin(field.type) is Literal and value not in words:
            expected = ", ".join(words)
            raise ConfigError(f'{section}.{field.name}: found "{value}"; expected one of {expected}')
        least = 0 if field.name in from_zero else 1
        if field.type is int and value < least:
            raise ConfigError(f"{section}.{field.name}: found {value}; expected {least} or more")
