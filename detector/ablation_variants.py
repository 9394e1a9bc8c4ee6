"""The arms of an experiment end to end: whole configurations, each an ordinary training from the same start.

An arm is a recipe, so that its run can be loaded like any other: the recipe itself with a setting changed or
another graph, and for what it is compared with, the recipe that is the plain or the context arm of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detector.ablation_arms import (
    GRAPHS,
    SETTINGS,
    chosen_controls,
    graph_of,
    second_stage,
)
from detector.config import Config, ModelConfig
from detector.cost import base_of, stacked_of
from detector.errors import ConfigError
from detector.heads import ImageContextConfig
from detector.interfaces import SharedHeadConfig
from detector.overrides import flatten, override
from detector.recipes import RECIPES, load_recipe
from detector.recipes.sizes import two_stages


@dataclass(frozen=True)
class Variant:
    """One arm end to end.

    Attributes:
        name: of the control, or of a recipe.
        config: the whole run.
        graph: as of `ablation_arms.Arm`.
    """

    name: str
    config: Config
    graph: str


def list_variants(
    recipe: str, controls: Sequence[str], rivals: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Variant, ...]:
    """List the arms: the recipe, its controls with those that are always there, and other recipes.

    Settings hold for all arms, but for those of the recipe's head, which only arms with that head have. The
    training (epochs, rate, ...) is the recipe's for all.

    Raises:
        ConfigError: see `ablation_arms.list_arms`; or no recipe is the plain or the context arm.
    """
    own = override(load_recipe(recipe), settings)
    graph = graph_of(second_stage(own))
    variants = [Variant(recipe, own, graph)]
    for control in chosen_controls(own, controls):
        if control in GRAPHS:
            variants.append(Variant(control, own, control))
        elif control in SETTINGS:
            option, value = SETTINGS[control]
            key = f"model.stages.{len(own.model.stages) - 1}.head.{option}"
            variants.append(Variant(control, override(own, {key: value}), graph))
        else:
            make = plain_of if control == "none" else context_of
            other = find_recipe(make(load_recipe(recipe).model), f"the arm {control} of {recipe}")
            variants.append(Variant(control, _alike(other, own, settings), ""))
    for name in rivals:
        rival = load_recipe(name)
        variants.append(Variant(name, _alike(rival, own, settings), graph_of(second_stage(rival))))
    return tuple(variants)


def plain_of(model: ModelConfig) -> ModelConfig:
    """The equally stacked plain detector: as many stages, later ones with the head of the first.

    No score updates. Of a detector of one stage, or of none, it is the base.
    """
    if len(model.stages) < 2:
        return base_of(model)
    stacked = stacked_of(model) or model
    return replace(stacked, stages=tuple(replace(stage, score_update=None) for stage in stacked.stages))


def context_of(model: ModelConfig) -> ModelConfig:
    """The graph-free context detector: the last of the plain one's stages gets one vector for the image.

    A detector of one stage gets a second one for that, which refines boxes too: an advantage of this control.
    """
    plain = plain_of(model)
    stages = plain.stages if len(plain.stages) > 1 else two_stages(1, SharedHeadConfig())
    last = replace(stages[-1], head=ImageContextConfig())
    return replace(plain, stages=(*plain.stages[:1], *stages[1:-1], last))


def base_recipe(name: str) -> Config:
    """Find the recipe that is another one without what its paper adds.

    Raises:
        ConfigError: there is none.
    """
    return find_recipe(base_of(load_recipe(name).model), f"the plain detector behind {name}")


def find_recipe(model: ModelConfig, what: str) -> Config:
    """Find the recipe of a model.

    Raises:
        ConfigError: there is none; the message says what was looked for.
    """
    for make in RECIPES.values():
        if make().model == model:
            return make()
    raise ConfigError(f"found no recipe that is {what}; expected one in detector/recipes; write it there")


def _alike(other: Config, own: Config, settings: Mapping[str, Any]) -> Config:
    """Another recipe with the same training and, where it has them, the same settings of the model."""
    known = flatten(other)
    shared = {key: value for key, value in settings.items() if key in known and ".head." not in key}
    return replace(override(other, shared), train=own.train)
