"""From pairs to their scores with a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from likewise.engine import TokenBatch
from likewise.engine.embed import PACKABLE, Embed
from likewise.engine.feature_batch import FeatureBatch

Batch: TypeAlias = TokenBatch | Mapping[str, Any]
"""Pairs: packed tokens, or padded features."""


def score_pairs(model: Any, batch: Batch, way: Embed) -> Tensor:
    """The scores of a batch, (T, labels), in the caller's order; float32 at least.

    Args:
        model: The CrossEncoder.
        batch: The T pairs.
        way: At once, or in chunks that are recomputed in the backward pass; its `output` is `scores`.
    """
    takes_tokens = getattr(model, "takes_tokens", False)
    if (
        isinstance(batch, Mapping)
        and takes_tokens
        and {"input_ids", "attention_mask"} <= batch.keys() <= PACKABLE
    ):
        batch = TokenBatch.from_padded(
            batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")
        )
    if isinstance(batch, TokenBatch):
        scores = way.sequences(model, batch)
    elif way.recomputes:
        scores = way.sequences(model, FeatureBatch(dict(batch), next(iter(model.children()), None)))
    else:
        scores = model(dict(batch))[way.output]
    return scores.float() if scores.element_size() < 4 else scores


def read_pairs(
    model: Any, pairs: Sequence[tuple[Any, Any]], prompt: str | None = None, task: str | None = None
) -> Batch:
    """The pairs as the model takes them: packed tokens, or padded features where its first module knows no others."""
    if getattr(model, "takes_tokens", False):
        packed: TokenBatch = model.token_sequences(pairs, prompt, task).pack()
        return packed.to(model.device, non_blocking=True)
    options = {} if task is None else {"task": task}
    features = model.preprocess(list(pairs), prompt=prompt, **options)
    return {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in features.items()
    }
