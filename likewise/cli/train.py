"""`likewise train`: a training run from a recipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from likewise.cli import console
from likewise.cli.model_names import hub_name

if TYPE_CHECKING:
    from likewise.evaluation import SentenceEvaluator
    from likewise.families import ModelFamily
    from likewise.model.model import Model
    from likewise.recipe import Recipe

# Only how a run is shown; recipes may say otherwise.
DEFAULTS = {"logging_steps": 10, "report_to": "none", "save_strategy": "no"}


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    data: Annotated[Path | None, typer.Option(help="Folder that replaces ${data} in the recipe.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of another model to start from.")
    ] = None,
) -> None:
    """Train a model as a recipe says.

    The recipe is checked before anything is loaded. The trained model is saved to the recipe's output_dir/final.

    Examples:

        likewise train recipes/sts_cosent.yaml --data ../data

        likewise train recipes/answer_reranker.yaml --data ../data
    """
    from likewise.recipe import read_recipe

    read = read_recipe(recipe, data)
    outcome = run(read, model)
    rows = [
        (name, metric, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
        for name, metric, before, after in outcome.changes()
    ]
    if rows:
        console.say()
        console.table(rows, header=("measured with", "metric", "before", "after", "change"))
    console.say()
    console.say(f"Saved to {outcome.folder} after {outcome.seconds:.0f} s of training.")
    console.say(f"Try it:  {command()} {example(read.family, outcome)}")


@dataclass(frozen=True)
class Outcome:
    """What came of a training run.

    Attributes:
        folder: Where the model was saved.
        model: The model.
        seconds: How long the training took.
        before: For each evaluator's name its metrics before the training, its primary metric first.
        after: The same after it.
    """

    folder: Path
    model: Any
    seconds: float
    before: Mapping[str, Mapping[str, float]]
    after: Mapping[str, Mapping[str, float]]

    def changes(self) -> list[tuple[str, str, float, float]]:
        """For each evaluator: name, primary metric, before, after."""
        firsts = [(name, next(iter(metrics))) for name, metrics in self.before.items()]
        return [(name, key, self.before[name][key], self.after[name][key]) for name, key in firsts]


def run(recipe: Recipe, model_name: str | None = None) -> Outcome:
    """Train as a recipe says, and measure before and after.

    Args:
        recipe: The recipe.
        model_name: Another model to start from.
    """
    from likewise.cli.progress import TrainingProgress
    from likewise.tables import quiet_datasets

    arguments = recipe.arguments(**DEFAULTS, disable_tqdm=True, output_dir="models/trained")
    with quiet_datasets():
        data_sets = {name: part.source.load() for name, part in recipe.train.items()}
        dev = {name: part.load() for name, part in recipe.dev.items()}
        test = {name: part.load() for name, part in recipe.test.items()}
        model = recipe.model.load(model_name)
        name_origins(model, model_name or recipe.model.name, list(data_sets))
        losses = recipe.losses(model)
        is_single = len(data_sets) == 1
        trainer = recipe.family.trainer_class(
            model=model,
            args=arguments,
            train_dataset=next(iter(data_sets.values())) if is_single else data_sets,
            loss=next(iter(losses.values())) if is_single else losses,
            evaluator=list(dev.values()) or None,
        )
        before = measure(model, dev | test, "before")
        progress = TrainingProgress()
        with progress.watching(trainer, model):
            trainer.train()
        after = measure(model, dev | test, "after")
    folder = Path(str(arguments.output_dir)) / "final"
    model.save_pretrained(str(folder))
    return Outcome(folder, model, progress.seconds, before, after)


def name_origins(model: Model, model_name: str, data_sets: list[str]) -> None:
    """Tell the model card what the model was and what it is trained on, which files do not say."""
    card = model.model_card_data
    if card.base_model is None:
        card.set_base_model(hub_name(model_name))
    card.train_datasets = card.train_datasets or [{"name": name} for name in data_sets]


def measure(
    model: Model, evaluators: Mapping[str, SentenceEvaluator], title: str
) -> dict[str, dict[str, float]]:
    """Every evaluator's metrics without its name, the primary one first; that one is printed."""
    measured = {}
    for name, evaluator in evaluators.items():
        metrics = evaluator(cast(Any, model))  # the recipe names evaluators of the model's family
        primary = str(evaluator.primary_metric)
        ordered = {primary: metrics[primary]} | metrics
        measured[name] = {key.removeprefix(f"{name}_"): float(value) for key, value in ordered.items()}
        console.say(f"{title:<9} {name}: {primary.removeprefix(f'{name}_')} {metrics[primary]:.4f}")
    return measured


def example(family: ModelFamily, outcome: Outcome) -> str:
    """What to try with the trained model."""
    from likewise.families import SENTENCE_TRANSFORMER

    if family is SENTENCE_TRANSFORMER:
        return f"encode TEXTS.txt --model {outcome.folder} --out vectors.npy"
    if outcome.model.num_labels == 1:
        return f'rerank "QUERY" TEXTS.txt --model {outcome.folder}'
    return f"evaluate {outcome.folder} --data PAIRS.csv"


def command() -> str:
    """How this command is called: by its name where the shell finds it."""
    return "likewise" if shutil.which("likewise") else sys.argv[0]
