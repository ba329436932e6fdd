"""One row with NaN spoils the ranking of every query: it is refused by its number before anything is ranked."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def refuse_not_finite(rows: Tensor, name: Callable[[int], str]) -> None:
    """Raise where a row of numbers holds NaN or infinity.

    Args:
        rows: (N, D).
        name: What to call a row, by its place, at the beginning of a sentence.

    Raises:
        ValueError: A row is not finite.
    """
    # A sum is finite only if all its terms are; large terms may overflow, and so the rows are looked at once more.
    if not rows.is_floating_point() or bool(rows.sum(dim=-1).isfinite().all()):
        return
    is_finite = rows.isfinite().all(dim=-1)
    if not bool(is_finite.all()):
        row = int((~is_finite).nonzero()[0])
        raise ValueError(
            f"{name(row)} holds NaN or infinity, with which nothing can be ranked. Drop that row, or embed it again."
        )
