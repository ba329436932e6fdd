"""Heads of transformers' models, on what they read of each sequence: its first token, its last, or the mean of all.

They call the model's own modules, as its forward does behind the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from likewise.engine import TokenBatch
from likewise.engine.encoder import PackedEncoder

Reads = Callable[[Any, TokenBatch], Tensor]
"""The model and a batch -> (N,) the number of the token of each sequence that is read, in packed order."""


@dataclass(frozen=True)
class Head:
    """What comes behind an encoder.

    Attributes:
        logits: The model with its head, and (N, D) what it reads of each sequence -> (N, labels).
        reads: Which token that is; None for the mean of all.
    """

    logits: Callable[[Any, Tensor], Tensor]
    reads: Reads | None

    def __call__(self, model: Any, encoder: PackedEncoder, tokens: TokenBatch) -> Tensor:
        """The logits of a batch, (N, labels) in packed order."""
        if self.reads is None:
            return self.logits(model, _mean(encoder(tokens)[-1], tokens))
        return self.logits(model, encoder.read(tokens, self.reads(model, tokens)))


def bert_logits(model: Any, read: Tensor) -> Tensor:
    """The encoder's pooler, dropout, a linear layer."""
    logits: Tensor = model.classifier(model.dropout(model.base_model.pooler(read.unsqueeze(1))))
    return logits


def albert_logits(model: Any, read: Tensor) -> Tensor:
    """As BERT's; the pooler is a linear layer and its activation apart from it."""
    encoder = model.base_model
    logits: Tensor = model.classifier(model.dropout(encoder.pooler_activation(encoder.pooler(read))))
    return logits


def first_token_logits(model: Any, read: Tensor) -> Tensor:
    """A classifier that takes the first token by itself: RoBERTa and its kin, ELECTRA, MPNet."""
    logits: Tensor = model.classifier(read.unsqueeze(1))
    return logits


def distilbert_logits(model: Any, read: Tensor) -> Tensor:
    """Two linear layers with ReLU and dropout between."""
    logits: Tensor = model.classifier(model.dropout(relu(model.pre_classifier(read))))
    return logits


def modernbert_logits(model: Any, read: Tensor) -> Tensor:
    """Prediction head, dropout, a linear layer."""
    logits: Tensor = model.classifier(model.drop(model.head(read)))
    return logits


def score_logits(model: Any, read: Tensor) -> Tensor:
    """A decoder's linear layer."""
    logits: Tensor = model.score(read)
    return logits


def vocabulary_logits(model: Any, read: Tensor) -> Tensor:
    """A language model's logits of what comes next, (N, 1, V)."""
    logits: Tensor = model.get_output_embeddings()(read)
    return logits.unsqueeze(1)


def first_token(model: Any, tokens: TokenBatch) -> Tensor:
    """Each sequence's first token."""
    return tokens.starts.to(tokens.device)


def last_token(model: Any, tokens: TokenBatch) -> Tensor:
    """Each sequence's last token."""
    return (tokens.starts + tokens.lengths - 1).to(tokens.device)


def last_token_but_padding(model: Any, tokens: TokenBatch) -> Tensor:
    """Each sequence's last token that is not the model's padding (the first where all are)."""
    pad_id = model.config.get_text_config().pad_token_id
    if pad_id is None:
        return last_token(model, tokens)
    places = torch.where(tokens.input_ids == pad_id, 0, tokens.positions)
    last = torch.zeros_like(tokens.device_lengths).scatter_reduce(0, tokens.sequence_of_token, places, "amax")
    return tokens.starts.to(tokens.device) + last


HEADS: dict[str, Head] = {
    "albert": Head(albert_logits, first_token),
    "bert": Head(bert_logits, first_token),
    "camembert": Head(first_token_logits, first_token),
    "distilbert": Head(distilbert_logits, first_token),
    "electra": Head(first_token_logits, first_token),
    "modernbert": Head(modernbert_logits, first_token),
    "mpnet": Head(first_token_logits, first_token),
    "roberta": Head(first_token_logits, first_token),
    "xlm-roberta": Head(first_token_logits, first_token),
}
"""By transformers' name of the architecture; decoders are told by their `score` layer."""
DECODER_HEAD = Head(score_logits, last_token_but_padding)
VOCABULARY_HEAD = Head(vocabulary_logits, last_token)


def known_head(model: Any) -> Head | None:
    """The head of a model for sequence classification; None where it is not known."""
    from transformers.modeling_layers import GenericForSequenceClassification

    if isinstance(model, GenericForSequenceClassification):
        return DECODER_HEAD
    head = HEADS.get(model.config.model_type)
    if head is not None and getattr(model.config, "classifier_pooling", "cls") == "mean":
        return replace(head, reads=None)
    return head


def head_names(model: Any) -> list[str]:
    """The modules with weights that a model for sequence classification has beside its encoder; none of other models."""
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return []
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]


def _mean(hidden: Tensor, tokens: TokenBatch) -> Tensor:
    """(T, D) -> (N, D), the mean of each sequence's tokens."""
    sums = hidden.new_zeros(len(tokens), hidden.shape[-1]).index_add(0, tokens.sequence_of_token, hidden)
    return sums / tokens.device_lengths.unsqueeze(1).to(hidden.dtype)
