"""Dropout: drop entries of the sentence embedding in training."""

from __future__ import annotations

from typing import Any

from torch import nn

from likewise.modules.base import Features, Module


class Dropout(Module):
    """Dropout of the sentence embedding, in training only.

    Args:
        dropout: Probability of dropping an entry, in [0, 1).
    """

    config_keys = ("dropout",)

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = dropout
        self.dropout_layer = nn.Dropout(dropout)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Drop entries of `sentence_embedding`, (N, D)."""
        features["sentence_embedding"] = self.dropout_layer(features["sentence_embedding"])
        return features
