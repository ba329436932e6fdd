"""Numbered: an encoder whose embeddings are no rows of one length, as one that gives each text a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.retrieval.finite import refuse_not_finite


class Numbered:
    """Keeps what an encoder gives, and gives the texts' numbers in its place, by which scores look it up.

    Of such a kind are lists of token embeddings, (tokens, D) for each text, and COO tensors (N, V). Scores are the encoder's own.

    Args:
        model: The encoder.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self.kept: dict[str, Any] = {}

    def encode_query(self, texts: Sequence[str], **settings: Any) -> Tensor:
        """(N, 1): the numbers of texts, which go on where those before ended; float32 has them exactly up to 16 million."""
        return self._more("query", self.model.encode_query, texts, settings)

    def encode_document(self, texts: Sequence[str], **settings: Any) -> Tensor:
        """The same for documents."""
        return self._more("document", self.model.encode_document, texts, settings)

    def similarity(self, queries: Tensor, documents: Tensor) -> Any:
        """Scores of all pairs of texts with these numbers: (Q, 1), (M, 1) -> (Q, M)."""
        return self.model.similarity(self._of("query", queries), self._of("document", documents))

    def similarity_pairwise(self, queries: Tensor, documents: Tensor) -> Any:
        """Scores of the texts row by row: (N, 1), (N, 1) -> (N,)."""
        return self.model.similarity_pairwise(self._of("query", queries), self._of("document", documents))

    def _more(self, side: str, encode: Callable[..., Any], texts: Sequence[str], settings: Any) -> Tensor:
        found, kept = encode(texts, **settings), self.kept.get(side, [])
        is_coo = isinstance(found, Tensor)
        sums = torch.sparse.sum(found, 1).to_dense() if is_coo else torch.stack([one.sum() for one in found])
        refuse_not_finite(sums.unsqueeze(1), lambda row: f"The embedding of the text {texts[row][:80]!r}")
        self.kept[side] = torch.cat([kept, found] if len(kept) else [found]) if is_coo else [*kept, *found]
        return torch.arange(len(kept), len(self.kept[side]), dtype=torch.float32).unsqueeze(1)

    def _of(self, side: str, numbers: Tensor) -> Any:
        kept, rows = self.kept[side], numbers[:, 0].long()
        if isinstance(kept, Tensor):
            return kept.index_select(0, rows.to(kept.device))
        return [kept[row] for row in rows.tolist()]
