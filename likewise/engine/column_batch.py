"""ColumnBatch: the text columns of a training batch, all in one TokenBatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import torch
from torch import Tensor

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
    """

    tokens: TokenBatch
    num_columns: int
    ids: Tensor | None = None
    tasks: tuple[str | None, ...] | None = None

    @property
    def num_rows(self) -> int:
        """B, the rows of the batch."""
        return len(self.tokens) // self.num_columns

    def split(self, per_sequence: Tensor) -> tuple[Tensor, ...]:
        """(C * B, ...) in the caller's order -> one (B, ...) for each column."""
        columns: tuple[Tensor, ...] = per_sequence.split(self.num_rows)
        return columns

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ColumnBatch:
        """The same batch on another device."""
        ids = None if self.ids is None else self.ids.to(device, non_blocking=non_blocking)
        return replace(self, tokens=self.tokens.to(device, non_blocking), ids=ids)

    def __len__(self) -> int:
        return self.num_columns

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Tensor]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        if isinstance(index, slice):
            return [dict(column) for column in self._padded_columns[index]]
        return dict(self._padded_columns[index])  # its own, since a model adds to the features it is given

    @cached_property
    def _padded_columns(self) -> list[dict[str, Any]]:
        tokens = self.tokens
        mask = self.split(tokens.padded_mask())
        longest = [int(column.sum(dim=1).max()) for column in mask]
        padded: dict[str, Any] = {
            "input_ids": self.split(tokens.pad(tokens.input_ids)),
            "attention_mask": mask,
        }
        if tokens.token_type_ids is not None:
            padded["token_type_ids"] = self.split(tokens.pad(tokens.token_type_ids))
        columns: list[dict[str, Any]] = [
            {name: values[c][:, : longest[c]] for name, values in padded.items()}
            for c in range(self.num_columns)
        ]
        if tokens.prompt_lengths is not None:
            for column, lengths in zip(
                columns, self.split(tokens.restore(tokens.prompt_lengths)), strict=True
            ):
                column["prompt_length"] = lengths
        for column, task in zip(columns, self.tasks or (), strict=False):
            column["task"] = task
        return columns
