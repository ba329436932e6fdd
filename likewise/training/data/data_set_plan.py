"""DataSetPlan and TrainingPlan: what a run will do, as it is settled and printed before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSetPlan:
    """What the columns of a data set are, and the loss they go to."""

    name: str  # the data set's key in a dict of them; "" for an only one
    texts: tuple[str, ...]  # the text columns, in order
    label: str | None  # the label column; None where there is none, or the loss takes none
    prompts: tuple[str, ...]  # what is put in front of each text column's texts; "" for nothing
    # What the loss takes each text column for; the column's own name where the loss does not say.
    roles: tuple[str, ...]
    loss: str  # the loss's name
    num_rows: int | None  # how many rows there are; None where that is not known
    ids: tuple[str, ...] = ()  # the id columns
    # The route of each text column through a Router; None for a model without one.
    routes: tuple[str | None, ...] | None = None
    has_classes: bool = False  # whether the loss takes the label for a class, so that 1.0 and True are 1
    # Whether a data collator of the user's makes the batches, of all columns, and decides what is in them.
    is_collated: bool = False
    warnings: tuple[str, ...] = ()  # what looks wrong, in sentences

    def describe(self) -> str:
        """One line: rows, columns with their roles, and the loss."""
        rows = "stream" if self.num_rows is None else f"{self.num_rows:,} rows"
        columns = [
            (role if role == text else f"{role}={text}") + (f" (prompt {prompt!r})" if prompt else "")
            for role, text, prompt in zip(self.roles, self.texts, self.prompts, strict=True)
        ]
        if self.label is not None:
            columns.append(f"label={self.label}" if self.label != "label" else "label")
        columns += [f"id={column}" for column in self.ids]
        by_whom = " -> the data collator" if self.is_collated else ""
        return f"{rows}: {', '.join(columns)}{by_whom} -> {self.loss}"


@dataclass(frozen=True)
class TrainingPlan:
    """A run, as it is printed before the first step."""

    train: tuple[DataSetPlan, ...]  # the training data sets
    evaluation: tuple[DataSetPlan, ...]  # the evaluation data sets
    settings: Mapping[str, str]  # further lines, by title
    overlaps: tuple[str, ...] = ()  # what looks wrong of training and evaluation data together, in sentences

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is printed: titles, each with what it says."""
        lines = [(f"train {data.name}".strip(), data.describe()) for data in self.train]
        lines += [(f"evaluate {data.name}".strip(), data.describe()) for data in self.evaluation]
        lines += list(self.settings.items())
        texts = [text for data in (*self.train, *self.evaluation) for text in data.warnings]
        return lines + [("warning", text) for text in (*texts, *self.overlaps)]

    def __str__(self) -> str:
        lines = self.lines
        width = max(len(title) for title, _ in lines)
        return "\n".join(["Training plan", *(f"  {title:<{width}}  {text}" for title, text in lines)])
