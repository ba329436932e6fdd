"""Matrix products of vectors rounded to bfloat16: where they are faster, and how far they may lie from the truth."""

from __future__ import annotations

from functools import cache, partial
from timeit import repeat

import torch
from torch import Tensor


def product_error(
    queries: Tensor, longest: float, residual: float, magnitude: Tensor, dtype: torch.dtype
) -> Tensor:
    """(Q, 1): how far a product of rounded vectors may lie from the true one, and from the similarity it stands for.

    With q' and d' the rounded vectors, |q.d - q'.d'| <= |q - q'| |d| + |q'| |d - d'| (Cauchy and Schwarz); adding up F
    products errs by at most about F roundings, small against `magnitude` (Q, 1); and a bfloat16 product is rounded once more.

    Args:
        queries: The factors (Q, F) float32.
        longest: The largest norm of a document's factor.
        residual: The largest norm of what one of them lost.
        magnitude: See above.
        dtype: float32 or bfloat16.
    """
    norms = queries.norm(dim=1, keepdim=True)
    lost = (queries - queries.to(dtype)).norm(dim=1, keepdim=True)
    # What a user who allowed faster float32 products gave away in each.
    allowed = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}[torch.get_float32_matmul_precision()]
    of_product = 2.0**-9 if dtype == torch.bfloat16 else allowed
    summing = (queries.shape[1] + 8) * 2.0**-23 * magnitude
    error: Tensor = lost * longest + (norms + lost) * (residual + of_product * longest) + summing
    return error


@cache
def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether this processor multiplies matrices at least 1.5 times as fast in bfloat16 as in float32; measured once.

    Only asked of processors: a graphics card's bfloat16 products may add up in bfloat16 too, with errors that
    `product_error` does not cover.
    """
    if device.type != "cpu":
        return False
    matrix = torch.ones(256, 256)
    times = [
        min(repeat(partial(torch.mm, factor, factor), number=1, repeat=3))
        for factor in (matrix.bfloat16(), matrix)
    ]
    return 1.5 * times[0] < times[1]
