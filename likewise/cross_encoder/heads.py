"""Heads of transformers' models, on the one token of each sequence that they read: its first, its last, or their mean.

Each takes the model with its head, (T, D) token embeddings and their batch, and gives (N, labels) in packed order. They
call the model's own modules, as its forward does behind the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import relu

from likewise.engine import TokenBatch

Head: TypeAlias = Callable[[Any, Tensor, TokenBatch], Tensor]


def bert_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """The encoder's pooler, dropout, a linear layer."""
    pooled = model.base_model.pooler(_first(hidden, tokens).unsqueeze(1))
    logits: Tensor = model.classifier(model.dropout(pooled))
    return logits


def albert_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """As BERT's; the pooler is a linear layer and its activation apart from it."""
    encoder = model.base_model
    pooled = encoder.pooler_activation(encoder.pooler(_first(hidden, tokens)))
    logits: Tensor = model.classifier(model.dropout(pooled))
    return logits


def first_token_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """A classifier that takes the first token by itself: RoBERTa and its kin, ELECTRA, MPNet."""
    logits: Tensor = model.classifier(_first(hidden, tokens).unsqueeze(1))
    return logits


def distilbert_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """Two linear layers with ReLU and dropout between."""
    logits: Tensor = model.classifier(model.dropout(relu(model.pre_classifier(_first(hidden, tokens)))))
    return logits


def modernbert_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """Prediction head, dropout, a linear layer, on the first token or on the mean of all."""
    if model.config.classifier_pooling == "mean":
        sums = hidden.new_zeros(len(tokens), hidden.shape[-1]).index_add(0, tokens.sequence_of_token, hidden)
        pooled = sums / tokens.device_lengths.unsqueeze(1).to(hidden.dtype)
    else:
        pooled = _first(hidden, tokens)
    logits: Tensor = model.classifier(model.drop(model.head(pooled)))
    return logits


def last_token_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """A decoder's linear layer on the last token that is not padding."""
    logits: Tensor = model.score(_last(hidden, tokens, model.config.get_text_config().pad_token_id))
    return logits


def vocabulary_head(model: Any, hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """A language model's logits of what comes after the last token, (N, 1, V)."""
    logits: Tensor = model.get_output_embeddings()(_last(hidden, tokens, None))
    return logits.unsqueeze(1)


HEADS: dict[str, Head] = {
    "albert": albert_head,
    "bert": bert_head,
    "camembert": first_token_head,
    "distilbert": distilbert_head,
    "electra": first_token_head,
    "modernbert": modernbert_head,
    "mpnet": first_token_head,
    "roberta": first_token_head,
    "xlm-roberta": first_token_head,
}
"""By transformers' name of the architecture; decoders are told by their `score` layer."""


def known_head(model: Any) -> Head | None:
    """The head of a model for sequence classification; None where it is not known."""
    from transformers.modeling_layers import GenericForSequenceClassification

    if isinstance(model, GenericForSequenceClassification):
        return last_token_head
    return HEADS.get(model.config.model_type)


def head_names(model: Any) -> list[str]:
    """The modules with weights that a model for sequence classification has beside its encoder; none of other models."""
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return []
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]


def _first(hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """(T, D) -> (N, D), each sequence's first token."""
    return hidden.index_select(0, tokens.starts.to(hidden.device))


def _last(hidden: Tensor, tokens: TokenBatch, pad_id: int | None) -> Tensor:
    """(T, D) -> (N, D), each sequence's last token that is not `pad_id` (the first where all are)."""
    ends = (tokens.starts + tokens.lengths - 1).to(hidden.device)
    if pad_id is not None:
        places = torch.where(tokens.input_ids == pad_id, 0, tokens.positions)
        last = torch.zeros_like(ends).scatter_reduce(0, tokens.sequence_of_token, places, "amax")
        ends = tokens.starts.to(hidden.device) + last
    return hidden.index_select(0, ends)
