"""Find the most similar pairs among many texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.checked import having, is_number, positive
from likewise.retrieval.finite import finite_rows
from likewise.retrieval.topk import top_k as search
from likewise.similarity import Embeddings, Similarity, cos_sim
from likewise.types import Encoder


def paraphrase_mining(
    model: Encoder,
    sentences: Sequence[str],
    show_progress_bar: bool | None = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: float = 500_000,
    top_k: int = 100,
    score_function: Similarity = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """The most similar pairs among texts.

    Args:
        model: Embeds the texts.
        sentences: The texts.
        show_progress_bar: For `encode`, as are batch_size, truncate_dim, prompt_name and prompt.
        query_chunk_size: See `paraphrase_mining_embeddings`, as for the other arguments.

    Returns:
        See `paraphrase_mining_embeddings`.

    Raises:
        TypeError: `sentences` is one text, or the model gives something else than one dense embedding of each.
    """
    having(model, "encode", "model", "a model that embeds texts")
    if getattr(model, "model_type", None) in ("SparseEncoder", "MultiVectorEncoder"):
        raise TypeError(f"`model` must give each text one dense embedding, but is a {type(model).__name__}.")
    if isinstance(sentences, str):
        raise TypeError(f"`sentences` must be a list of texts, but is one text. Pass [{sentences[:40]!r}].")
    embeddings = model.encode(
        sentences, prompt_name=prompt_name, prompt=prompt, batch_size=batch_size, show_progress_bar=show_progress_bar,
        convert_to_tensor=True, truncate_dim=truncate_dim,
    )  # fmt: skip
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: Embeddings,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: float = 500_000,
    top_k: int = 100,
    score_function: Similarity = cos_sim,
) -> list[list[float | int]]:
    """The most similar pairs among embeddings.

    Each embedding proposes its `top_k` nearest; the best `max_pairs` of all proposals are returned.

    Args:
        embeddings: (N, D).
        query_chunk_size: So many embeddings propose at a time.
        corpus_chunk_size: At most this many are compared with at a time.
        max_pairs: How many pairs to return at most.
        top_k: How many pairs each embedding may propose.
        score_function: (A, D), (B, D) -> (A, B), symmetric, larger is more similar.

    Returns:
        `[score, i, j]` with i < j, by descending score, then ascending i and j.
    """
    scores, pairs = mine_pairs(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )
    first, second = pairs.unbind(dim=1)
    return [list(pair) for pair in zip(scores.tolist(), first.tolist(), second.tolist(), strict=True)]


def mine_pairs(
    embeddings: Embeddings,
    query_chunk_size: int,
    corpus_chunk_size: int,
    max_pairs: float,
    top_k: int,
    score_function: Similarity,
) -> tuple[Tensor, Tensor]:
    """As `paraphrase_mining_embeddings`, but (P,) scores and (P, 2) rows."""
    having(score_function, "__call__", "score_function", "a function of two batches, such as `util.cos_sim`")
    query_chunk_size = positive(query_chunk_size, "query_chunk_size")
    corpus_chunk_size = positive(corpus_chunk_size, "corpus_chunk_size")
    embeddings = finite_rows(embeddings, "the embeddings")
    top_k = min(positive(top_k, "top_k", least=0), len(embeddings))
    num_rows, device = len(embeddings), embeddings.device
    if not is_number(max_pairs) or max_pairs < 0:
        raise ValueError(f"`max_pairs` must be a number of at least 0, but is {max_pairs!r}.")
    max_pairs = int(min(max_pairs, num_rows**2))  # of infinitely many, all
    scores, pairs = torch.empty(0, device=device), torch.empty(0, dtype=torch.int64, device=device)
    for start in range(0, num_rows, query_chunk_size):
        rows = torch.arange(start, min(start + query_chunk_size, num_rows), device=device)
        itself = (rows - start, rows)
        found = search(
            embeddings[rows], embeddings, top_k, score_function, itself, documents_per_tile=corpus_chunk_size
        )
        first, second = rows.unsqueeze(1).expand_as(found.ids), found.ids
        is_found = second >= 0
        numbers = torch.minimum(first, second) * num_rows + torch.maximum(first, second)
        scores = torch.cat([scores, found.scores[is_found]])
        pairs = torch.cat([pairs, numbers[is_found]])
        scores, pairs = _best_distinct(scores, pairs, max_pairs)
    return scores, torch.stack([pairs // max(num_rows, 1), pairs % max(num_rows, 1)], dim=1)


def _best_distinct(scores: Tensor, pairs: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The best pairs, by descending score and then ascending number; of two scores of a pair the first counts."""
    order = pairs.argsort(stable=True)
    scores, pairs = scores[order], pairs[order]
    is_first = torch.ones_like(pairs, dtype=torch.bool)
    is_first[1:] = pairs[1:] != pairs[:-1]
    scores, pairs = scores[is_first], pairs[is_first]
    best = scores.argsort(descending=True, stable=True)[:limit]
    return scores[best], pairs[best]
