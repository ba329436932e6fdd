"""Ids by which equal values are known: 64 bits each, so that two of them differ by chance but once in 2 ** 64."""

from __future__ import annotations

import torch
from torch import Tensor

from likewise.losses.base import Features
from likewise.packing import ColumnBatch, TokenBatch

# The odd multipliers and shifts of splitmix64 (Steele, Lea and Flood 2014), as signed numbers.
STEP, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def column_ids(columns: Features) -> Tensor:
    """(C or more, B) int64: ids of every column's values, then of id columns; hashes of the tokens if the batch has none.

    Raises:
        ValueError: The columns are neither packed nor have ids.
    """
    if not isinstance(columns, ColumnBatch):
        raise ValueError(
            "`mask_duplicates` knows equal texts by their token ids, which this model does not take. Drop it, and take "
            "batches without duplicates instead: `batch_sampler='no_duplicates'`."
        )
    if columns.ids is not None:
        return columns.ids
    return sequence_ids(columns.tokens).view(columns.num_columns, -1)


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
