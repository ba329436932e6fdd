"""The recipes that come with the package are listed, shown and run by name, and their headers say what a header has to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import small_model_folder
from typer.testing import CliRunner

from likewise.cli import app
from likewise.recipes.catalogue import FOLDER, ListedRecipe, find_recipe, listed_recipes, page

RECIPES = listed_recipes()
YAML = [name for name, recipe in RECIPES.items() if recipe.path.suffix == ".yaml"]
METRIC = r"[\w@-]+"


@pytest.fixture
def likewise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", RECIPES)
def test_each_header_says_command_hardware_minutes_and_score(name: str) -> None:
    recipe = RECIPES[name]
    header = recipe.text.partition("\nmodel:")[0].partition("\nfrom __future__")[0]
    fields = re.findall(r"^#? +(command|hardware|minutes|score) +\S", header, re.MULTILINE)
    assert set(fields) == {"command", "hardware", "minutes", "score"}
    assert f"likewise train {name}" in header
    assert float(recipe.minutes) > 0
    assert 10 < len(recipe.title) <= 120
    assert "TODO" not in recipe.text


def test_the_page_of_the_documentation_says_what_the_headers_say() -> None:
    written = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python -m likewise.recipes.catalogue > docs/recipes.md"
    for name, recipe in RECIPES.items():
        section = written.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert recipe.title in section
        for run in recipe.runs:
            assert f"`{run['command'].splitlines()[0]}`" in section
            assert run["score"] in section


def test_a_header_is_read_field_by_field(tmp_path: Path) -> None:
    text = """# Two trainings, one after the other.
#
#   command   likewise train one --data ../data
#             likewise train two --data ../data
#   hardware  a core
#   minutes   about 3 of processor time
#   score     0.1 before,
#             0.2 after
#
#   command   likewise train two
#   score     0.3
#
# command, as a word of a sentence.
"""
    recipe = ListedRecipe("two", tmp_path / "two.yaml", text)
    assert recipe.runs == [
        {
            "command": "likewise train one --data ../data\nlikewise train two --data ../data",
            "hardware": "a core",
            "minutes": "about 3 of processor time",
            "score": "0.1 before, 0.2 after",
        },
        {"command": "likewise train two", "score": "0.3"},
    ]
    assert recipe.minutes == "3"


def test_the_list_has_a_line_for_each_recipe_with_its_minutes(likewise: Callable[..., Any]) -> None:
    lines = likewise("recipes").stdout.splitlines()
    assert lines[0].split()[:2] == ["name", "minutes"]
    assert [line.split()[0] for line in lines[1:]] == sorted(RECIPES)
    for line, recipe in zip(lines[1:], RECIPES.values(), strict=True):
        assert line.split()[1] == recipe.minutes
        assert line.endswith(recipe.title)


@pytest.mark.parametrize("name", ["sts_cosent", "mine_hard_negatives"])
def test_a_recipe_is_printed_as_it_is(name: str, likewise: Callable[..., Any]) -> None:
    assert likewise("recipes", "show", name).stdout == RECIPES[name].text


def test_an_unknown_name_is_refused_with_the_nearest(likewise: Callable[..., Any]) -> None:
    for command in (("recipes", "show"), ("train",)):
        result = likewise(*command, "sts_cosnt")
        assert result.exit_code == 2
        assert "knows no `sts_cosnt`. Did you mean `sts_cosent`?" in result.stderr
    with pytest.raises(ValueError, match="knows no `catalogue`"):
        find_recipe("catalogue")


def test_a_recipe_in_yaml_takes_no_options_of_its_own(likewise: Callable[..., Any]) -> None:
    result = likewise("train", "sts_cosent", "--rows", "5")
    assert result.exit_code == 2
    assert "`--rows` is nothing that a recipe in YAML takes" in result.stderr
    assert "likewise recipes show sts_cosent > mine.yaml" in result.stderr


def test_a_script_takes_its_own_options_and_explains_them(likewise: Callable[..., Any]) -> None:
    result = likewise("train", "mine_hard_negatives", "--", "--help")
    assert result.exit_code == 0
    assert "--negatives" in result.stdout
    missing = likewise("train", "nowhere.py")
    assert missing.exit_code == 2
    assert "There is no recipe nowhere.py" in missing.stderr


def test_every_recipe_is_in_the_wheel() -> None:
    settings = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"recipes/*.yaml"' in settings
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(YAML)
    assert (FOLDER / "__init__.py").is_file()  # a package, so that its scripts come along


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random model with as many entries as the recipes' losses ask for."""
    return small_model_folder(tmp_path_factory.mktemp("wide"), hidden_size=384, intermediate_size=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", YAML)
def test_each_recipe_in_yaml_runs_to_its_end(
    name: str, data: Path, wide_model: str, tmp_path: Path, likewise: Callable[..., Any]
) -> None:
    result = likewise("train", name, "--data", data, "--model", wide_model)
    assert result.exit_code == 0, result.output
    table = result.stdout.partition("measured with")[2].splitlines()
    assert table[0].split()[:4] == ["metric", "before", "after", "change"]
    rows = table[1 : table.index("")]
    assert rows
    number = r"\d\.\d{4}"
    for row in rows:
        assert re.match(rf"  {METRIC} +{METRIC} +-?{number} +-?{number} +[+-]{number}", row), row
    assert f"Saved to models/{name}/final" in result.stdout
    assert (tmp_path / "models" / name / "final" / "README.md").is_file()
