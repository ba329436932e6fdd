"""`likewise train`: a training run from a recipe."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from likewise.cli import console
from likewise.cli.model_names import hub_name

if TYPE_CHECKING:
    from likewise.evaluation import SentenceEvaluator
    from likewise.evaluation.measurement import Measurement
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
    console.say()
    show_changes(outcome.measured, ("measured with", "metric"))
    console.say(f"Saved to {outcome.folder} after {outcome.seconds:.0f} s of training.")
    console.say(told_of_report(outcome))
    console.say(f"Try it:  {command()} {example(read.family, outcome)}")


@dataclass(frozen=True)
class Outcome:
    """What came of a training run.

    Attributes:
        folder: Where the model was saved.
        model: The model.
        seconds: How long the training took.
        measured: What evaluators measured before and after, as `compared_metric` gives it, each with the evaluator's `name`; the
            primary metric of each first.
        report: The report; None where there is none.
    """

    folder: Path
    model: Any
    seconds: float
    measured: Sequence[Mapping[str, Any]]
    report: Path | None = None


def show_changes(measured: Sequence[Mapping[str, Any]], titles: tuple[str, str]) -> None:
    """A table of metrics before and after, with the interval of their change."""
    rows = []
    for row in measured:
        change, low, high = row["difference"]
        ends = [f"{end:+.4f}" if math.isfinite(end) else "" for end in (low, high)]
        numbers = f"{row['before'][0]:.4f}", f"{row['after'][0]:.4f}", f"{change:+.4f}"
        rows.append((row["name"], row["metric"], *numbers, *ends))
    if rows:
        console.table(rows, header=(*titles, "before", "after", "change", "from", "to (95 %)"))
        console.say()


def told_of_report(outcome: Outcome) -> str:
    """Where the report is, or how to get one."""
    from likewise.report import page

    if outcome.report is not None:
        return f"Report:  {outcome.report}"
    return f"No report was written: that needs `{page.INSTALL}`, and `report: true` (which is the default)."


def run(recipe: Recipe, model_name: str | None = None, also: tuple[str, ...] = ()) -> Outcome:
    """Train as a recipe says, and measure before and after.

    Args:
        recipe: The recipe.
        model_name: Another model to start from.
        also: Endings of metrics that the outcome tells beside each primary one.
    """
    from likewise.cli.progress import TrainingProgress
    from likewise.report.charts import is_installed
    from likewise.tables import quiet_datasets
    from likewise.training.run.comparison import compared_metric

    arguments = recipe.arguments(
        **DEFAULTS, report=is_installed(), disable_tqdm=True, output_dir="models/trained"
    )
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
        found = [
            {"name": name} | compared_metric(metric, metrics[metric], after[name][metric])
            for name, metrics in before.items()
            for metric in metrics
            if metric == next(iter(metrics)) or metric.endswith(also)
        ]
    folder = Path(str(arguments.output_dir)) / "final"
    model.save_pretrained(str(folder))
    report = trainer.report.write(found, str(folder)) if trainer.report is not None else None
    return Outcome(folder, model, progress.seconds, found, report)


def name_origins(model: Model, model_name: str, data_sets: list[str]) -> None:
    """Tell the model card what the model was and what it is trained on, which files do not say."""
    card = model.model_card_data
    if card.base_model is None:
        card.set_base_model(hub_name(model_name))
    card.train_datasets = card.train_datasets or [{"name": name} for name in data_sets]


def measure(
    model: Model, evaluators: Mapping[str, SentenceEvaluator], title: str
) -> dict[str, dict[str, Measurement]]:
    """Every evaluator's metrics without its name, the primary one first; that one is printed."""
    found = {}
    for name, evaluator in evaluators.items():
        of_family = cast(Any, model)  # the recipe names evaluators of the model's family
        evaluator.prepare(of_family)
        metrics = evaluator.measure(of_family)
        evaluator.report(of_family, metrics)
        primary = str(evaluator.primary_metric).removeprefix(f"{name}_")
        found[name] = {primary: metrics[primary]} | metrics
        console.say(f"{title:<9} {name}: {primary} {metrics[primary].value:.4f}")
    return found


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
