"""One function a run: it returns the whole configuration and names its parts directly.

Recipes lie here in one file a paper. With `backbone_recipes` this is the only part of the detector that names
anything in `detector.reasoning`. A published recipe is not edited: a changed run is a new function that calls
the old.
"""

from collections.abc import Callable
from difflib import get_close_matches

from detector.config import Config
from detector.errors import ConfigError
from detector.recipes import (
    cascade_rcnn,
    class_lift,
    context_blocks,
    duplicate_removal,
    faster_rcnn,
    glore,
    light_head,
    mask_rcnn,
    reasoning_rcnn,
    reasoning_rcnn_ablations,
    reasoning_rcnn_c4,
    relation_networks,
    relation_networks_c5,
    retinanet,
    sgrn,
    vcrnet,
)

#: The recipes by the names that people type.
RECIPES: dict[str, Callable[[], Config]] = {
    recipe.__name__: recipe
    for paper in (
        faster_rcnn,
        cascade_rcnn,
        light_head,
        retinanet,
        mask_rcnn,
        reasoning_rcnn,
        reasoning_rcnn_c4,
        reasoning_rcnn_ablations,
        relation_networks,
        relation_networks_c5,
        duplicate_removal,
        sgrn,
        glore,
        vcrnet,
        context_blocks,
        class_lift,
    )
    for recipe in paper.RECIPES
}


def load_recipe(name: str) -> Config:
    """Return the configuration of a recipe.

    Raises:
        ConfigError: no recipe has this name; the message lists near ones.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`detector recipes` lists them"
        raise ConfigError(f"recipe {name}: not known; {hint}")
    return RECIPES[name]()
