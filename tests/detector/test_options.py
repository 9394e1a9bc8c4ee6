"""Options with a wrong word or count are one clear line."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from detector.errors import ConfigError
from detector.options import check_options


@dataclass(frozen=True)
class Options:
    place: ClassVar[str] = "anywhere"
    form: Literal["printed", "working"] = "printed"
    at: tuple[str, ...] = ()
    width: int = 8
    layers: int = 2
    on: bool = False
    share: float = 0.0

    def __post_init__(self) -> None:
        check_options("part", self, from_zero=("layers",))


def test_right_options_and_those_of_other_types_pass() -> None:
    Options("working", ("a",), 1, 0, on=True, share=-1.0)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"form": "wrking"}, 'part.form: found "wrking"; expected one of printed, working'),
        ({"form": None}, 'part.form: found "None"; expected one of printed, working'),
        ({"width": 0}, "part.width: found 0; expected 1 or more"),
        ({"layers": -1}, "part.layers: found -1; expected 0 or more"),
    ],
)
def test_a_wrong_word_or_count_is_one_clear_line(wrong: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Options(**wrong)
    assert str(caught.value) == line
