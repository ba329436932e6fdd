"""SpladePooling: the weight of each entry of the vocabulary for a text, out of its tokens' logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from likewise.checked import one_of
from likewise.engine import TokenBatch
from likewise.engine.vocabulary import TokenLogits, pooled_logits, saturated
from likewise.modules.base import Features, Module, to_packed

STRATEGIES = ("max", "sum")
ACTIVATIONS = ("relu", "log1p_relu")


class SpladePooling(Module):
    """weight = max (or sum) over the tokens of log(1 + relu(logit)).

    Args:
        pooling_strategy: "max" or "sum".
        activation_function: "relu"; "log1p_relu" takes log(1 + x) of the weight once more (it is more even then).
        embedding_dimension: V, the size of the vocabulary; None for what the model before it gives.
        chunk_size: Tokens whose logits exist at the same time; None for what suits the device. It changes no value.
        word_embedding_dimension: The older name of `embedding_dimension`.

    Raises:
        ValueError: An argument is none of these.

    Reference: Formal et al. 2021, SPLADE v2, https://arxiv.org/abs/2109.10086.
    """

    saved_as = "sentence_transformers.sparse_encoder.models.SpladePooling"
    SPLADE_POOLING_MODES = STRATEGIES
    SPLADE_ACTIVATION = ACTIVATIONS

    def __init__(
        self,
        pooling_strategy: Literal["max", "sum"] = "max",
        activation_function: Literal["relu", "log1p_relu"] = "relu",
        embedding_dimension: int | None = None,
        chunk_size: int | None = None,
        *,
        word_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        one_of(pooling_strategy, "pooling_strategy", STRATEGIES)
        one_of(activation_function, "activation_function", ACTIVATIONS)
        self.pooling_strategy: Literal["max", "sum"] = pooling_strategy
        self.activation_function = activation_function
        self.embedding_dimension = (
            word_embedding_dimension if embedding_dimension is None else embedding_dimension
        )
        self.chunk_size = chunk_size

    @property
    def chunk_size(self) -> int | None:
        """Tokens whose logits exist at the same time; None for what suits the device."""
        return self._chunk_size

    @chunk_size.setter
    def chunk_size(self, value: int | None) -> None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"`chunk_size` must be a whole number of tokens, or None, but is {value!r}.")
        self._chunk_size = value if value is not None and value > 0 else None

    def get_embedding_dimension(self) -> int | None:
        """V, the size of the vocabulary; None before it is known."""
        return self.embedding_dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, V), in the caller's order; zeros for a text without tokens."""
        twice = self.activation_function == "log1p_relu"
        logits = features["token_embeddings"]
        if isinstance(logits, TokenLogits):
            tokens: TokenBatch = features["tokens"]
            rows = pooled_logits(logits, tokens, self.pooling_strategy, twice, self.chunk_size)
        else:
            tokens, whole = to_packed(features)
            rows = _pooled(saturated(whole, twice), tokens, self.pooling_strategy)
        self.embedding_dimension = rows.shape[1]
        features["sentence_embedding"] = tokens.restore(rows)
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """The saved form that every reader understands."""
        return {
            "pooling_strategy": self.pooling_strategy,
            "activation_function": self.activation_function,
            "word_embedding_dimension": self.embedding_dimension,
        }

    def save(self, output_path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write config.json."""
        self.save_config(output_path)

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> SpladePooling:
        """Build from either saved form."""
        return cls(**cls.saved_settings(folder))

    def __repr__(self) -> str:
        return f"SpladePooling({self.get_config_dict()})"


def _pooled(weights: Tensor, tokens: TokenBatch, strategy: str) -> Tensor:
    """(T, V), none below 0 -> (N, V), in packed order."""
    none = weights.new_zeros(weights.shape[1])
    parts = weights.split(tokens.lengths.tolist())
    if strategy == "sum":
        return torch.stack([part.sum(dim=0) for part in parts])
    return torch.stack([part.max(dim=0).values if len(part) else none for part in parts])
