"""`likewise evaluate`: how good a model is on a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import DEFAULT_MODEL, family_of
from likewise.cli.read_texts import Columns, split_names

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.evaluation.bootstrap import Interval
    from likewise.families import ModelFamily
    from likewise.recipe import EvaluatorRecipe
    from likewise.training.data.sources import Source

# What a table for evaluation has: for embedding models, for cross-encoders, for multi-vector models.
RANGE = "two texts and a number from a range"
RANKING = (
    "several rows with the same first text and 0 or 1 (which of its documents are relevant?), or three texts (a query, a "
    "positive and a negative)"
)
SHAPES = (
    f"{RANGE} (how similar are they?), two texts and 0 or 1 (do they mean the same?), three texts (is the second nearer to "
    "the first than the third?), or two texts (does each find its own?)"
)
PAIR_SHAPES = f"{RANGE} (how similar are they?), two texts and a class (do they mean the same?), {RANKING}"
TOKEN_SHAPES = f"{RANGE} (a teacher's score), or a ranking: {RANKING}"
# What kinds of evaluators for pairs are called of tokens; there are no others.
OF_TOKENS = {"Correlation": "Distillation", "Reranking": "Reranking"}
LEAST_DOCUMENTS = 2  # of a first text, on average, so that its rows are a ranking
FIX = "leave it out: name the others with `--columns`."


def evaluate(
    data: Annotated[
        Path, Option(help="A table (.parquet, .csv, .jsonl), a folder in BEIR layout, or a recipe (.yaml).")
    ],
    models: Annotated[
        list[str] | None,
        Argument(
            metavar="[MODEL]...", help=f"Folders or Hub names of the models.  [default: {DEFAULT_MODEL}]"
        ),
    ] = None,
    columns: Columns = None,
    compare: Annotated[
        bool, Option("--compare", help="Are the others better than the first, or worse, by more than chance?")
    ] = False,
    intervals: Annotated[
        bool, Option("--intervals", help="Add the 95 % confidence interval of each number.")
    ] = False,
    recipe_data: Annotated[Path | None, Option(help="Folder that replaces ${data} in a recipe.")] = None,
) -> None:
    """Measure models, all of one family: embedding models, sparse ones, multi-vector ones or cross-encoders.

    A table's columns decide what is measured: two texts and a number, two texts and 0 or 1, three texts, or two texts. For
    cross-encoders and multi-vector models also: several rows with the same first text and 0 or 1, which is a ranking.

    Examples:

        likewise evaluate --data stsb-test.parquet --columns sentence1,sentence2,score

        likewise evaluate demo/model/final --data scifact/ --intervals

        likewise evaluate all-MiniLM-L6-v2 demo/model/final --data scifact/ --compare

        likewise evaluate --data my_recipe.yaml --recipe-data ../data
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
        family = _common_family(names)
        # Loaded once, and only when the data is found to be right, unless what is right depends on the models.
        loaded = cache(lambda: [family.model_class(name) for name in names])
        chosen = _evaluators(data, columns, recipe_data, family, loaded)
        evaluators = {name: recipe.load() for name, (recipe, _) in chosen.items()}
        encoders = loaded()
        for name, evaluator in evaluators.items():
            console.say(f"{name}: {type(evaluator).__name__} ({chosen[name][1]})", style="bold")
            evaluator.show_progress_bar = console.err.is_terminal
            if compare:
                for other, title in zip(encoders[1:], names[1:], strict=True):
                    _show_comparison(evaluator, (encoders[0], other), (names[0], title), name)
            else:
                _show_metrics(evaluator, encoders, names, name, intervals)


def _show_metrics(
    evaluator: Any, models: Sequence[Any], names: Sequence[str], name: str, intervals: bool
) -> None:
    """A line for each metric, the primary one first; for each model its number, and an interval on request."""
    from likewise.evaluation.bootstrap import confidence_intervals
    from likewise.evaluation.embedding import sharing_embeddings

    metrics, found = [], []
    for model in models:
        with sharing_embeddings(model):
            metrics.append(evaluator(model))
            found.append(confidence_intervals(evaluator, model) if intervals else {})
    rows = []
    for key in dict.fromkeys([str(evaluator.primary_metric), *metrics[0]]):
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


def _show_comparison(evaluator: Any, models: tuple[Any, Any], names: tuple[str, str], name: str) -> None:
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
        one, ends = found[key], found[key].difference
        numbers = one.first, one.second, ends.value, ends.low, ends.high, one.p_value
        signs = ("", "", "+", "+", "+", "")
        cells = [f"{number:{sign}.4f}" for number, sign in zip(numbers, signs, strict=True)]
        rows.append((key.removeprefix(f"{name}_"), *cells))
    console.table(rows, ("", *_short_names(names), "difference", "from", "to", "p"))


def _common_family(names: Sequence[str]) -> ModelFamily:
    """The family of the models; refused where they are of two."""
    families = [family_of(name) for name in names]
    for name, family in zip(names, families, strict=True):
        if family is not families[0]:
            raise ValueError(
                f"{names[0]} is a {families[0].name} and {name} a {family.name}, which are measured by different numbers. Name "
                "models of one family."
            )
    return families[0]


