"""`likewise check`: what is wrong with a data set, which loss to start with, and why others do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.evaluate import FIX
from likewise.cli.read_texts import Columns, split_names

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.families import ModelFamily
    from likewise.training.data.family import Family


Rows = list[tuple[str, str]]


def check(
    data: Annotated[
        str, Argument(help="A .parquet, .csv, .tsv or .jsonl file, or the name of a data set on the Hub.")
    ],
    columns: Columns = None,
    evaluation: Annotated[
        str | None, Option("--eval", help="Evaluation data, to look for rows that are in both.")
    ] = None,
    model: Annotated[
        str | None, Option(help="Folder or Hub name of a model, to count the texts that it would cut.")
    ] = None,
    every: Annotated[bool, Option("--all", help="List all losses, and why the others do not fit.")] = False,
) -> None:
    """Say what is wrong with a data set, and which loss to start with.

    The label is the column called label, labels, score or scores, of numbers or words; every other column but one of numbers is,
    in order, a text, or, for cross-encoders, a list of documents. Of large data the first 100,000 rows are looked at.

    Examples:

        likewise check pairs.csv

        likewise check triplets.parquet --columns anchor,positive,negative --eval dev.parquet --model all-MiniLM-L6-v2 --all
    """
    from likewise.cli.model_names import family_of
    from likewise.cross_encoder.data_checks import holds_lists
    from likewise.cross_encoder.family import PAIRS
    from likewise.families import CROSS_ENCODER, SENTENCE_TRANSFORMER
    from likewise.tables import FORMATS, is_table
    from likewise.training.data import checks
    from likewise.training.data.columns import label_column
    from likewise.training.data.sources import Source
    from likewise.training.data.symptoms import overlaps, symptoms
    from likewise.training.data.texts import TEXTS

    rows = Source(data, columns=split_names(columns)).load()
    name = Path(data).name
    label = label_column(rows.column_names)
    rows = _texts_and_label(rows, label)
    lists = [column for column in rows.column_names if column != label and holds_lists(rows, column, name)]
    texts = [column for column in rows.column_names if column != label and column not in lists]
    for column in texts:
        checks.check_texts(rows, column, name)
    console.say(f"{name}: {len(rows):,} rows, columns {', '.join(rows.column_names)}")
    counted, words = None if model is None else family_of(model), []
    if label is not None:
        checks.refuse_missing(rows, label, name, "no label")
        words = sorted(rows.unique(label)) if isinstance(rows[0][label], str) else []
        _show_labels(rows, label, words)
        if words:
            rows = Source(data, columns=rows.column_names, classes={label: words}).load()
    # Of pairs nothing is counted: what is cut of one depends on the other.
    counts = counted is not None and counted.trainer_class.family.output == "sentence_embedding"
    read_by = counted.model_class(model) if counted and counts else None
    found = symptoms(rows, texts, label, name, read_by, FIX)
    if evaluation is not None:
        others = Source(evaluation, columns=split_names(columns)).load()
        other = Path(evaluation).name
        found += overlaps({"": rows}, {other: others}, dict.fromkeys(("train ", f"eval {other}"), texts))
    for warning in found:
        console.say(warning, style="bold")
    if any("`dataset." in warning or "dataset.to_pandas" in warning for warning in found):
        known = is_table(Path(data))
        file = f'"{FORMATS[Path(data).suffix]}", data_files="{data}"' if known else f'"{data}"'
        console.say(f'`dataset` is `load_dataset({file}, split="train")`, of the library datasets.')
    fits, refusals = ([], {}) if lists else _verdicts(SENTENCE_TRANSFORMER, rows, TEXTS)
    for_pairs, refused_pairs = _verdicts(CROSS_ENCODER, rows, PAIRS)
    for title, some in (("start with", fits), ("start with, for a cross-encoder", for_pairs)):
        if first := _to_start_with(some, rows, label, bool(words)):
            console.say(title, style="bold")
            console.table(first)
    if not every:
        told = "`--all` lists them, and says why the others do not."
        console.say(f"{len(fits) + len(for_pairs)} losses fit: {told}")
        return
    for title, some in (("fits", fits), ("fits, for a cross-encoder", for_pairs)):
        if some:
            console.say(title, style="bold")
            console.table(some)
    refusals = refused_pairs if lists else refusals  # none but those over pairs take lists
    for reason, refused in refusals.items():
        console.say(f"does not fit: {reason}", style="bold")
        console.table(refused)


NUMBERS = ("int", "uint", "float", "bool", "double", "date", "time", "duration")  # kinds of cells
IN_BATCH = "batches of 64 or more (other rows are the negatives), batch_sampler: no_duplicates"
START = {  # by use; of those that fit the first two, each with its reason and what batches it wants
    "MultipleNegativesRankingLoss": ("the usual one for texts that belong together", IN_BATCH),
    "OnlineContrastiveLoss": ("for 0 and 1: learns from the hard pairs of a batch", "batches of 32 or more"),
    "SoftmaxLoss": ("for classes of pairs, as in natural language inference", "batches of 16 to 64"),
    "CoSENTLoss": ("for grades: only their order matters", "batches of 16 to 64"),
    "CosineSimilarityLoss": ("for grades that are calibrated similarities", "batches of 16 to 64"),
    "TripletLoss": ("where the negatives are hard and in-batch ones are wrong", "batches of 16 to 64"),
    "BatchAllTripletLoss": ("makes triplets of texts with classes", "batches of 32 or more, batch_sampler: group_by_label"),
    "MarginMSELoss": ("learns a teacher's margins", "batches of 16 to 64"),
    "LambdaLoss": ("for lists of documents, by nDCG", "batches of 8 to 16 lists"),
    "BinaryCrossEntropyLoss": ("the usual one for pairs that are relevant or not", "batches of 16 to 64"),
    "CrossEntropyLoss": ("for classes of pairs", "batches of 16 to 64"),
    "MSELoss": ("learns a teacher's embeddings or scores", "batches of 16 to 64"),
    "ContrastiveTensionLossInBatchNegatives": ("for texts alone", "batches of 64 or more"),
}  # fmt: skip


def _to_start_with(fits: Rows, rows: Dataset, label: str | None, words: bool) -> list[tuple[str, str, str]]:
    """One or two of the losses that fit, each with the reason and its batches."""
    names = [name for name, _ in fits]
    values = set() if label is None else {str(value) for value in rows[label][:1000]}
    classes = bool(values) and all(value.isdigit() for value in values)
    wrong = set() if classes and len(values) > 2 else {"SoftmaxLoss", "CrossEntropyLoss"}
    if classes and len(values) > 2:
        wrong = {"OnlineContrastiveLoss", "BinaryCrossEntropyLoss"}
    wrong |= {"CoSENTLoss", "CosineSimilarityLoss", "MSELoss"} if words else set()
    chosen = [name for name in START if name in names and name not in wrong]
    return [(name, *START[name]) for name in chosen or names][:2] if chosen else []


def _show_labels(rows: Dataset, label: str, words: Sequence[str]) -> None:
    """A bar for each label, or for each range of labels; what to do where they are words."""
    from likewise.training.data.symptoms import MOST_ROWS, label_histogram

    counts = label_histogram(rows[label][:MOST_ROWS])
    most = max((count for _, count in counts), default=1)
    bars = ((f"{label} {value}", f"{count:,}", "#" * round(30 * count / most)) for value, count in counts)
    console.table(list(bars))
    if len(words) > len(counts):
        console.say(f"  and {len(words) - len(counts)} others, each in fewer rows")
    if words:
        some = f"{', '.join(words[:4])}{', ...' if len(words) > 4 else ''}"
        fix = f"`classes: {{{label}: [{some}]}}`"
        console.say(f"Losses want numbers for words; in a recipe: {fix}", style="bold")


def _texts_and_label(rows: Dataset, label: str | None) -> Dataset:
    """The rows without columns of numbers, truths and times, of which it is told how to leave them out."""
    kinds = {column: str(getattr(kind, "dtype", "list")) for column, kind in (rows.features or {}).items()}
    others = [column for column, kind in kinds.items() if column != label and kind.startswith(NUMBERS)]
    kept = [column for column in rows.column_names if column not in others]
    if others:
        fix = f"`--columns {','.join(kept)}`, in a recipe `columns`"
        console.say(f"Left aside, for it is no text: {', '.join(others)}. For good: {fix}.", style="bold")
    return rows.select_columns(kept)


def _verdicts(models: ModelFamily, rows: Dataset, family: Family) -> tuple[Rows, dict[str, Rows]]:
    """The losses that fit, with what they train on; and for each reason the losses that do not, with what they take.

    Those that do not say it wrap another, and take what that one takes.
    """
    from likewise.training.data.plan import plan_data_set

    fits: Rows = []
    refusals: dict[str, Rows] = {}
    for name, loss in sorted(models.loss_classes().items()):
        if not isinstance(getattr(loss, "takes", None), tuple):
            continue
        try:
            bare = _without_model(loss, rows)
            plan = plan_data_set(rows, "", "training", bare, modalities=(), family=family)
        except ValueError as error:
            reason, takes = _reason_and_takes(str(error).replace("the training data", "the data"), name)
            refusals.setdefault(reason, []).append((name, takes))
        else:
            fits.append((name, "trains on " + plan.describe().partition(": ")[2].partition(" -> ")[0]))
    return fits, refusals


def _without_model(loss: Any, rows: Dataset) -> Any:
    """A loss as far as the checks ask it: for its class, what it takes, and how many scores its model gives to a pair."""
    from likewise.training.data.columns import label_column

    bare = loss.__new__(loss)
    label = label_column(rows.column_names)
    first = rows[0][label] if label is not None else None
    vars(bare)["model"] = SimpleNamespace(num_labels=len(first) if isinstance(first, list) else 1)
    return bare


def _reason_and_takes(message: str, name: str) -> tuple[str, str]:
    """Why a loss does not fit, with the fix where the labels are at fault; and what it takes."""
    sentence, _, fix = message.partition(". ")
    reason, _, takes = sentence.partition(f", but {name} ")
    if takes:  # of the labels
        return f"{reason}. {fix}", takes
    takes, _, reason = sentence.rpartition("; but ")
    return reason, takes.removeprefix(f"{name} ")
