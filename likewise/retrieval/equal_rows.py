"""Documents that are equal to many others, of which only few can be among the best."""

from __future__ import annotations

import torch
from torch import Tensor

MANY_QUERIES = 1_000  # for whom it pays to drop documents that are equal to enough others
ROWS_TO_JUDGE_BY = 64  # whether many rows of a chunk are equal


def few_of_equal(rows: Tensor, ids: Tensor, most: int) -> Tensor | slice:
    """Of rows (N, D) that are equal those with the `most` smallest ids, by their places: no others are among the best `most`.

    All where a sample has hardly any equal rows: comparing all costs more than it saves.
    """
    some = rows[:: len(rows) // ROWS_TO_JUDGE_BY + 1]
    if 8 * len(some.unique(dim=0)) >= 7 * len(some):
        return slice(None)
    group = rows.unique(dim=0, return_inverse=True)[1]
    by_id = ids.argsort()
    order = by_id[group[by_id].argsort(stable=True)]
    sizes = group.bincount()
    rank = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[group[order]]
    return order[rank < most]
