"""Find the documents whose embeddings are most similar to those of queries."""

from __future__ import annotations

from typing import Any

import torch

from likewise.retrieval.ranking_keys import NO_KEY, largest, pack, unpack
from likewise.retrieval.topk import QUERIES_PER_TILE, Ranking, top_k
from likewise.similarity import Embeddings, Similarity, cos_sim, is_sparse, to_float_tensor, to_tensor

SPARSE_CHUNK = 10_000  # sparse documents scored together: each score is kept until the best are chosen


def semantic_search(
    query_embeddings: Embeddings,
    corpus_embeddings: Embeddings,
    query_chunk_size: int = QUERIES_PER_TILE,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Similarity = cos_sim,
) -> list[list[dict[str, Any]]]:
    """The best documents of each query, exactly; computed where the corpus is.

    Args:
        query_embeddings: (Q, D), or (D,) for a single query. COO, as sparse models give them, on both sides too.
        corpus_embeddings: (M, D), or (D,) for a single document. A numpy array may be a memory map.
        query_chunk_size: At most this many queries at a time.
        corpus_chunk_size: At most this many documents at a time. Lower both if memory is short.
        top_k: How many documents per query; 0 for none.
        score_function: (A, D), (B, D) -> (A, B), larger is better.

    Returns:
        For each query a list of `{"corpus_id": row, "score": score}`, best first; of equal scores the smaller id first.

    Examples:
        >>> semantic_search([[0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], top_k=1)
        [[{'corpus_id': 1, 'score': 1.0}]]
    """
    if is_sparse(query_embeddings) or is_sparse(corpus_embeddings):
        sizes = query_chunk_size, min(corpus_chunk_size, SPARSE_CHUNK)
        return as_hits(_sparse_top_k(query_embeddings, corpus_embeddings, top_k, score_function, *sizes))
    queries = to_float_tensor(query_embeddings)
    queries = queries.unsqueeze(0) if queries.dim() == 1 else queries
    if getattr(corpus_embeddings, "ndim", 2) == 1:
        corpus_embeddings = corpus_embeddings[None]  # type: ignore[call-overload]
    return as_hits(
        _top_k(queries, corpus_embeddings, top_k, score_function, None, query_chunk_size, corpus_chunk_size)
    )


def _sparse_top_k(
    queries: Any, documents: Any, k: int, score_function: Similarity, query_step: int, document_step: int
) -> Ranking:
    """The ranking of COO embeddings, so many queries and documents at a time."""
    queries, documents = (
        side if side.ndim > 1 else side.unsqueeze(0) for side in (to_tensor(queries), to_tensor(documents))
    )
    best = torch.full((len(queries), min(k, len(documents))), NO_KEY)
    for first in range(0, len(queries), query_step):
        some, own = _rows(queries, first, query_step), slice(first, first + query_step)
        for start in range(0, len(documents), document_step):
            found = score_function(some, _rows(documents, start, document_step)).float().cpu()
            keys = pack(found, torch.arange(start, start + found.shape[1]))
            best[own] = largest(torch.cat([best[own], keys], dim=1), best.shape[1])
    return Ranking(*unpack(best))


def _rows(embeddings: torch.Tensor, start: int, step: int) -> torch.Tensor:
    stop = min(start + step, len(embeddings))  # COO tensors have no slices
    return embeddings.index_select(0, torch.arange(start, stop, device=embeddings.device))


_top_k = top_k  # the argument of `semantic_search` has the same name


def information_retrieval(*args: Any, **kwargs: Any) -> list[list[dict[str, Any]]]:
    """The older name of `semantic_search`."""
    return semantic_search(*args, **kwargs)


def as_hits(ranking: Ranking) -> list[list[dict[str, Any]]]:
    """A ranking as lists of `{"corpus_id": id, "score": score}`."""
    return [
        [{"corpus_id": place, "score": score} for place, score in zip(ids, scores, strict=True) if place >= 0]
        for ids, scores in zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True)
    ]
