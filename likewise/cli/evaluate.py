"""`likewise evaluate`: how good a model is on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli import console
from likewise.cli.model_names import DEFAULT_MODEL, load_model
from likewise.cli.read_texts import split_names

if TYPE_CHECKING:
    from likewise.evaluation.bootstrap import Interval
    from likewise.recipe import EvaluatorRecipe
    from likewise.sentence_transformer.model import SentenceTransformer
    from likewise.training.data.sources import Source

SHAPES = (
    "two texts and a number from a range (how similar are they?), two texts and 0 or 1 (do they mean the same?), three "
    "texts (is the second nearer to the first than the third?), or two texts (does each find its own?)"
)

FIX = "leave it out: name the others with `--columns`."


def evaluate(
    data: Annotated[
        Path,
        typer.Option(help="A table (.parquet, .csv, .jsonl), a folder in BEIR layout, or a recipe (.yaml)."),
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help=f"Folders or Hub names of the models.  [default: {DEFAULT_MODEL}]"
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of the table to use, in order, with commas: question,answer")
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Are the others better than the first, or worse, by more than chance?"
        ),
    ] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add the 95 % confidence interval of each number.")
    ] = False,
    recipe_data: Annotated[
        Path | None, typer.Option(help="Folder that replaces ${data} in a recipe.")
    ] = None,
) -> None:
    """Measure models.

    A table's columns decide what is measured: two texts and a number, two texts and 0 or 1, three texts, or two texts.

    Examples:

        likewise evaluate --data stsb-test.parquet --columns sentence1,sentence2,score

        likewise evaluate demo/model/final --data scifact/ --intervals

        likewise evaluate all-MiniLM-L6-v2 demo/model/final --data scifact/ --compare

        likewise evaluate --data recipes/sts_cosent.yaml --recipe-data ../data
    """
    from likewise.tables import quiet_datasets

    names = list(models or [DEFAULT_MODEL])
    if compare and len(names) < 2:
        raise ValueError(
            f"`--compare` takes two models or more, but got {', '.join(names)}. Name another, or drop `--compare`."
        )
    if compare and intervals:
        raise ValueError(
            "`--compare` shows intervals of the differences. Drop `--intervals`, or `--compare`."
        )
    with quiet_datasets():
        chosen = _evaluators(data, columns, recipe_data)
        evaluators = {name: recipe.load() for name, (recipe, _) in chosen.items()}
        encoders = [load_model(name) for name in names]
        for name, evaluator in evaluators.items():
            console.say(f"{name}: {type(evaluator).__name__} ({chosen[name][1]})", style="bold")
            evaluator.show_progress_bar = console.err.is_terminal
            if compare:
                for other, title in zip(encoders[1:], names[1:], strict=True):
                    _show_comparison(evaluator, (encoders[0], other), (names[0], title), name)
            else:
                _show_metrics(evaluator, encoders, names, name, intervals)


def _show_metrics(
    evaluator: Any, models: Sequence[SentenceTransformer], names: Sequence[str], name: str, intervals: bool
) -> None:
    """A line for each metric, the primary one first; for each model its number, and an interval on request."""
    from likewise.evaluation.bootstrap import confidence_intervals
    from likewise.evaluation.embedding import sharing_embeddings

    metrics, found = [], []
    for model in models:
        with sharing_embeddings(model):
            metrics.append(evaluator(model))
            found.append(confidence_intervals(evaluator, model) if intervals else {})
    first_keys = (str(evaluator.primary_metric),)
    rows = []
    for key in dict.fromkeys([*first_keys, *metrics[0]]):
        row = [key.removeprefix(f"{name}_")]
        for numbers, ends in zip(metrics, found, strict=True):
            row += [f"{numbers[key]:.4f}", *(_ends(ends.get(key)) if intervals else ())]
        rows.append(row)
    header = [""]
    for title in _short_names(names) if len(names) > 1 else [""]:
        header += [title, *(("from", "to") if intervals else ())]
    console.table(rows, header if any(header) else ())


def _short_names(names: Sequence[str]) -> list[str]:
    """The last parts of the models' names, where these tell them apart."""
    ends = [Path(name).name for name in names]
    return ends if len(set(ends)) == len(ends) else list(names)


