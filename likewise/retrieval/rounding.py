"""How far the fast product of two vectors may lie from their float32 score, and whether bfloat16 pays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

_LOWEST = torch.finfo(torch.float32).min  # stands for -inf, with which one cannot calculate


@dataclass(frozen=True)
class ErrorBound:
    """A product lies within `absolute + relative * |product|` of the score it stands for.

    Attributes:
        absolute: (Q, 1), for each query.
        relative: One number for all.
    """

    absolute: Tensor
    relative: float

    @classmethod
    def of_products(cls, queries: Tensor, longest: float, residual: float, dtype: torch.dtype) -> ErrorBound:
        """For products of queries with documents, both rounded to `dtype` and added up in float32.

        With q' and d' the rounded vectors, |q.d - q'.d'| <= |q - q'| |d| + |q'| |d - d'| (Cauchy and Schwarz), and
        adding up D products errs by at most about D roundings.

        Args:
            queries: (Q, D) float32.
            longest: The largest norm of a document.
            residual: The largest norm of a document minus the rounded document.
            dtype: bfloat16 or float32.
        """
        norms = queries.norm(dim=1, keepdim=True)
        lost = (queries - queries.to(dtype)).norm(dim=1, keepdim=True)
        summing = _product_rounding() + (queries.shape[1] + 8) * 2.0**-23
        absolute = lost * longest + (norms + lost) * residual + summing * norms * longest
        # The product itself, and a threshold it is compared with, are rounded once more.
        return cls(absolute, 0.0 if dtype == torch.float32 else 2.0**-7)

    def above(self, products: Tensor) -> Tensor:
        """The largest scores that products (Q, K) may stand for."""
        products = products.clamp(min=_LOWEST)
        return products + self.absolute + self.relative * products.abs()

    def below(self, scores: Tensor) -> Tensor:
        """The smallest products that may stand for scores (Q, K)."""
        scores = scores.clamp(min=_LOWEST)
        return scores - self.absolute - self.relative * scores.abs()


def _product_rounding() -> float:
    """What a user who allowed faster float32 products gave away in each product."""
    return {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}[torch.get_float32_matmul_precision()]


@cache
def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether this processor multiplies matrices at least 1.5 times as fast in bfloat16 as in float32; measured once.

    Only asked of processors: a graphics card's bfloat16 products may add up in bfloat16 too, with errors that
    `ErrorBound` does not cover.
    """
    if device.type != "cpu":
        return False
    matrix = torch.ones(256, 256)
    return 1.5 * _fastest(matrix.bfloat16()) < _fastest(matrix)


def _fastest(matrix: Tensor) -> float:
    """The shortest of some times to multiply a matrix with itself, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times)
