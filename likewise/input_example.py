"""InputExample: one row of training data, as data loaders of the older kind yield it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class InputExample:
    """A row.

    Attributes:
        guid: Its name; nothing reads it.
        texts: The texts, one for each column.
        label: The label: a number, or a list of numbers.
    """

    guid: str = ""
    texts: Sequence[str] = field(default_factory=list)
    label: int | float | Sequence[float] = 0

    def __str__(self) -> str:
        return f"<InputExample> label: {self.label}, texts: {'; '.join(self.texts)}"
