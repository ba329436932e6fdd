"""The recipes that come with the package, by name: what each is about and how long it takes, as its header says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from likewise.checked_yaml import check_known

FOLDER = Path(__file__).parent
NOT_RECIPES = frozenset({"__init__", "catalogue", "common"})


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
    def minutes(self) -> str:
        """How many minutes it took, as its header says; "?" where it says that nobody has measured."""
        found = re.search(r"^#? +minutes +([\d.]+)", self.text, re.MULTILINE)
        return found[1] if found else "?"


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
