"""The recipes that come with the package, by name: what each is about and how long it takes, as its header says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from likewise.checked_yaml import check_known

FOLDER = Path(__file__).parent
NOT_RECIPES = frozenset({"__init__", "catalogue", "common"})
FIELD = re.compile(r"#? {3,4}(command|hardware|minutes|score) +(.*)")
FURTHER = re.compile(r"#? {11,}(\S.*)")
PAGE = """# Recipes

One for each kind of training, as a YAML file or a script: `likewise recipes` lists them, `likewise recipes show NAME` prints one with all
that there is to know of it, `likewise train NAME` runs it, and a copy is a start for your own. With `--data DIR` they read files, without it
data sets from the Hub. The figures are those of the recipes' own headers, which this page is made of: measured on public data with
all-MiniLM-L6-v2, which has learnt from a billion pairs; where a training does little for it, or harms, they say so. The data are small,
so that each run ends within minutes on one core: what is shown is the way, not how far it leads.

| recipe | minutes | what it is about |
|---|---|---|
"""


@dataclass(frozen=True)
class ListedRecipe:
    """A recipe: a YAML file, or a script.

    Attributes:
        name: What it is called.
        path: Where it is.
        text: All of it.
    """

    name: str
    path: Path
    text: str

    @property
    def title(self) -> str:
        """Its header's first sentence, without the full stop."""
        first = self.text.lstrip('"# ').partition("\n")[0]
        return first.rstrip('."')

    @property
    def runs(self) -> list[dict[str, str]]:
        """What its header says of each run: its `command`, `hardware`, `minutes` and `score`, as far as they are there."""
        found: list[dict[str, str]] = []
        field = ""
        for line in self.text.splitlines():
            if found and line.startswith(('"""', "model:", "family:")):
                break  # the header's end
            started = FIELD.match(line)
            if started:
                field = started[1]
                if field == "command":
                    found.append({})
                found[-1][field] = started[2]
            elif field and (further := FURTHER.match(line)):
                found[-1][field] += ("\n" if field == "command" else " ") + further[1]
            else:
                field = ""
        return found

    @property
    def minutes(self) -> str:
        """How many minutes the first run took."""
        found = re.search(r"[\d.]+", self.runs[0]["minutes"])
        return found[0] if found else "?"


def listed_recipes() -> Mapping[str, ListedRecipe]:
    """All of them by name, in alphabetical order."""
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in (".py", ".yaml"))
    return {
        path.stem: ListedRecipe(path.stem, path, path.read_text(encoding="utf-8"))
        for path in paths
        if path.stem not in NOT_RECIPES
    }


def find_recipe(name: str) -> ListedRecipe:
    """The recipe of that name.

    Raises:
        ValueError: There is none; the nearest is named.
    """
    known = listed_recipes()
    check_known(name, known, "likewise recipes")
    return known[name]


def page() -> str:
    """The page of the documentation that tells of all recipes: `python -m likewise.recipes.catalogue > docs/recipes.md`."""
    recipes = listed_recipes().values()
    lines = [f"| [{one.name}](#{one.name}) | {one.minutes} | {one.title} |" for one in recipes]
    return PAGE + "\n".join(lines) + "\n" + "".join(map(_section, recipes))


def _section(recipe: ListedRecipe) -> str:
    """What a recipe is about, and what came of its runs."""
    parts = [f"\n## {recipe.name}\n\n{recipe.title}.\n"]
    for run in recipe.runs:
        commands = ", then ".join(f"`{command.strip()}`" for command in run["command"].splitlines())
        told = [
            f"**{name.capitalize()}:** {run[name]}."
            for name in ("score", "minutes", "hardware")
            if name in run
        ]
        parts.append(f"\n- {commands}\n" + "".join(f"    - {one}\n" for one in told))
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
