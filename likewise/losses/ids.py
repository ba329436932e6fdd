"""Ids by which equal values are known, and the candidates that they tell to be no negatives.

Ids have 64 bits, so that two values share one by chance but once in 2 ** 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likewise.engine import ColumnBatch, TokenBatch
from likewise.losses.gather import join_processes

if TYPE_CHECKING:
    from likewise.losses.base import Features

# The odd multipliers and shifts of splitmix64 (Steele, Lea and Flood 2014), as signed numbers.
STEP, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def column_ids(columns: Features) -> Tensor:
    """(C or more, B) int64: ids of every text column's tokens, then those of the id columns.

    Raises:
        ValueError: The columns are not packed.
    """
    if not isinstance(columns, ColumnBatch):
        raise ValueError(
            "`mask_duplicates` knows equal texts by their token ids, which this model does not take. Drop it, and take "
            "batches without duplicates instead: `batch_sampler='no_duplicates'`."
        )
    texts = sequence_ids(columns.tokens).view(columns.num_columns, -1)
    if columns.tasks is not None:
        # Each route of a Router has its own tokenizer: the same tokens of two routes may be different texts.
        routes = sorted(set(columns.tasks), key=str)
        numbers = torch.tensor([routes.index(task) for task in columns.tasks], device=texts.device)
        texts = _mix(texts + numbers.unsqueeze(1))
    return texts if columns.ids is None else torch.cat([texts, columns.ids])


def sequence_ids(tokens: TokenBatch) -> Tensor:
    """(N,) int64, in the caller's order: equal for sequences of the same tokens."""
    mixed = _mix(_mix(tokens.input_ids) + tokens.positions)
    ids = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    return tokens.restore(ids.index_add(0, tokens.sequence_of_token, mixed))


def _mix(values: Tensor) -> Tensor:
    """Spread int64 values over all 64 bits."""
    values = (values + 1) * STEP
    values = (values ^ (values >> 30)) * FIRST
    values = (values ^ (values >> 27)) * SECOND
    return values ^ (values >> 31)


def find_duplicates(
    ids: Tensor | None, wanted: bool, num_columns: int, own: Tensor, gather: bool = False
) -> Duplicates | None:
    """The duplicates among the rows, of all processes if gathered.

    Args:
        ids: (C or more, B) as `column_ids` gives them.
        wanted: False for None.
        num_columns: C, the number of text columns.
        own: (B,) the numbers of this process's rows among all.
        gather: Whether the rows of all processes are candidates.

    Raises:
        ValueError: They are wanted, but there are no ids.
    """
    if not wanted:
        return None
    if ids is None:
        raise ValueError("`mask_duplicates` needs the `ids` of the columns. Call the loss with a batch.")
    return Duplicates(ids, join_processes([ids.T], gather).tensors[0].T, num_columns, own)


class Duplicates:
    """Which candidates are known to be no negatives, for a part of the rows at a time.

    Two rows belong together if an anchor or positive of the one equals one of the other, or if they share the value of
    an id column; then neither is a negative of the other. A hard negative is none for the rows whose anchor or positive
    it equals.

    Args:
        own_ids: (C or more, B) ids of this process's rows, as `column_ids` gives them.
        all_ids: (C or more, A) ids of all rows.
        num_columns: C, the number of text columns.
        own: (B,) the numbers of this process's rows among all.
    """

    def __init__(self, own_ids: Tensor, all_ids: Tensor, num_columns: int, own: Tensor) -> None:
        self.own_ids, self.all_ids, self.num_columns, self.own = own_ids, all_ids, num_columns, own

    def rows(self, part: slice) -> Tensor:
        """(c, A): which rows belong together with these; not a row with itself."""
        columns = list(range(min(2, self.num_columns)))
        together = self._equal(part, columns, columns[0])
        for other in columns[1:]:
            together |= self._equal(part, columns, other)
        for number in range(self.num_columns, len(self.all_ids)):
            together |= self._equal(part, [number], number)
        return together.scatter_(1, self.own[part, None], False)

    def hide_rows(self, tile: Tensor, part: slice) -> None:
        """Take `rows` out of a tile of logits (c, A)."""
        tile.masked_fill_(self.rows(part), -torch.inf)

    def hide_documents(self, tile: Tensor, part: slice) -> None:
        """Take `documents` out of a tile of logits (c, A * (C - 1))."""
        tile.masked_fill_(self.documents(part), -torch.inf)

    def negatives(self, part: slice, column: int) -> Tensor:
        """(c, A): which hard negatives of a column equal the anchor or positive of these rows."""
        return self._equal(part, [0, 1], column)

    def documents(self, part: slice) -> Tensor:
        """(c, A * (C - 1)): which of all columns' documents are no negatives of these rows."""
        hard = [self.negatives(part, column) for column in range(2, self.num_columns)]
        return torch.cat([self.rows(part), *hard], dim=1)

    def _equal(self, part: slice, mine: list[int], column: int) -> Tensor:
        """(c, A): whether one of these columns' values equals a column's value in each of all rows."""
        first, *others = (self.own_ids[number, part, None] == self.all_ids[column] for number in mine)
        for other in others:
            first |= other
        return first
