"""The training log as the card keeps it: one row for each step at which something was logged or measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from likewise.card import markdown
from likewise.card.results import number

Row = dict[str, Any]
EPOCH, STEP, TRAINING_LOSS, VALIDATION_LOSS = "Epoch", "Step", "Training Loss", "Validation Loss"
OUTSIDE = -1  # the step of what is measured outside of a run
MAX_ROWS = 500
FOLDED_ROWS = 100


def add(rows: list[Row], epoch: float, step: int, values: Mapping[str, Any]) -> None:
    """Add values to the row of a step, which is the last one or a new one."""
    if not values:
        return
    if not rows or rows[-1][STEP] != step:
        rows.append({EPOCH: epoch, STEP: step})
    rows[-1].update(values)


def losses(metrics: Mapping[str, Any]) -> Row:
    """The losses among the metrics of an evaluation, under the titles of their columns."""
    keys = [key for key in metrics if key.startswith("eval_") and key.endswith("_loss")]
    found = {key.removeprefix("eval_").replace("_", " "): metrics[key] for key in keys}
    return {VALIDATION_LOSS: found["loss"]} if list(found) == ["loss"] else found


def from_history(history: Iterable[Mapping[str, Any]], primary_metrics: Sequence[str]) -> list[Row]:
    """The rows of a run that is taken up again, from the trainer's own log."""
    rows: list[Row] = []
    for entry in history:
        values = losses(entry)
        if "loss" in entry:
            values[TRAINING_LOSS] = entry["loss"]
        values |= {key: entry[f"eval_{key}"] for key in primary_metrics if f"eval_{key}" in entry}
        add(rows, entry.get("epoch", 0.0), entry.get("step", 0), values)
    return rows


def columns(rows: Sequence[Row]) -> list[str]:
    """The table's columns: epoch, step, training loss, other losses, metrics in the order they came."""
    first = [EPOCH, STEP, TRAINING_LOSS, VALIDATION_LOSS]
    seen = list(dict.fromkeys(key for row in rows for key in row))

    def place(key: str) -> tuple[int, int]:
        return (first.index(key) if key in first else 4 + (not key.endswith("loss")), seen.index(key))

    return sorted(seen, key=place)


def thinned(rows: Sequence[Row], best_step: int | None = None) -> list[Row]:
    """At most MAX_ROWS rows: every measured one and the best one are kept, of the others as many as there is room."""
    if len(rows) <= MAX_ROWS:
        return list(rows)
    is_kept = [set(row) - {EPOCH, STEP, TRAINING_LOSS} or row[STEP] == best_step for row in rows]
    room = max(1, MAX_ROWS - sum(map(bool, is_kept)))
    stride = -(-len(rows) // room)
    found = [row for i, row in enumerate(rows) if is_kept[i] or i % stride == 0]
    return found if len(found) <= 2 * MAX_ROWS else found[:: -(-len(found) // MAX_ROWS)]


def section(rows: Sequence[Row], best_step: int | None, plot: str | None) -> list[str]:
    """The log as a table, with the plot before it."""
    shown = thinned(rows, best_step)
    header = columns(shown)
    lines = []
    for row in shown:
        cells = [number(row[column]) if column in row else "-" for column in header]
        lines.append(markdown.bold(cells) if row[STEP] == best_step else cells)
    body = markdown.table(header, lines, centred=True)
    notes = []
    if any(row[STEP] == best_step for row in shown):
        notes.append("* The bold row denotes the saved checkpoint.")
    if len(shown) < len(rows):
        notes.append(f"* {len(shown)} of {len(rows):,} rows are shown.")
    if any(row[STEP] == OUTSIDE for row in shown):
        notes.append("* Step -1 was measured after the run.")
    if len(shown) > FOLDED_ROWS:
        body = markdown.folded(body)
    image = [f"![Losses and metrics by step]({plot})"] if plot else []
    return ["### Training Logs", *image, body, *(["\n".join(notes)] if notes else [])]
