"""The command line of ``rnncond recipes``."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument
from typer.core import TyperGroup

from pipelines.cli import options
from pipelines.config.choices import RECIPES, purpose_of, recipe_names
from pipelines.console import Outcome


class Recipes(TyperGroup):
    """``list`` is meant where nothing is named, and ``show`` where a recipe is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_recipe = bool(args) and ((RECIPES / f"{args[0]}.yaml").is_file() or args[0].endswith((".yaml", ".yml")))
        meant = ["show"] if is_recipe else []
        return super().parse_args(ctx, [*meant, *args] or ["list"])


app = options.application(
    cls=Recipes,
    help="The recipes that come with the project, and every key that a recipe may have.",
    epilog="For example: rnncond recipes show show_tell.small",
)


@app.command(name="list")
def list_recipes() -> Outcome:
    """List the recipes, each with what it is for."""
    purposes = {name: purpose_of(name) for name in recipe_names()}
    width = max(map(len, purposes))
    for name, purpose in purposes.items():
        print(f"{name:<{width}}  {purpose}")
    return Outcome({"recipes": purposes}, printed=True)


@app.command(epilog="For example: rnncond recipes show encdec_bidirectional.small")
def show(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="the name of a recipe, or a YAML file")],
) -> Outcome:
    """Show every key of a recipe with its value here, type, default and meaning.

    `rnncond train RECIPE --cfg` prints a recipe with every default written out.
    """
    from pipelines.config import schema

    keys = schema.keys_of_recipe(recipe)
    for key in keys:
        given = f"= {key.value}" if key.value is not None else f"(default: {key.default})"
        print(f"{key.path} {given if key.value is not None or key.default is not None else '(to be given)'}")
        default = f"; default: {key.default}" if key.value is not None and key.default is not None else ""
        print(f"    {key.type}{default}")
        if key.meaning:
            print(f"    {key.meaning}")
    return Outcome({"recipe": recipe, "keys": [key._asdict() for key in keys]}, printed=True)
