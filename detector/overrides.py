"""A configuration as flat dotted keys, and values set on it: what `--set key=value` and config.json need.

A key is the path of field names; a tuple of dataclasses adds its index ("model.stages.1.head.attention").
Everything else, tuples of numbers included, is one value. A value is checked against the type of its field.
A field with the metadata {"setting": False} is left out.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from detector.errors import ConfigError

T = TypeVar("T")


def flatten(config: Any) -> dict[str, Any]:
    """Convert nested dataclasses to one dictionary of dotted keys, in the order of the fields.

    Example:
        >>> from detector.config import TrainConfig
        >>> flatten(TrainConfig())["milestones"]
        (8, 11)
    """
    return {key: value for key, _, value in _leaves(config, "")}


def override(config: T, values: Mapping[str, Any]) -> T:
    """Return a copy of `config` with the values of some dotted keys replaced.

    Args:
        config: nested frozen dataclasses.
        values: by dotted key; text is parsed by the type of the field, other values are checked against it.

    Raises:
        ConfigError: an unknown key (the message names the near ones) or a value of another type.
    """
    hints = {key: hint for key, hint, _ in _leaves(config, "")}
    for key in values:
        if key not in hints:
            near = _same_last_name(key, hints) or get_close_matches(key, hints, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "`detector recipes NAME` lists them"
            raise ConfigError(f"setting {key}: not known; {hint}")
    typed = {key: _convert(key, value, hints[key]) for key, value in values.items()}
    changed: T = _replace(config, typed, "")
    return changed


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Convert `key=value` texts to a dictionary; a key given twice takes its last value.

    Raises:
        ConfigError: a text without "=".
    """
    values = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text}: found no key=value; expected for example --set train.lr=0.01")
        values[key.strip()] = value.strip()
    return values


def _leaves(config: Any, prefix: str) -> Iterable[tuple[str, Any, Any]]:
    """Yield (key, type hint, value) of every field that is not itself a dataclass."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if not field.metadata.get("setting", True):
            continue
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{key}.")
        elif _holds_dataclasses(value):
            for index, item in enumerate(value):
                yield from _leaves(item, f"{key}.{index}.")
        else:
            yield key, hints[field.name], value


def _replace(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Rebuild the dataclasses from the inside out, with `values` put in."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replace(value, values, f"{key}.")
        elif _holds_dataclasses(value):
            items = enumerate(value)
            changes[field.name] = tuple(_replace(item, values, f"{key}.{index}.") for index, item in items)
        elif key in values:
            changes[field.name] = values[key]
    return dataclasses.replace(config, **changes)


def _holds_dataclasses(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(dataclasses.is_dataclass(item) for item in value)


def _same_last_name(key: str, known: Iterable[str]) -> list[str]:
    """Keys that end in the same field name, for `--set lr=0.1`."""
    return [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]][:3]


def _convert(key: str, value: Any, hint: Any) -> Any:
    """Convert text or a JSON value to the type of a field."""
    parsed = _parse(value, hint) if isinstance(value, str) else value
    try:
        return _typed(parsed, hint)
    except (TypeError, ValueError):
        shown = value if isinstance(value, str) else json.dumps(value)
        raise ConfigError(f"setting {key}: found {shown}; expected {_name(hint)}") from None


def _parse(text: str, hint: Any) -> Any:
    """Convert text to what JSON would have held: words stay words, "8,11" is a list, "none" is null."""
    if text.lower() == "none" and type(None) in typing.get_args(hint):
        return None
    is_list = typing.get_origin(hint) is tuple
    if hint is str or (str in typing.get_args(hint) and not is_list):
        return text
    if is_list and not text.startswith("["):
        if str in typing.get_args(hint):
            return [word.strip() for word in text.split(",") if word.strip()]
        text = f"[{text.strip('()').rstrip(',')}]"
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


def _typed(value: Any, hint: Any) -> Any:
    """Check one value against a type hint, and convert lists to tuples and whole numbers to floats.

    Raises:
        ValueError: the value is not of the type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(value, next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(value)
        return value
    if origin is tuple:
        return _typed_tuple(value, arguments)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(value)
    return value


def _typed_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Check a list against tuple[X, ...] or tuple[X, Y, Z]."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(value)
    hints = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
    if len(hints) != len(value):
        raise ValueError(value)
    return tuple(_typed(item, hint) for item, hint in zip(value, hints, strict=True))


def _name(hint: Any) -> str:
    """A type as a person would say it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(str(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if argument is type(None) else _name(argument) for argument in arguments)
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return f"a list of {_name(arguments[0])} (1,2,3)"
        return f"a list of {len(arguments)} values"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return str(words.get(hint) or getattr(hint, "__name__", hint))
