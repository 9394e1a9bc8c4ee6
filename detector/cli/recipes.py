"""`detector recipes`."""

import click

from detector.cli.output import echo_json


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def recipes_command(name: str | None, as_json: bool) -> None:
    """List the recipes; with NAME, say what one is and list its settings.

    Every setting can be given to `detector train` as --set KEY=VALUE.

    Example: detector recipes reasoning_rcnn_sample
    """
    import json
    from inspect import getdoc

    from detector.overrides import flatten
    from detector.recipes import RECIPES, load_recipe

    if name is None:
        summaries = {recipe: (getdoc(function) or "").splitlines()[0] for recipe, function in RECIPES.items()}
        if as_json:
            echo_json(summaries)
        else:
            for recipe, summary in summaries.items():
                click.echo(f"{recipe}\n    {summary}")
        return
    settings = flatten(load_recipe(name))
    description = getdoc(RECIPES[name]) or ""
    if as_json:
        echo_json({"recipe": name, "description": description, "settings": settings})
        return
    click.echo(description + "\n")
    for key, value in settings.items():
        click.echo(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
