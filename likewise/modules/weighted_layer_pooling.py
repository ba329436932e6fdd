"""WeightedLayerPooling: token embeddings as a learned mean over a transformer's layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from likewise.checked import positive
from likewise.modules.base import Features, Module, size_in


class WeightedLayerPooling(Module):
    """The weighted mean of the layers' outputs; the weights are learned.

    The transformer must give all layers: `Transformer(..., config_args={"output_hidden_states": True})`.

    Args:
        word_embedding_dimension: Size of the embeddings.
        num_hidden_layers: Layers of the transformer.
        layer_start: The first layer that counts; 0 is the input embeddings.
        layer_weights: (num_hidden_layers + 1 - layer_start,) to start from; None for equal weights.
        embedding_dimension: The newer name of `word_embedding_dimension`.

    Raises:
        ValueError: The size is missing, or there is no layer at `layer_start`.
    """

    config_keys = ("word_embedding_dimension", "layer_start", "num_hidden_layers")

    def __init__(
        self,
        word_embedding_dimension: int | None = None,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: Tensor | None = None,
        *,
        embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        size = embedding_dimension if word_embedding_dimension is None else word_embedding_dimension
        self.word_embedding_dimension = positive(size, "word_embedding_dimension")
        if not 0 <= layer_start <= positive(num_hidden_layers, "num_hidden_layers"):
            raise ValueError(
                f"`layer_start` must lie between 0 and `num_hidden_layers` ({num_hidden_layers}), but is {layer_start}."
            )
        self.layer_start = layer_start
        self.num_hidden_layers = num_hidden_layers
        start = torch.ones(num_hidden_layers + 1 - layer_start) if layer_weights is None else layer_weights
        self.layer_weights = start if isinstance(start, nn.Parameter) else nn.Parameter(start)

    get_word_embedding_dimension = get_embedding_dimension = size_in("word_embedding_dimension")

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Replace `token_embeddings` by the mean over `all_layer_embeddings`.

        Raises:
            ValueError: The transformer gives no layers, or another number of them.
        """
        layers = features.get("all_layer_embeddings")
        if layers is None or len(layers) != self.num_hidden_layers + 1:
            found = "none" if layers is None else f"{len(layers) - 1}"
            raise ValueError(
                f"WeightedLayerPooling takes {self.num_hidden_layers} layers, but got {found}. Make the transformer with "
                '`config_args={"output_hidden_states": True}`, and set `num_hidden_layers` to its number.'
            )
        stacked = torch.stack(list(layers[self.layer_start :]))
        weights = self.layer_weights.view(-1, *[1] * (stacked.dim() - 1))
        features["token_embeddings"] = (weights * stacked).sum(dim=0) / self.layer_weights.sum()
        return features
