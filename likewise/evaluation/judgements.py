"""Judgements: which documents of a corpus are relevant for which query."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.evaluation.measurement import Array
from likewise.retrieval.ranking_keys import Ranking

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgements:
    """Which documents are relevant for which query. A document is known by its place among the sorted corpus ids.

    Attributes:
        sorted_ids: The M corpus ids in ascending order.
        places: (M,) int64, the place of each document in the order of the corpus.
        pairs: (P,) int64, sorted: query * M + place for every relevant document that is in the corpus.
        num_relevant: (Q,) int64, relevant documents, whether in the corpus or not.
    """

    sorted_ids: list[Any]
    places: Tensor
    pairs: Array
    num_relevant: Array

    @classmethod
    def of(cls, relevant: Sequence[Collection[Any]], corpus_ids: Sequence[Any]) -> Judgements:
        """From each query's relevant ids."""
        # Ids of different types have no order among themselves: the types are kept apart.
        order = sorted(range(len(corpus_ids)), key=lambda i: (type(corpus_ids[i]).__name__, corpus_ids[i]))
        place_of = {corpus_ids[i]: place for place, i in enumerate(order)}
        places = torch.tensor([place_of[document] for document in corpus_ids])
        found = [
            query * len(corpus_ids) + place_of[document]
            for query, documents in enumerate(relevant)
            for document in set(documents)
            if document in place_of
        ]
        counts = np.array([len(documents) for documents in relevant], dtype=np.int64)
        return cls([corpus_ids[i] for i in order], places, np.sort(np.array(found, dtype=np.int64)), counts)

    def check(self, query_ids: Sequence[Any], judged_ids: Sequence[Any]) -> None:
        """Refuse what cannot be evaluated, and warn of what lowers the results."""
        if not self.sorted_ids:
            raise ValueError("`corpus` is empty. Pass at least one document.")
        if not len(self.num_relevant):
            raise ValueError(
                f"No query has relevant documents: `queries` has ids such as {query_ids[:2]}, `relevant_docs` such as "
                f"{judged_ids[:2]}. Make the ids equal, in type too."
            )
        missing = int(self.num_relevant.sum()) - len(self.pairs)
        if not len(self.pairs):
            raise ValueError(
                f"None of the {missing} relevant documents is in `corpus`, which has ids such as {self.sorted_ids[:2]}. "
                "Make the ids of `relevant_docs` and `corpus` equal, in type too."
            )
        if missing:
            logger.warning("%d relevant documents are not in the corpus. They count as not found.", missing)

    def hits(self, ranking: Ranking) -> Array:
        """(Q, K) bool: which of the found documents are relevant."""
        ids = ranking.ids.cpu().numpy()
        pairs = np.arange(len(ids))[:, None] * len(self.sorted_ids) + ids
        return np.isin(pairs, self.pairs) & (ids >= 0)
