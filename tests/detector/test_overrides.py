"""Settings by dotted key."""

import json
from dataclasses import dataclass

import pytest

from detector.config import TrainConfig
from detector.errors import ConfigError
from detector.overrides import flatten, override, parse_assignments
from detector.recipes import RECIPES


@dataclass(frozen=True)
class Inner:
    word: str = "a"
    limit: int | None = None


@dataclass(frozen=True)
class Outer:
    switch: bool = False
    ratios: tuple[float, ...] = (1.0,)
    sizes: tuple[tuple[int, ...], ...] = ((1,),)
    parts: tuple[Inner, ...] = (Inner(), Inner("b"))


def test_flat_keys_follow_fields_and_positions() -> None:
    assert flatten(Outer()) == {
        "switch": False,
        "ratios": (1.0,),
        "sizes": ((1,),),
        "parts.0.word": "a",
        "parts.0.limit": None,
        "parts.1.word": "b",
        "parts.1.limit": None,
    }


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("switch", "True", True),
        ("ratios", "0.5,1,2", (0.5, 1.0, 2.0)),
        ("ratios", "(0.5,)", (0.5,)),
        ("sizes", "[[8, 16], [32]]", ((8, 16), (32,))),
        ("parts.1.word", "true", "true"),
        ("parts.1.word", "12", "12"),
        ("parts.0.limit", "7", 7),
        ("parts.0.limit", "none", None),
    ],
)
def test_text_becomes_the_type_of_its_field(key: str, text: str, value: object) -> None:
    found = flatten(override(Outer(), {key: text}))[key]
    assert found == value
    assert type(found) is type(value)


def test_only_the_named_key_changes() -> None:
    changed = flatten(override(Outer(), {"parts.1.limit": 3}))
    assert {**flatten(Outer()), "parts.1.limit": 3} == changed


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "2.5", "setting epochs: found 2.5; expected a whole number"),
        ("epochs", "true", "setting epochs: found true; expected a whole number"),
        ("lr", "fast", "setting lr: found fast; expected a number"),
        ("optimizer", "adam", "setting optimizer: found adam; expected sgd or adamw"),
        ("milestones", "8,x", "setting milestones: found 8,x; expected a list of a whole number (1,2,3)"),
        ("milestones", 8, "setting milestones: found 8; expected a list of a whole number (1,2,3)"),
        ("epochs", "0", "setting train.epochs: found 0; expected 1 or more"),
        ("lr", "NaN", "setting train.lr: found nan; expected a number above 0"),
        ("flip", "1.5", "setting train.flip: found 1.5; expected a probability, 0 to 1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(TrainConfig(), {key: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "near"),
    [("epoch", "epochs"), ("weight_decai", "weight_decay"), ("train.lr", "lr")],
)
def test_an_unknown_key_gets_its_near_names(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"setting {key}: not known; did you mean .*{near}"):
        override(TrainConfig(), {key: 1})


def test_assignments_need_an_equals_sign_and_the_last_one_counts() -> None:
    assert parse_assignments(["a=1", "b = x=y", "a=2"]) == {"a": "2", "b": "x=y"}
    with pytest.raises(ConfigError, match="found no key=value"):
        parse_assignments(["train.lr"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_configuration_survives_json_and_text(name: str) -> None:
    config = RECIPES[name]()
    stored = json.loads(json.dumps(flatten(config)))
    assert override(config, stored) == config
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in stored.items()}
    assert override(config, texts) == config
