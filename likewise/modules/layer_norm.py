"""LayerNorm: layer normalisation of the sentence embedding."""

from __future__ import annotations

from typing import Any

from torch import nn

from likewise.checked import positive
from likewise.modules.base import Features, Module, size_in


class LayerNorm(Module):
    """Layer normalisation of the sentence embedding.

    Args:
        dimension: Size of the embedding.
    """

    config_keys = ("dimension",)

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = positive(dimension, "dimension")
        self.norm = nn.LayerNorm(dimension)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Normalise `sentence_embedding`, (N, D)."""
        features["sentence_embedding"] = self.norm(features["sentence_embedding"])
        return features

    get_sentence_embedding_dimension = get_embedding_dimension = size_in("dimension")
