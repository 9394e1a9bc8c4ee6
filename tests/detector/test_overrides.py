"""Settings by dotted key."""

import json
from dataclasses import dataclass

import pytest

from detector.config import TrainConfig
from detector.errors import ConfigError
from detector.overrides import flatten, override, parse_assignments
from detector.recipes import RECIPES, load_recipe


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
        ("seed", str(10**20), f"setting train.seed: found {10**20}; expected 0 or more, below 2^63"),
        ("flip", "1.5", "setting train.flip: found 1.5; expected a number from 0 to 1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(TrainConfig(), {key: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.roi_size", "0"),
        ("model.min_size", "0"),
        ("model.regions_per_image", "0"),
        ("model.positive_fraction", "2"),
        ("model.duplicate_removal.iou", "-1"),
        ("model.roi_sampling_ratio", "-1"),
        ("model.proposals.anchor_sizes", "[[]]"),
        ("model.proposals.anchor_sizes", "[[8,16],[32]]"),
        ("model.proposals.aspect_ratios", "[]"),
        ("model.proposals.pre_nms_test", "-1"),
        ("model.proposals.post_nms_test", "-1"),
        ("model.proposals.batch_size_per_image", "0"),
        ("model.proposals.nms_iou_test", "1.5"),
        ("model.stages.0.foreground_iou", "7"),
        ("model.stages.0.box_std", "0.1,0.1,0,0.1"),
        ("model.stages.0.head.width", "-3"),
        ("model.stages.1.head.width", "0"),
        ("model.stages.1.head.squeeze", "0"),
    ],
)
def test_a_model_setting_out_of_range_is_refused_before_anything_runs(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key.rpartition('.')[2]}: found .*; expected "):
        override(RECIPES["reasoning_rcnn_sample"](), {key: value})


def test_the_name_of_a_recipe_is_not_a_setting() -> None:
    """A run is loaded by it: with another name it would be lost."""
    config = RECIPES["faster_rcnn_sample"]()
    assert "recipe" not in flatten(config)
    with pytest.raises(ConfigError, match="setting recipe: not known"):
        override(config, {"recipe": "mine"})


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


def test_a_part_that_only_a_recipe_can_give_is_not_set_by_hand() -> None:
    with pytest.raises(ConfigError, match=r"setting model\.mask: found 1; expected MaskConfig or none"):
        override(load_recipe("faster_rcnn_sample"), {"model.mask": "1"})