def _ends(interval: Interval | None) -> tuple[str, str]:
    return ("", "") if interval is None else (f"{interval.low:.4f}", f"{interval.high:.4f}")


def _show_comparison(
    evaluator: Any,
    models: tuple[SentenceTransformer, SentenceTransformer],
    names: tuple[str, str],
    name: str,
) -> None:
    """A line for each metric: both models, how they differ, and how often chance alone does that."""
    from likewise.evaluation.bootstrap import compare_models

    evaluator.prepare(models[0])
    found = compare_models(evaluator, *models)
    if not found:
        raise ValueError(
            f"{type(evaluator).__name__} has no metrics of single items, so models cannot be compared."
        )
    first_keys = [key for key in (evaluator.primary_metric,) if key in found]
    rows = []
    for key in dict.fromkeys([*first_keys, *found]):
        one = found[key]
        numbers = (
            one.first,
            one.second,
            one.difference.value,
            one.difference.low,
            one.difference.high,
            one.p_value,
        )
        signs = ("", "", "+", "+", "+", "")
        cells = [f"{number:{sign}.4f}" for number, sign in zip(numbers, signs, strict=True)]
        rows.append((key.removeprefix(f"{name}_"), *cells))
    console.table(rows, ("", *_short_names(names), "difference", "from", "to", "p"))


def _evaluators(
    data: Path, columns: str | None, recipe_data: Path | None
) -> dict[str, tuple[EvaluatorRecipe, str]]:
    """The evaluators by name, and for each in words why it is this one."""
    from likewise.recipe import FOLDER_EVALUATOR, EvaluatorRecipe, read_recipe
    from likewise.training.data.sources import Source

    if data.suffix in (".yaml", ".yml"):
        recipe = read_recipe(data, recipe_data)
        found = {**recipe.dev, **recipe.test}
        if not found:
            raise ValueError(f"{data} has no evaluators. Add them under `dev` or `test`.")
        return {name: (one, f"{data.name} names it") for name, one in found.items()}
    if data.is_dir():
        of_folder = EvaluatorRecipe(FOLDER_EVALUATOR, Source(str(data), split="test"), data.name)
        return {data.name: (of_folder, f"{data.name} is a folder of queries, documents and judgements")}
    source = Source(str(data), columns=split_names(columns))
    kind, reason = _evaluator_for(source)
    return {data.stem: (EvaluatorRecipe(kind, source, data.stem), reason)}


def _evaluator_for(source: Source) -> tuple[str, str]:
    """The evaluator for a table, by its columns, and why."""
    from likewise.training.data.columns import LABEL_COLUMNS
    from likewise.training.data.metadata import metadata_warnings

    rows = source.load()
    label = next((name for name in LABEL_COLUMNS if name in rows.column_names), None)
    texts = [name for name in rows.column_names if name != label]
    for warning in metadata_warnings(rows, texts, Path(source.source).name, FIX):
        console.say(warning, style="bold")
    listed = ", ".join(texts)
    if label is not None and len(texts) == 2:
        if set(rows.unique(label)) <= {0, 1}:
            return "BinaryClassificationEvaluator", f"{listed} are two texts and {label} is 0 or 1"
        return "EmbeddingSimilarityEvaluator", f"{listed} are two texts and {label} is a number from a range"
    if label is None and len(texts) == 2:
        return "TranslationEvaluator", f"{listed} are two texts, without a number"
    if label is None and len(texts) == 3:
        return "TripletEvaluator", f"{listed} are three texts"
    raise ValueError(
        f"{source.source} has the columns {', '.join(rows.column_names)}, but a table for evaluation has {SHAPES}. "
        "Choose columns with `--columns`; the number's column is called label or score."
    )
