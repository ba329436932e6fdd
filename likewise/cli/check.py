"""`likewise check`: which losses fit a data set, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli import console
from likewise.cli.read_texts import split_names

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.losses.base import Loss


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

    The label is the column called label, labels, score or scores; every other column, in order, is a text.

    Examples:

        likewise check pairs.csv

        likewise check triplets.parquet --columns anchor,positive,negative
    """
    from likewise.recipe import loss_classes
    from likewise.training.data import checks
    from likewise.training.data.columns import LABEL_COLUMNS
    from likewise.training.data.metadata import metadata_warnings
    from likewise.training.data.sources import Source

    rows = Source(data, columns=split_names(columns)).load()
    label = next((name for name in LABEL_COLUMNS if name in rows.column_names), None)
    texts = [column for column in rows.column_names if column != label]
    for column in texts:
        checks.check_texts(rows, column, Path(data).name)
    console.say(f"{Path(data).name}: {len(rows):,} rows, columns {', '.join(rows.column_names)}")
    for warning in metadata_warnings(rows, texts, Path(data).name):
        console.say(warning, style="bold")
    # Losses that wrap another take what that one takes.
    losses = {
        name: loss for name, loss in loss_classes().items() if isinstance(getattr(loss, "takes", None), tuple)
    }
    fits, refusals = _verdicts(losses, rows)
    if fits:
        console.say("fits", style="bold")
        console.table(fits)
    for reason, refused in refusals.items():
        console.say(f"does not fit: {reason}", style="bold")
        console.table(refused)


Rows = list[tuple[str, str]]


def _verdicts(losses: Mapping[str, type[Loss]], rows: Dataset) -> tuple[Rows, dict[str, Rows]]:
    """The losses that fit, with what they train on; and for each reason the losses that do not, with what they take."""
    from likewise.training.data.plan import plan_data_set

    fits: Rows = []
    refusals: dict[str, Rows] = {}
    for name, loss in sorted(losses.items()):
        try:
            # The checks ask a loss only for its class and what it takes, so that none needs a model here.
            plan = plan_data_set(rows, "", "training", loss.__new__(loss), modalities=())
        except ValueError as error:
            reason, takes = _reason_and_takes(str(error).replace("the training data", "the data"), name)
            refusals.setdefault(reason, []).append((name, takes))
        else:
            fits.append((name, "trains on " + plan.describe().partition(": ")[2].partition(" -> ")[0]))
    return fits, refusals


def _reason_and_takes(message: str, name: str) -> tuple[str, str]:
    """Why a loss does not fit, with the fix where the labels are at fault; and what it takes."""
    sentence, _, fix = message.partition(". ")
    reason, _, takes = sentence.partition(f", but {name} ")
    if takes:  # of the labels
        return f"{reason}. {fix}", takes
    takes, _, reason = sentence.rpartition("; but ")
    return reason, takes.removeprefix(f"{name} ")
