"""Find the documents whose embeddings are most similar to those of queries."""

from __future__ import annotations

from typing import Any

from likewise.checked import having, positive
from likewise.retrieval.ranking_keys import Ranking
from likewise.retrieval.topk import QUERIES_PER_TILE, top_k
from likewise.similarity import Embeddings, Similarity, cos_sim, is_sparse, to_float_tensor


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
    having(score_function, "__call__", "score_function", "a function of two batches, such as `util.cos_sim`")
    sizes = positive(query_chunk_size, "query_chunk_size"), positive(corpus_chunk_size, "corpus_chunk_size")
    queries: Any = query_embeddings if is_sparse(query_embeddings) else to_float_tensor(query_embeddings)
    documents: Any = corpus_embeddings
    queries, documents = (
        side[None] if getattr(side, "ndim", 2) == 1 else side for side in (queries, documents)
    )
    number = min(positive(top_k, "top_k", least=0), len(documents))
    return as_hits(_top_k(queries, documents, number, score_function, None, *sizes))


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
