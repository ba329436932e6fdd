"""WordWeights: multiply each word's embedding by a weight, such as its inverse document frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from likewise.modules.base import Features, Module, mask_of


class WordWeights(Module):
    """Weights for the words of a vocabulary. Mean pooling afterwards divides by their sum, not by the number of words.

    Args:
        vocab: The tokenizer's words, by id.
        word_weights: Weights by word; those of other words are passed over.
        unknown_word_weight: The weight of words that have none, as they are or in lower case.
    """

    config_keys = ("vocab", "word_weights", "unknown_word_weight")

    def __init__(
        self, vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float = 1
    ) -> None:
        super().__init__()
        self.vocab = list(vocab)
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        weights = weights_of(self.vocab, word_weights, unknown_word_weight)
        self.emb_layer = nn.Embedding.from_pretrained(
            torch.tensor(weights).float().unsqueeze(1), freeze=False
        )

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Multiply `token_embeddings`; add `token_weights_sum`, (N,), which Pooling divides by."""
        if "tokens" in features:
            tokens = features["tokens"]
            weights = self.emb_layer(tokens.input_ids)  # (T, 1)
            sums = weights.new_zeros(len(tokens), 1).index_add(0, tokens.sequence_of_token, weights)
            features["token_weights_sum"] = tokens.restore(sums.squeeze(1))
        else:
            mask = mask_of(features).unsqueeze(-1)
            weights = self.emb_layer(features["input_ids"]) * mask  # (N, L, 1)
            features["token_weights_sum"] = weights.sum(dim=(1, 2))
        features["token_embeddings"] = features["token_embeddings"] * weights
        return features


def weights_of(vocab: Sequence[str], word_weights: Mapping[str, float], unknown: float) -> list[float]:
    """The weight of each word, looked up as it is, then in lower case."""
    return [word_weights.get(word, word_weights.get(word.lower(), unknown)) for word in vocab]
