"""ColumnBatch: the text columns of a training batch, all in one TokenBatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from likewise.engine.features import Padding
from likewise.engine.token_batch import TokenBatch


@dataclass(frozen=True)
class ColumnBatch(Sequence[dict[str, Tensor]]):
    """B rows of C text columns. The sequences' order is column by column: row r of column c is sequence c * B + r.

    As a sequence it yields each column's padded features (`input_ids`, `attention_mask`, ...), which is what a loss
    written for the reference expects; losses of this package read `tokens` and never pad.

    Attributes:
        tokens: The C * B sequences.
        num_columns: C.
        ids: (K, B) int64, one row for each id column, equal for equal values of it; None where there are none.
        tasks: The route of each column through a Router, which has an own tokenizer for each; None without one.
        paddings: How each column's tokenizer pads; none where they are not known, which is zeros on the right.
    """

    tokens: TokenBatch
    num_columns: int
    ids: Tensor | None = None
    tasks: tuple[str | None, ...] | None = None
    paddings: tuple[Padding, ...] = ()

    @property
    def num_rows(self) -> int:
        """B, the rows of the batch."""
        return len(self.tokens) // self.num_columns

    def split(self, per_sequence: Tensor) -> tuple[Tensor, ...]:
        """(C * B, ...) in the caller's order -> one (B, ...) for each column."""
        columns: tuple[Tensor, ...] = per_sequence.split(self.num_rows)
        return columns

    def column(self, number: int) -> TokenBatch:
        """The sequences of one column, in its rows' order."""
        return self.columns([number])

    def columns(self, numbers: Sequence[int]) -> TokenBatch:
        """The sequences of some columns, column by column, in their rows' order."""
        tokens, rows = self.tokens, self.num_rows
        positions = torch.cat([tokens.place[number * rows : (number + 1) * rows] for number in numbers])
        # Packed positions that ascend are the columns' own packed order: lengths ascend with them.
        order = positions.sort().values
        kept = torch.zeros(len(tokens), dtype=torch.bool)
        kept[order] = True
        mask = kept.repeat_interleave(tokens.lengths).to(tokens.device)
        return TokenBatch(
            lengths=tokens.lengths[order],
            place=positions.argsort().argsort(),  # each row's rank among them
            prompt_lengths=None if tokens.prompt_lengths is None else tokens.prompt_lengths[order],
            **{name: value[mask] for name, value in tokens.per_token.items()},
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ColumnBatch:
        """The same batch on another device."""
        ids = None if self.ids is None else self.ids.to(device, non_blocking=non_blocking)
        return replace(self, tokens=self.tokens.to(device, non_blocking), ids=ids)

    def __len__(self) -> int:
        return self.num_columns

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [dict(column) for column in self._padded_columns[index]]
        return dict(self._padded_columns[index])  # its own, since a model adds to the features it is given

    @cached_property
    def _padded_columns(self) -> list[dict[str, Any]]:
        paddings = self.paddings or (Padding(),) * self.num_columns
        columns = [self.column(c).to_features(paddings[c]) for c in range(self.num_columns)]
        for column, task in zip(columns, self.tasks or (), strict=False):
            column["task"] = task
        return columns
