"""Similarities that a matrix product finds: cosines, dot products and Euclidean distances.

Each query q and document d become factors, whose product orders a query's documents as their similarity does:

    dot product     q . d
    cosine          q/|q| . d/|d|
    distance        (q, 1) . (d, (c - |d|^2) / 2)  =  (|q|^2 + c - |q - d|^2) / 2,  with any c

A product is rounded; the similarity itself is computed again for the few documents it is asked of.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from likewise.similarity import Similarity, cos_sim, dot_score, euclidean_sim, manhattan_sim, pytorch_cos_sim


class Products:
    """Dot products; the base of the others."""

    def look_at(self, documents: Tensor) -> None:
        """Take note of some of the documents (N, D), before they all become factors."""

    def queries(self, queries: Tensor) -> Tensor:
        """Queries (Q, D) as factors (Q, F)."""
        return queries

    def documents(self, documents: Tensor) -> Tensor:
        """Documents (M, D) as factors (M, F)."""
        return documents

    def scores(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The similarities of factors of queries (Q, 1, F) and documents (Q, K, D), which are overwritten: (Q, K) float32.

        Each is added up in the same way: equal documents score equally, to the bit.
        """
        products: Tensor = documents.mul_(queries).sum(dim=-1)
        return products

    def of_scores(self, scores: Tensor, queries: Tensor) -> Tensor:
        """The products that stand for similarities (Q, K) with factors of queries (Q, F)."""
        return scores

    def magnitude(self, queries: Tensor, longest: float) -> Tensor:
        """(Q, 1): what the roundings of a product, and of the similarity it stands for, are small against.

        Args:
            queries: Factors (Q, F).
            longest: The largest norm of a document's factor.
        """
        norms: Tensor = queries.norm(dim=1, keepdim=True)
        return norms * longest


class Cosines(Products):
    """Cosines."""

    def queries(self, queries: Tensor) -> Tensor:
        """Queries (Q, D) with norm 1."""
        return normalize(queries, dim=-1)

    def documents(self, documents: Tensor) -> Tensor:
        """Documents (M, D) with norm 1."""
        return normalize(documents, dim=-1)

    def scores(self, queries: Tensor, documents: Tensor) -> Tensor:
        """See the class above."""
        return super().scores(queries, documents.div_(documents.norm(dim=-1, keepdim=True).clamp_(min=1e-12)))


class Distances(Products):
    """Negative Euclidean distances. Their factors end with zeros, since products of odd sizes are slow."""

    def __init__(self) -> None:
        self._constant = 0.0  # c above: about |d|^2, so that the factors' last entries are small
        self._size = 0

    def look_at(self, documents: Tensor) -> None:
        """See the class above."""
        self._constant = float(documents.square().sum(dim=1).mean())

    def queries(self, queries: Tensor) -> Tensor:
        """Queries (Q, D) as factors (Q, F)."""
        self._size = queries.shape[1]
        return self._with_last(queries, queries.new_ones(len(queries), 1))

    def documents(self, documents: Tensor) -> Tensor:
        """Documents (M, D) as factors (M, F)."""
        squares = documents.square().sum(dim=1, keepdim=True)
        return self._with_last(documents, (self._constant - squares) / 2)

    def scores(self, queries: Tensor, documents: Tensor) -> Tensor:
        """See the class above. The difference is taken first: near neighbours keep their digits."""
        differences = documents.sub_(queries[..., : self._size])
        return -differences.square_().sum(dim=-1).sqrt_()

    def of_scores(self, scores: Tensor, queries: Tensor) -> Tensor:
        """See the class above."""
        squares = queries[:, : self._size].square().sum(dim=1, keepdim=True)
        return (squares + self._constant - scores.square()) / 2

    def magnitude(self, queries: Tensor, longest: float) -> Tensor:
        """See the class above: squares of up to |q| + |d| are added and subtracted."""
        lengths: Tensor = queries.norm(dim=1, keepdim=True) + longest + self._constant**0.5
        return lengths.square()

    @staticmethod
    def _with_last(vectors: Tensor, last: Tensor) -> Tensor:
        return pad(torch.cat([vectors, last], dim=1), (0, -(vectors.shape[1] + 1) % 16))


def is_known(score_function: Similarity) -> bool:
    """Whether this is one of the library's own similarities, which depend on the embeddings alone."""
    return any(
        score_function is function
        for function in (pytorch_cos_sim, cos_sim, dot_score, euclidean_sim, manhattan_sim)
    )


def products_of(score_function: Similarity) -> Products | None:
    """The products that find what a function finds; None for a function that is not known."""
    known = (
        (cos_sim, Cosines),
        (pytorch_cos_sim, Cosines),
        (dot_score, Products),
        (euclidean_sim, Distances),
    )
    # By identity: a function of somebody's need not be hashable.
    return next((kind() for function, kind in known if function is score_function), None)
