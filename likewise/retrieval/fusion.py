"""Fuse what several searches found for the same queries (dense, sparse, late interaction) into one ranking for each query.

    reciprocal ranks: sum over the searches that found a document of  weight / (rrf_k + rank)
    weighted scores:  sum over them of  weight * (score - lowest) / (highest - lowest),  the query's own lowest and highest

References: Cormack et al. 2009, Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR;
Bruch, Gai and Ingber 2023, An analysis of fusion functions for hybrid retrieval, https://arxiv.org/abs/2210.11934.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Hits: TypeAlias = Sequence[Mapping[str, Any]]
"""What was found for a query, as `semantic_search` gives it: `{"corpus_id": ..., "score": ...}`, best first."""


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Hits]],
    top_k: int | None = 10,
    weights: Sequence[float] | None = None,
    rrf_k: float = 60,
) -> list[list[dict[str, Any]]]:
    """Fuse by ranks alone, which need not be of comparable scores.

    Args:
        rankings: What each search found, each for the same queries in the same order.
        top_k: How many documents per query; None for all.
        weights: Of each search, relative to the others; None for equal ones.
        rrf_k: Added to every rank; the larger, the less the first ranks stand out.

    Returns:
        For each query its documents, best first; of equal scores the one that comes first in the first ranking.

    Raises:
        TypeError: A ranking is of one query, not of a list of them.
        ValueError: The rankings are not of as many queries, or there is not a weight for each.

    Examples:
        >>> one, other = [[{"corpus_id": 7}, {"corpus_id": 8}]], [[{"corpus_id": 8}]]
        >>> [hit["corpus_id"] for hit in reciprocal_rank_fusion([one, other])[0]]
        [8, 7]
    """
    return _fused(
        rankings, lambda hits: [1 / (rrf_k + rank) for rank in range(1, len(hits) + 1)], top_k, weights
    )


def weighted_fusion(
    rankings: Sequence[Sequence[Hits]], top_k: int | None = 10, weights: Sequence[float] | None = None
) -> list[list[dict[str, Any]]]:
    """Fuse by scores, each search's from 0 to 1 for each query; arguments, result and errors as above."""
    return _fused(rankings, _from_0_to_1, top_k, weights)


def _from_0_to_1(hits: Hits) -> list[float]:
    scores = [float(hit["score"]) for hit in hits]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]


def _fused(
    rankings: Sequence[Sequence[Hits]],
    worth: Callable[[Hits], list[float]],
    top_k: int | None,
    weights: Sequence[float] | None,
) -> list[list[dict[str, Any]]]:
    if any(isinstance(hits, Mapping | str) for ranking in rankings for hits in ranking):
        raise TypeError(
            "A ranking has a list of hits for each query. Of one query, pass `[hits]` of each search."
        )
    weights = [1.0] * len(rankings) if weights is None else weights
    sizes = [len(ranking) for ranking in rankings]
    if len(set(sizes)) > 1 or len(weights) != len(sizes):
        raise ValueError(
            f"The rankings are of {sizes} queries, with {len(weights)} weights. Pass rankings of the same queries, each with a weight."
        )
    fused = []
    for found in zip(*rankings, strict=True):
        scores: dict[Any, float] = {}
        for hits, weight in zip(found, weights, strict=True):
            values = dict(zip((hit["corpus_id"] for hit in hits), worth(hits), strict=True))
            for document, value in values.items():
                scores[document] = scores.get(document, 0.0) + weight * value
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:top_k]
        fused.append([{"corpus_id": document, "score": scores[document]} for document in best])
    return fused
