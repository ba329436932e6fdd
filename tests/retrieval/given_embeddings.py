"""Embeddings that both libraries take."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.similarity import SimilarityFunction


class GivenEmbeddings:
    """A model whose embedding of a text follows from the text alone; texts "3 ..." lie around the third centre.

    Both libraries mine with it, and so see the same numbers.
    """

    def __init__(self, similarity: str = "cosine", size: int = 16, spread: float = 1.0) -> None:
        self.similarity_fn_name = similarity
        self.similarity = SimilarityFunction.to_similarity_fn(similarity)
        self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity)
        self.device = torch.device("cpu")
        self.size, self.spread = size, spread
        self.calls: list[tuple[str, str | None, str | None, int]] = []

    def encode_query(self, texts: Sequence[str], **settings: Any) -> Any:
        return self._encode("query", texts, **settings)

    def encode_document(self, texts: Sequence[str], **settings: Any) -> Any:
        return self._encode("document", texts, **settings)

    def _encode(
        self,
        kind: str,
        texts: Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        normalize_embeddings: bool = False,
        **_: Any,
    ) -> np.ndarray:
        self.calls.append((kind, prompt_name, prompt, batch_size))
        rows = torch.stack([self._embed((prompt or prompt_name or "") + text, text) for text in texts])
        return torch.nn.functional.normalize(rows, dim=1).numpy() if normalize_embeddings else rows.numpy()

    def _embed(self, text: str, without_prompt: str) -> Tensor:
        centre = _normal(without_prompt.split()[0], self.size)
        return centre + self.spread * _normal(text, self.size)


def _normal(text: str, size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(zlib.crc32(text.encode())))


def vectors(num_rows: int, size: int, seed: int) -> Tensor:
    return torch.randn(num_rows, size, generator=torch.Generator().manual_seed(seed))


def parameters(function: Any) -> dict[str, Any]:
    """Names and defaults of a function's arguments, in order."""
    return {name: value.default for name, value in inspect.signature(function).parameters.items()}
