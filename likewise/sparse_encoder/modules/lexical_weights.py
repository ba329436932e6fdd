"""LexicalWeights: each token of a text weighs what a linear layer makes of its embedding; no vocabulary's logits are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.engine import TokenBatch
from likewise.modules.base import Features, Module, made_whole, mask_of

BGE_M3_FILE = "sparse_linear.pt"


class LexicalWeights(Module):
    """weight of an entry of the vocabulary = max over the text's tokens that are it of relu(w h + b); 0 where there is none.

    A text has entries for its own tokens only, special ones left out. A new layer gives each of them 1.

    Args:
        in_features: D, the size of the token embeddings h.
        embedding_dimension: V, the size of the vocabulary.

    Reference: Chen et al. 2024, BGE M3-Embedding, https://arxiv.org/abs/2402.03216, section 3.2 (lexical retrieval).
    """

    config_keys = ("in_features", "embedding_dimension")
    saved_as = "likewise.sparse_encoder.modules.LexicalWeights"

    def __init__(self, in_features: int, embedding_dimension: int) -> None:
        super().__init__()
        self.in_features, self.embedding_dimension = in_features, embedding_dimension
        self.linear = nn.Linear(in_features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)
        self._special: list[int] = []

    def on_model_ready(self, model: Any) -> None:
        """Look up the special tokens, which stand for no word."""
        self._special = list(model.tokenizer.all_special_ids)

    def get_embedding_dimension(self) -> int:
        """V, the size of the vocabulary."""
        return self.embedding_dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, V), in the caller's order."""
        hidden: Tensor = made_whole(features["token_embeddings"])
        tokens = features.get("tokens")
        if tokens is None:
            mask = mask_of(features)
            tokens = TokenBatch.from_padded(features["input_ids"], mask)
            hidden = tokens.unpad(hidden, mask)
        ids = tokens.input_ids
        weights = self.linear(hidden.to(self.linear.weight.dtype)).squeeze(1).relu()  # (T,)
        weights = weights * ~torch.isin(ids, ids.new_tensor(self._special))
        places = tokens.sequence_of_token * self.embedding_dimension + ids
        rows = weights.new_zeros(len(tokens) * self.embedding_dimension)
        rows = rows.scatter_reduce(0, places, weights, "amax").view(len(tokens), -1)
        features["sentence_embedding"] = tokens.restore(rows)
        return features

    @classmethod
    def of_bge_m3(cls, folder: Path, embedding_dimension: int) -> LexicalWeights:
        """The layer in a folder of BGE-M3's, `sparse_linear.pt`, for a vocabulary of V entries."""
        weights = torch.load(folder / BGE_M3_FILE, map_location="cpu", weights_only=True)
        module = cls(weights["weight"].shape[1], embedding_dimension)
        module.linear.load_state_dict({name: value.float() for name, value in weights.items()})
        return module

    def __repr__(self) -> str:
        return f"LexicalWeights({self.get_config_dict()})"
