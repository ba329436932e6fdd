"""`likewise check`: which losses fit a data set, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli import console
from likewise.cli.read_texts import split_names

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.families import ModelFamily
    from likewise.training.data.family import Family


def check(
    data: Annotated[
        str,
        typer.Argument(help="A .parquet, .csv, .tsv or .jsonl file, or the name of a data set on the Hub."),
    ],
    columns: Annotated[
        str | None, typer.Option(help="Columns to use, in order, with commas: question,answer")
    ] = None,
) -> None:
    """Say which losses can train on a data set, and why the others cannot.

    The label is the column called label, labels, score or scores; every other column, in order, is a text, or, for
    cross-encoders, a list of documents. The losses of embedding models come first, then those of cross-encoders that fit.

    Examples:

        likewise check pairs.csv

        likewise check triplets.parquet --columns anchor,positive,negative
    """
    from likewise.cross_encoder.data_checks import holds_lists
    from likewise.cross_encoder.family import PAIRS
    from likewise.families import CROSS_ENCODER, SENTENCE_TRANSFORMER
    from likewise.training.data import checks
    from likewise.training.data.columns import LABEL_COLUMNS
    from likewise.training.data.metadata import metadata_warnings
    from likewise.training.data.sources import Source
    from likewise.training.data.texts import TEXTS

    rows = Source(data, columns=split_names(columns)).load()
    name = Path(data).name
    label = next((column for column in LABEL_COLUMNS if column in rows.column_names), None)
    lists = [column for column in rows.column_names if column != label and holds_lists(rows, column, name)]
    texts = [column for column in rows.column_names if column != label and column not in lists]
    for column in texts:
        checks.check_texts(rows, column, name)
    console.say(f"{name}: {len(rows):,} rows, columns {', '.join(rows.column_names)}")
    for warning in metadata_warnings(rows, texts, name):
        console.say(warning, style="bold")
    fits, refusals = ([], {}) if lists else _verdicts(_declared(SENTENCE_TRANSFORMER), rows, TEXTS)
    for_pairs, refused_pairs = _verdicts(_declared(CROSS_ENCODER), rows, PAIRS)
    for title, found in (("fits", fits), ("fits, for a cross-encoder", for_pairs)):
        if found:
            console.say(title, style="bold")
            console.table(found)
    if lists:  # nothing but losses over pairs takes them
        refusals = refused_pairs
    for reason, refused in refusals.items():
        console.say(f"does not fit: {reason}", style="bold")
        console.table(refused)


def _declared(family: ModelFamily) -> dict[str, Any]:
    """The losses of a family that say what they take; those that wrap another take what that one takes."""
    return {
        name: loss
        for name, loss in family.loss_classes().items()
        if isinstance(getattr(loss, "takes", None), tuple)
    }


Rows = list[tuple[str, str]]


def _verdicts(losses: Mapping[str, Any], rows: Dataset, family: Family) -> tuple[Rows, dict[str, Rows]]:
    """The losses that fit, with what they train on; and for each reason the losses that do not, with what they take."""
    from likewise.training.data.plan import plan_data_set

    fits: Rows = []
    refusals: dict[str, Rows] = {}
    for name, loss in sorted(losses.items()):
        try:
            plan = plan_data_set(
                rows, "", "training", _without_model(loss, rows), modalities=(), family=family
            )
        except ValueError as error:
            reason, takes = _reason_and_takes(str(error).replace("the training data", "the data"), name)
            refusals.setdefault(reason, []).append((name, takes))
        else:
            fits.append((name, "trains on " + plan.describe().partition(": ")[2].partition(" -> ")[0]))
    return fits, refusals


def _without_model(loss: Any, rows: Dataset) -> Any:
    """A loss as far as the checks ask it: for its class, what it takes, and how many scores its model gives to a pair."""
    from likewise.training.data.columns import LABEL_COLUMNS

    bare = loss.__new__(loss)
    label = next((column for column in LABEL_COLUMNS if column in rows.column_names), None)
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
