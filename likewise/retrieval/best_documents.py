"""The best documents by scores that are made of all pairs: of embeddings that no product of dense matrices compares."""

from __future__ import annotations

import torch
from torch import Tensor

from likewise.retrieval.ranking_keys import NO_KEY, Ranking, largest, pack, unpack
from likewise.similarity import Embeddings, Similarity, to_tensor

SPARSE_CHUNK = (
    10_000  # sparse documents that are scored together: each score is kept until the best are chosen
)


class BestDocuments:
    """The best K documents of each query so far; of equal scores the one with the smaller id.

    Args:
        num_queries: Q.
        k: K.
    """

    def __init__(self, num_queries: int, k: int) -> None:
        self.keys = torch.full((num_queries, k), NO_KEY)

    def add(self, scores: Tensor, ids: Tensor) -> None:
        """Add documents: (Q, M) scores and their ids (M,)."""
        keys = pack(scores.float().cpu(), ids.cpu())
        self.keys = largest(torch.cat([self.keys, keys], dim=1), self.keys.shape[1])

    def result(self) -> Ranking:
        """What was found."""
        return unpack(self.keys)


def best_of_sparse(
    queries: Embeddings, documents: Embeddings, k: int, score_function: Similarity, sizes: tuple[int, int]
) -> Ranking:
    """As `top_k`, of COO embeddings; `sizes` is how many queries, and documents, are scored together at most."""
    asked, given, rows = to_tensor(queries), to_tensor(documents), torch.arange(len(documents))
    found = []
    for part in torch.arange(len(asked)).split(sizes[0]):
        best, some = BestDocuments(len(part), min(k, len(rows))), asked.index_select(0, part.to(asked.device))
        for ids in rows.split(min(sizes[1], SPARSE_CHUNK)):
            best.add(score_function(some, given.index_select(0, ids.to(asked.device))), ids)
        found.append(best.keys)
    return unpack(torch.cat(found))
