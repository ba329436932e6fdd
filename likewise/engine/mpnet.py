"""The packed forward pass of MPNet, whose attention layers never ask for an attention implementation.

MPNet adds to every score a bias that depends only on the distance from query to key. It is computed once per
forward pass, for 2 L - 1 distances, and indexed by each group of equally long sequences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from likewise.engine.last_layer import Reading, read_last
from likewise.engine.post_norm import PARTS
from likewise.engine.token_batch import TokenBatch


def mpnet_forward(
    model: Any, tokens: TokenBatch, output_hidden_states: bool = False, rows: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Run a transformers MPNetModel on a packed batch.

    Returns:
        The last layer's token embeddings (T, D), or with `rows` (N, D), those of one token of each sequence, by their numbers; with
        `output_hidden_states` the embeddings layer's and every layer's.
    """
    embeddings, encoder = model.embeddings, model.encoder
    positions = tokens.positions + embeddings.padding_idx + 1
    hidden: Tensor = embeddings(
        input_ids=tokens.input_ids.unsqueeze(0), position_ids=positions.unsqueeze(0)
    ).squeeze(0)
    bias = bias_by_distance(model, tokens)
    layers = [hidden]
    for layer in encoder.layer if rows is None else encoder.layer[:-1]:
        hidden = PARTS["mpnet"](layer)(hidden, tokens, bias)
        layers.append(hidden)
    if rows is not None:
        hidden = read_last(model, hidden, Reading.of(tokens, rows), bias.to(hidden.dtype))
    return tuple(layers) if output_hidden_states else (hidden,)


def bias_by_distance(model: Any, tokens: TokenBatch) -> Tensor:
    """(H, 2 L - 1): what a transformers MPNetModel adds to attention's scores, by distance from query to key."""
    distances = torch.arange(1 - tokens.longest, tokens.longest, device=tokens.device)
    encoder = model.encoder
    bias: Tensor = encoder.relative_attention_bias(encoder.relative_position_bucket(distances)).T
    return bias
