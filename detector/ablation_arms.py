"""The arms of an experiment: a head as its recipe has it, and the same with something taken away.

Every arm is one region stage behind a plain first one, and differs from the recipe's own in one thing:

| control | what is there instead | what a difference to the recipe tells |
|---|---|---|
| none | a plain head (see `plain_head`), equally stacked | the whole of what the recipe adds |
| context | one vector for the image; no graph, no class weights | whether the image alone would do |
| identity, shuffled, random, degree-preserving | another graph (`kgtool controls`) | what the graph says |
| uniform | the same attention for all classes (Reasoning-RCNN, table 3) | the attention |
| no-attention | none (the same table) | the attention |
| region-feature | a pool of the image's own features (the same table) | the class weights |
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from detector.config import Config, ProposalConfig, StageConfig
from detector.errors import ConfigError
from detector.heads import ImageContextConfig
from detector.interfaces import HeadConfig, SharedHeadConfig, TwoLinearConfig

#: Where an arm has the graph that was given.
GIVEN = "given"

#: Arms that every experiment has.
ALWAYS = ("none", "context")

#: Controls that are another graph; the names are those of `kgtool controls --kind`.
GRAPHS = ("identity", "shuffled", "random", "degree-preserving")

#: Of these, those whose graph still has counts of pairs of classes.
GRAPHS_WITH_COUNTS = ("shuffled",)

#: Controls that are a setting of the head: its name, and the value.
SETTINGS = {
    "uniform": ("attention", "uniform"),
    "no-attention": ("attention", "off"),
    "region-feature": ("pool", "region"),
}

#: What a stage has of the first one, whose boxes it sees and from whose class and box layer it starts.
OF_FIRST_STAGE = ("foreground_iou", "box_std", "loss_weight")

CONTROLS = (*ALWAYS, *GRAPHS, *SETTINGS)


@dataclass(frozen=True)
class Arm:
    """One arm of an experiment.

    Attributes:
        name: of the control, or of a recipe.
        stage: the stage behind the first one.
        graph: GIVEN, a control of it, or "" for a stage that reads none.
    """

    name: str
    stage: StageConfig
    graph: str


def list_arms(recipe: Config, controls: Sequence[str], rivals: Sequence[Config] = ()) -> tuple[Arm, ...]:
    """List the arms: the recipe, its controls with those of `ALWAYS`, and other recipes beside them.

    Raises:
        ConfigError: a control that is not known or that says nothing about this recipe, or a recipe without a
            stage of its own.
    """
    own = second_stage(recipe)
    arms = [Arm(recipe.recipe, own, graph_of(own))]
    plain = plain_head(recipe)
    arms += [control_arm(own, control, plain) for control in chosen_controls(recipe, controls)]
    for rival in rivals:
        stage = second_stage(rival)
        arms.append(Arm(rival.recipe, stage, graph_of(stage)))
    return tuple(arms)


def chosen_controls(recipe: Config, controls: Sequence[str]) -> tuple[str, ...]:
    """Return the controls that were asked for, or "all" that fit, with those of `ALWAYS`, in a fixed order.

    Raises:
        ConfigError: one that is not known, or that takes nothing away from the recipe.
    """
    fitting = fitting_controls(second_stage(recipe))
    if tuple(controls) == ("all",):
        return fitting
    for control in controls:
        if control not in CONTROLS:
            raise ConfigError(f"--controls: found {control}; expected some of {', '.join(CONTROLS)}, or all")
        if control not in fitting:
            raise ConfigError(
                f"--controls: found {control}, which takes nothing away from recipe {recipe.recipe}; "
                f"expected some of {', '.join(fitting)}"
            )
    return tuple(control for control in fitting if control in (*ALWAYS, *controls))


def second_stage(recipe: Config) -> StageConfig:
    """Take the last stage of a recipe as one behind a plain first stage, on the same regions.

    Threshold, box scale and weight become those of the first stage, whose class and box layer it starts from.
    A score update on a plain head stands on the head of the first stage.

    Raises:
        ConfigError: it is the plain stage alone.
    """
    if not recipe.model.stages:
        raise ConfigError(
            f"recipe {recipe.recipe}: found no region stage; expected one whose head to compare"
        )
    first, last = recipe.model.stages[0], recipe.model.stages[-1]
    if isinstance(last.head, TwoLinearConfig):
        if last.score_update is None:
            raise ConfigError(
                f"recipe {recipe.recipe}: found the plain head alone; expected a recipe that adds something"
            )
        last = replace(last, head=SharedHeadConfig())
    shared: Any = {name: getattr(first, name) for name in OF_FIRST_STAGE}
    return replace(last, **shared)


def graph_of(stage: StageConfig) -> str:
    """Say which graph a stage of a recipe reads: the given one, or none."""
    counts = stage.score_update is not None and stage.score_update.needs_counts
    return GIVEN if stage.head.needs_graph or counts else ""


def fitting_controls(stage: StageConfig) -> tuple[str, ...]:
    """List the controls that take something away from a stage."""
    options = {field.name for field in fields(_as_dataclass(stage.head))}
    graphs: tuple[str, ...] = GRAPHS if stage.head.needs_graph else ()
    if graph_of(stage) and not graphs:
        graphs = GRAPHS_WITH_COUNTS
    settings = tuple(name for name, (option, _) in SETTINGS.items() if option in options)
    return (*ALWAYS, *graphs, *settings)


def plain_head(recipe: Config) -> HeadConfig:
    """Return the head of the arm none: one with linear layers of its own where the recipe's has such.

    That is so of a head behind nothing but proposals; one behind another stage stands on that one's head.
    """
    model, head = recipe.model, second_stage(recipe).head
    alone = len(model.stages) == 1 and isinstance(model.proposals, ProposalConfig)
    if not alone or isinstance(head, SharedHeadConfig):
        return SharedHeadConfig()
    return TwoLinearConfig(getattr(head, "width", TwoLinearConfig().width))


def control_arm(own: StageConfig, control: str, plain: HeadConfig) -> Arm:
    """Make one control of a stage (see `fitting_controls`); `plain` is the head of the arm none."""
    if control == "none":
        return Arm(control, replace(own, head=plain, score_update=None), "")
    if control == "context":
        head = ImageContextConfig(getattr(own.head, "squeeze", ImageContextConfig().squeeze))
        return Arm(control, replace(own, head=head, score_update=None), "")
    if control in GRAPHS:
        return Arm(control, own, control)
    option, value = SETTINGS[control]
    changed: Any = replace(_as_dataclass(own.head), **{option: value})
    return Arm(control, replace(own, head=changed), graph_of(own))


def _as_dataclass(head: Any) -> Any:
    """A head's options are a frozen dataclass; the protocol of heads does not say so."""
    return head
