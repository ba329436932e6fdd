"""One row with NaN spoils the ranking of every query: it is refused by its number before anything is ranked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from likewise.similarity import Embeddings, is_sparse, to_float_tensor


def finite_rows(embeddings: Embeddings, name: str = "`embeddings`") -> Tensor:
    """Embeddings as (N, D), one vector as a batch of one.

    Raises:
        TypeError: They are COO.
        ValueError: A row is not finite.
    """
    if is_sparse(embeddings):
        raise TypeError(f"{name.capitalize()} must be dense, but are COO. Pass `embeddings.to_dense()`.")
    rows = to_float_tensor(embeddings)
    rows = rows.unsqueeze(0) if rows.dim() == 1 and len(rows) else rows
    refuse_not_finite(rows, lambda row: f"Row {row} of {name}")
    return rows


def are_finite(rows: Tensor) -> Tensor:
    """Whether each row of (N, ...) is finite: (N,) bool."""
    # A sum is finite only if all its terms are, and needs no memory of their size; large ones may overflow: then look at each.
    rows = torch.atleast_2d(rows).flatten(1)
    sums = rows.sum(dim=1).isfinite()
    return sums if bool(sums.all()) else rows.isfinite().all(dim=1)


def refuse_not_finite(rows: Tensor, name: Callable[[int], str]) -> None:
    """Raise where a row of numbers holds NaN or infinity.

    Args:
        rows: (N, D).
        name: What to call a row, by its place, at the beginning of a sentence.

    Raises:
        ValueError: A row is not finite.
    """
    is_finite = are_finite(rows)
    if not bool(is_finite.all()):
        row = int((~is_finite).nonzero()[0])
        raise ValueError(
            f"{name(row)} holds NaN or infinity, with which nothing can be ranked. Drop that row, or embed it again."
        )
