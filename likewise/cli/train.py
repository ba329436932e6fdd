"""`likewise train`: a training run from a recipe."""

from __future__ import annotations

import math
import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import hub_name

if TYPE_CHECKING:
    from likewise.evaluation import SentenceEvaluator
    from likewise.evaluation.measurement import Measurement
    from likewise.families import ModelFamily
    from likewise.model.model import Model
    from likewise.recipe import Recipe

# What recipes leave open: how a run is shown, and where it is kept.
DEFAULTS = {
    "logging_steps": 10, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "output_dir": "models/trained",
}  # fmt: skip


def train(
    context: typer.Context,
    recipe: Annotated[
        str, Argument(help="A recipe: a YAML file or script, or a name that `likewise recipes` lists.")
    ],
    data: Annotated[
        Path | None,
        Option(help="Folder with the data: what ${data} in a recipe stands for. Else from the Hub."),
    ] = None,
    model: Annotated[str | None, Option(help="Folder or Hub name of another model to start from.")] = None,
) -> None:
    """Train a model as a recipe says.

    A recipe in YAML is checked before anything is loaded; the trained model is saved to its output_dir/final. Those that are
    scripts take further options of their own: `likewise train NAME -- --help`.

    Examples:

        likewise train sts_cosent --data ../data

        likewise train my_recipe.yaml --model my-model

        likewise train matryoshka_sizes --data ../data --sizes 384 96
    """
    from likewise.recipe import read_recipe
    from likewise.recipes.catalogue import find_recipe

    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml", ".py") and not path.is_file():
        path = find_recipe(recipe).path
    if path.suffix == ".py":
        given = {"--data": data, "--model": model}
        options = [str(part) for name, value in given.items() if value is not None for part in (name, value)]
        return run_script(path, [*options, *context.args])
    if context.args:
        raise ValueError(
            f"`{context.args[0]}` is nothing that a recipe in YAML takes: only `--data` and `--model`. Change a copy of it: "
            f"`likewise recipes show {path.stem} > mine.yaml`."
        )
    read = read_recipe(path, data)
    outcome = run(read, model)
    console.say()
    show_changes(outcome.measured, ("measured with", "metric"))
    console.say(f"Saved to {outcome.folder} after {outcome.seconds:.0f} s of training.")
    console.say(told_of_report(outcome))
    console.say(f"Try it:  {command()} {example(read.family, outcome)}")


def run_script(path: Path, arguments: list[str]) -> None:
    """Run a recipe that is a script, as `python` would."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe {path}. Check the path.")
    own = sys.argv
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = own


@dataclass(frozen=True)
class Outcome:
    """What came of a training run."""

    folder: Path  # where the model was saved
    model: Any  # the model
    seconds: float  # how long the training took
    # What evaluators measured before and after, as `compared_metric` gives it, each with the evaluator's
    # `name`; the primary metric of each first.
    measured: Sequence[Mapping[str, Any]]
    report: Path | None = None  # the report; None where there is none


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


def run(
    recipe: Recipe, model_name: str | None = None, also: tuple[str, ...] = (), limit_s: float | None = None
) -> Outcome:
    """Train as a recipe says, from another model if one is named, and measure before and after.

    The outcome tells metrics whose names end as one of `also` beside each primary one. The training ends after `limit_s` seconds,
    wherever it is; None for its own end.
    """
    from likewise.cli.progress import TrainingProgress
    from likewise.report.charts import is_installed
    from likewise.tables import quiet_datasets
    from likewise.training.run.comparison import compared_metric

    arguments = recipe.arguments(**DEFAULTS, report=is_installed())
    with quiet_datasets():
        data_sets = {name: part.source.load() for name, part in recipe.train.items()}
        dev = {name: part.load() for name, part in recipe.dev.items()}
        test = {name: part.load() for name, part in recipe.test.items()}
        model = recipe.model.load(model_name)
        card = model.model_card_data  # what the model was and what it is trained on, files do not say
        if card.base_model is None:
            card.set_base_model(hub_name(model_name or recipe.model.name))
        card.train_datasets = card.train_datasets or [{"name": name} for name in data_sets]
        losses = recipe.losses(model)
        is_single = len(data_sets) == 1
        trainer = recipe.family.trainer_class(
            model=model, args=arguments, evaluator=list(dev.values()) or None,
            train_dataset=next(iter(data_sets.values())) if is_single else data_sets,
            loss=next(iter(losses.values())) if is_single else losses,
        )  # fmt: skip
        before = measure(model, dev | test, "before")
        progress = TrainingProgress(limit_s)
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
    from likewise.families import CROSS_ENCODER, SENTENCE_TRANSFORMER

    if family is SENTENCE_TRANSFORMER:
        return f"encode TEXTS.txt --model {outcome.folder} --out vectors.npy"
    if family is CROSS_ENCODER and outcome.model.num_labels == 1:
        return f'rerank "QUERY" TEXTS.txt --model {outcome.folder}'
    return f"evaluate {outcome.folder} --data PAIRS.csv"


def command() -> str:
    """How this command is called: by its name where the shell finds it."""
    return "likewise" if shutil.which("likewise") else sys.argv[0]
