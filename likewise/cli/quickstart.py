"""`likewise quickstart`: the main job on this machine's own text, from data to a search that works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from likewise.cli import console
from likewise.cli.index import Index
from likewise.cli.model_names import DEFAULT_MODEL
from likewise.cli.train import command, run, show_changes, told_of_report
from likewise.recipes.quickstart.harvest import Harvest, harvest

if TYPE_CHECKING:
    from likewise.cli.train import Outcome

QUESTION = "parse a date string"
SECONDS = 50.0  # of training, at the pace of the first steps
LIMIT_S = 75.0  # after which it ends, should the machine have become slower


def quickstart(
    model: Annotated[str, Option(help="Folder or Hub name of the model to start from.")] = DEFAULT_MODEL,
    out: Annotated[Path, Option(help="Folder for the data, the model and the index.")] = Path("demo"),
    pairs: Annotated[
        int | None,
        Option(min=2, help="How many pairs to train on; else as many as this machine can in a minute."),
    ] = None,
    seed: Annotated[int, Option(help="Decides which pairs, and all that is random in training.")] = 42,
) -> None:
    """Train a model on this machine's own text, and see that it helped.

    Teaches a model to find Python functions by what they do. It learns from the docstrings of the packages that are
    installed here, and is measured on the standard library, which it does not see in training. Nothing but the model is downloaded;
    two CPU cores need a few minutes.
    """
    from likewise.recipe import read_recipe
    from likewise.recipes.quickstart.docstrings import installed_packages
    from likewise.recipes.quickstart.pace import BATCH, STEPS, pairs_in
    from likewise.tables import quiet_datasets

    data = harvest(BATCH * STEPS if pairs is None else pairs, seed)
    if pairs is None:
        console.say("Measuring the pace of this machine by a few steps ...")
        with quiet_datasets():
            number = pairs_in(SECONDS, model, data.train)
        data = replace(data, train=installed_packages(number, seed, data.held_out))
    recipe = data.write(out, model, seed)
    _introduce(model, data)
    limit_s = LIMIT_S if pairs is None else None
    outcome = run(read_recipe(recipe, out), also=("_accuracy@1",), limit_s=limit_s)
    names = [described.name for described in data.held_out]
    embeddings = outcome.model.encode_document(names, show_progress_bar=False)
    index = Index(embeddings, names, [described.sentence for described in data.held_out], str(outcome.folder))
    index.save(out / "library")
    _conclude(out, outcome, index)


def _introduce(model: str, data: Harvest) -> None:
    train = data.train
    packages = {d.name.partition(".")[0] for d in train}
    example = next((d for d in train if len(d.sentence) + len(d.name) < 90), train[0])
    console.say("Find Python functions by what they do", style="bold")
    pairs = f"{len(train):,} pairs (sentence, function) from {len(packages)} installed packages, such as"
    measured = f"{len(data.measured):,} functions of the standard library, not seen in training"
    shown = f'"{example.sentence}"  {example.name}'
    console.table([("model", model), ("train on", pairs), ("", shown), ("measure on", measured)])
    console.say()


def _conclude(out: Path, outcome: Outcome, index: Index) -> None:
    from likewise.cli.search import best

    console.say()
    show_changes(outcome.measured, ("held-out library", ""))
    console.say(told_of_report(outcome))
    library = out / "library"
    console.say(
        f"Saved the model to {outcome.folder} and an index of the standard library to {library}. Try it:"
    )
    console.say()
    console.say(f'$ {command()} search "{QUESTION}" {library}', style="bold")
    found = best(outcome.model, index, QUESTION, 3)
    console.table([(f"{score:.3f}", text, note) for score, text, note in found])
