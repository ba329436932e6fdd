"""Pairs of a query and a document that a search must not find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class Excluded:
    """Pairs of query rows (P,) and document ids (P,) that must not be found."""

    def __init__(self, rows: Tensor, ids: Tensor) -> None:
        self._rows, order = rows.sort()
        self._ids = ids[order]

    def among(self, ids: Tensor) -> Hidden | None:
        """Those pairs whose documents are among these ids (M,)."""
        in_order = ids.sort()
        place = torch.searchsorted(in_order.values, self._ids).clamp(max=len(ids) - 1)
        hit = in_order.values[place] == self._ids
        return Hidden(self._rows[hit], in_order.indices[place[hit]]) if bool(hit.any()) else None


@dataclass(frozen=True)
class Hidden:
    """Pairs that must not be found in a chunk.

    Attributes:
        rows: (P,) queries, ascending; or, after `of`, their places in a tile.
        columns: (P,) documents, by place in the chunk; after `of` ascending.
    """

    rows: Tensor
    columns: Tensor

    def of(self, rows: Tensor) -> Hidden:
        """Those of these queries (Q,), by their places there."""
        start = torch.searchsorted(self.rows, rows)
        counts = torch.searchsorted(self.rows, rows, right=True) - start
        place = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        pair = torch.arange(len(place), device=rows.device) + (start - counts.cumsum(0) + counts)[place]
        columns, order = self.columns[pair].sort()
        return Hidden(place[order], columns)

    def mask(self, scores: Tensor, start: int) -> None:
        """Set the scores (Q, M) of these pairs, in a tile that begins at this column, to -inf."""
        ends = torch.tensor([start, start + scores.shape[1]], device=scores.device)
        first, last = torch.searchsorted(self.columns, ends).tolist()
        scores[self.rows[first:last], self.columns[first:last] - start] = -torch.inf
