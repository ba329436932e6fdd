"""Similarities that a matrix product finds: cosines, dot products and Euclidean distances.

Each query q and document d become factors, whose product orders a query's documents as their similarity does:

    dot product     q . d
    cosine          q/|q| . d/|d|
    distance        (q, 1) . (d, (c - |d|^2) / 2)  =  (|q|^2 + c - |q - d|^2) / 2,  with any c

A product is rounded; the similarity itself is computed again for the few documents it is asked of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import sqrt
from timeit import repeat

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from likewise.similarity import Similarity, cos_sim, dot_score, euclidean_sim, pytorch_cos_sim


@dataclass
class Products:
    """Dot products, and cosines as those of prepared vectors; or a function of somebody's, whose scores are final.

    Attributes:
        function: Scores factors (Q, F) and (M, F) in place of products: (Q, M).
        prepare: What is done to all vectors first, (N, D) -> (N, D).
    """

    function: Similarity | None = None
    prepare: Callable[[Tensor], Tensor] = lambda vectors: vectors
    constant: float = 0.0  # c, of distances above 0

    def factors(self, vectors: Tensor, are_queries: bool) -> Tensor:
        """Prepared queries, or documents, (N, D) as factors (N, F); queries come first."""
        return vectors

    def of_tile(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Products of factors: (Q, F), (M, F) -> (Q, M)."""
        if self.function is None:
            return queries @ documents.T
        scores = torch.as_tensor(self.function(queries, documents)).detach().float()
        if bool(scores.isnan().any()):
            raise ValueError(
                "`score_function` returned NaN for finite embeddings. Return a number for every pair."
            )
        return scores

    def scores(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The similarities of factors of queries (P, F) and documents (P, D), which are overwritten, pair by pair: (P,) float32.

        Each is added up in the same way: equal documents score equally, to the bit.
        """
        return torch.sum(documents.mul_(queries), dim=-1)

    def of_scores(self, scores: Tensor, queries: Tensor) -> Tensor:
        """The products that stand for similarities (Q, 1) with factors of queries (Q, F)."""
        return scores

    def error(self, queries: Tensor, longest: float, dtype: torch.dtype, lost: float) -> Tensor:
        """(Q, 1): how far a product in `dtype` may lie from the true one, and from the similarity that it stands for.

        Rounding to bfloat16 takes e_q and e_d = `lost` at most off the lengths of a query and of a document, and so e_q |d| +
        |q| e_d off q.d (Cauchy and Schwarz); the product itself is rounded once more, by 2**-8 of it. Adding up F products errs
        by about F roundings at most, small against what no sum on the way to a product or a similarity exceeds.
        """
        if self.function is not None:  # its scores are final
            return queries.new_zeros(len(queries), 1)
        norms = queries.norm(dim=1, keepdim=True)
        lost_of_queries = (queries.to(dtype).float() - queries).norm(dim=1, keepdim=True)
        # What a user who allowed faster float32 products gave away in each.
        allowed = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}[torch.get_float32_matmul_precision()]
        again = 2.0**-8 if dtype == torch.bfloat16 else allowed
        largest = (norms + longest + sqrt(self.constant)).square() if self.constant else norms * longest
        rounded = (longest + lost) * (lost_of_queries + again * (norms + lost_of_queries)) + norms * lost
        error: Tensor = rounded + (queries.shape[1] + 8) * 2.0**-23 * largest
        return error


class Distances(Products):
    """Negative Euclidean distances. Their factors end with zeros, since products of odd sizes are slow."""

    def factors(self, vectors: Tensor, are_queries: bool) -> Tensor:
        squares = vectors.square().sum(dim=1, keepdim=True)
        if are_queries:  # c is about |d|^2, so that the factors' last entries are small
            self.constant = (float(squares.mean()) if len(vectors) else 0.0) or 1.0
        last = torch.ones_like(squares) if are_queries else (self.constant - squares) / 2
        return pad(torch.cat([vectors, last], dim=1), (0, -(vectors.shape[1] + 1) % 16))

    def scores(self, queries: Tensor, documents: Tensor) -> Tensor:
        """As above. The difference is taken first: near neighbours keep their digits."""
        differences = documents.sub_(queries[..., : documents.shape[-1]])
        return -differences.square_().sum(dim=-1).sqrt_()

    def of_scores(self, scores: Tensor, queries: Tensor) -> Tensor:
        squares = queries.square().sum(dim=1, keepdim=True) - 1  # the factors' 1 is not the query's
        return (squares + self.constant - scores.square()) / 2


def products_of(score_function: Similarity) -> Products:
    """The products that find what a function finds, or the function itself."""
    # By identity: a function of somebody's need not be hashable.
    if score_function is cos_sim or score_function is pytorch_cos_sim:
        return Products(prepare=normalize)
    if score_function is dot_score:
        return Products()
    return Distances() if score_function is euclidean_sim else Products(score_function)


def lost_by(vectors: Tensor, dtype: torch.dtype) -> float:
    """The most that rounding to a type takes off the length of one of (N, D) vectors of float32, as the length of a difference."""
    if dtype == torch.float32:
        return 0.0
    # Some at a time: copies of all would be as large as they are.
    return max(float((part.to(dtype).float() - part).norm(dim=1).max()) for part in vectors.split(1024))


@cache
def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether this processor multiplies matrices at least 1.5 times as fast in bfloat16 as in float32; measured once.

    Only asked of processors: a graphics card's bfloat16 products may add up in bfloat16 too, which `error` does not cover.
    """
    if device.type != "cpu":
        return False
    ones = [torch.ones(256, 256, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    rounded, whole = (min(repeat(partial(torch.mm, one, one), number=1, repeat=3)) for one in ones)
    return 1.5 * rounded < whole
