"""`likewise recipes`: the recipes that come with the package."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument

from likewise.cli import console
from likewise.recipes.catalogue import find_recipe, listed_recipes

recipes = typer.Typer(invoke_without_command=True)


@recipes.callback()
def list_recipes(context: typer.Context) -> Any:
    """List the recipes that come with the package, each with the minutes that it took; `show NAME` prints one.

    Run one with `likewise train NAME`, with `--data DIR` for data from files and without it for data from the Hub. All that it
    did and what came of it (machine, minutes, score before and after) is said at its beginning.
    """
    if context.invoked_subcommand is None:
        rows = [(recipe.name, recipe.minutes, recipe.title) for recipe in listed_recipes().values()]
        console.table(rows, ("name", "minutes", "what it is about"))


@recipes.command()
def show(name: Annotated[str, Argument(help="The recipe's name.")]) -> None:
    """Print a recipe: put it into a file, change it, and run that.

    Examples:

        likewise recipes show sts_cosent > mine.yaml

        likewise recipes show matryoshka_sizes > mine.py
    """
    console.say(find_recipe(name).text.rstrip("\n"))