def _evaluators(
    data: Path,
    columns: str | None,
    recipe_data: Path | None,
    family: ModelFamily,
    models: Callable[[], Sequence[Any]],
) -> dict[str, tuple[EvaluatorRecipe, str]]:
    """The evaluators by name, and for each in words why it is this one."""
    from likewise.families import CROSS_ENCODER, MULTI_VECTOR_ENCODER, SENTENCE_TRANSFORMER
    from likewise.recipe import EvaluatorRecipe, read_recipe
    from likewise.training.data.sources import Source

    if data.suffix in (".yaml", ".yml"):
        recipe = read_recipe(data, recipe_data)
        found = {**recipe.dev, **recipe.test}
        if not found:
            raise ValueError(f"{data} has no evaluators. Add them under `dev` or `test`.")
        if recipe.family is not family:
            raise ValueError(
                f"{data} measures a {recipe.family.name}, but the model is a {family.name}. Name another model, or another recipe."
            )
        return {name: (one, f"{data.name} names it") for name, one in found.items()}
    if data.is_dir():
        source = Source(str(data), split="test")
        of_folder = EvaluatorRecipe(family.folder_evaluator, source, data.name, family)
        return {data.name: (of_folder, f"{data.name} is a folder of queries, documents and judgements")}
    source = Source(str(data), columns=split_names(columns))
    rows, label, texts = _read(source)
    if family is MULTI_VECTOR_ENCODER:
        kind, reason = _evaluator_of_pairs(rows, label, texts, source, lambda: (), TOKEN_SHAPES)
        if kind not in OF_TOKENS:
            raise _no_shape(source, rows, TOKEN_SHAPES)
        kind = f"MultiVector{OF_TOKENS[kind]}"
    elif family is CROSS_ENCODER:
        kind, reason = _evaluator_of_pairs(rows, label, texts, source, models, PAIR_SHAPES)
        kind = f"CrossEncoder{kind}"
    else:
        kind, reason = _evaluator_of_embeddings(rows, label, texts, source)
        kind = kind if family is SENTENCE_TRANSFORMER else f"Sparse{kind}"
    # The label stands last, wherever it is in the file.
    ordered = Source(source.source, columns=[*texts, *([label] if label else [])])
    return {data.stem: (EvaluatorRecipe(f"{kind}Evaluator", ordered, data.stem, family), reason)}


def _read(source: Source) -> tuple[Dataset, str | None, list[str]]:
    """A table's rows, its column of labels, and the others."""
    from likewise.training.data.columns import label_column
    from likewise.training.data.symptoms import symptoms

    rows = source.load()
    label = label_column(rows.column_names)
    texts = [name for name in rows.column_names if name != label]
    for warning in symptoms(rows, texts, label, Path(source.source).name, fix=FIX):
        console.say(warning, style="bold")
    return rows, label, texts


def _evaluator_of_embeddings(
    rows: Dataset, label: str | None, texts: Sequence[str], source: Source
) -> tuple[str, str]:
    """What kind of evaluator of embedding models a table is for, by its columns, and why."""
    listed = ", ".join(texts)
    if label is not None and len(texts) == 2:
        if set(rows.unique(label)) <= {0, 1}:
            return "BinaryClassification", f"{listed} are two texts and {label} is 0 or 1"
        return "EmbeddingSimilarity", f"{listed} are two texts and {label} is a number from a range"
    if label is None and len(texts) == 2:
        return "Translation", f"{listed} are two texts, without a number"
    if label is None and len(texts) == 3:
        return "Triplet", f"{listed} are three texts"
    raise _no_shape(source, rows, SHAPES)


def _evaluator_of_pairs(
    rows: Dataset,
    label: str | None,
    texts: Sequence[str],
    source: Source,
    models: Callable[[], Sequence[Any]],
    shapes: str,
) -> tuple[str, str]:
    """What kind of evaluator of pairs a table is for, by its columns and by how many scores the models give, and why."""
    listed = ", ".join(texts)
    if label is None and len(texts) == 3:
        return "Reranking", f"{listed} are a query, a positive and a negative"
    if label is None or len(texts) != 2:
        raise _no_shape(source, rows, shapes)
    if any(model.num_labels > 1 for model in models()):
        return "Classification", f"{listed} are two texts and the model gives a score to each class"
    if not set(rows.unique(label)) <= {0, 1}:
        return "Correlation", f"{listed} are two texts and {label} is a number from a range"
    for_each = len(rows) / len(rows.unique(texts[0]))
    if for_each < LEAST_DOCUMENTS:
        return "Classification", f"{listed} are two texts and {label} is 0 or 1"
    why = f"each {texts[0]} comes with {for_each:.1f} {texts[1]} rows on average, and {label} is 0 or 1"
    return "Reranking", why


def _no_shape(source: Source, rows: Dataset, shapes: str) -> ValueError:
    return ValueError(
        f"{source.source} has the columns {', '.join(rows.column_names)}, but a table for evaluation has {shapes}. "
        "Choose columns with `--columns`; the number's column is called label or score."
    )
