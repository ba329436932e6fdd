"""Score: from pairs to their scores with a graph; whole, in pieces that stay in cache, or in recomputed chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from likewise.engine import TokenBatch
from likewise.losses.base import Run, run_whole
from likewise.losses.feature_batch import FeatureBatch
from likewise.losses.recompute import recompute, recompute_mini_batches

Batch: TypeAlias = TokenBatch | Mapping[str, Any]
"""Pairs: packed tokens, or padded features."""


@dataclass(frozen=True)
class Score:
    """How pairs become scores. They are the same either way, to rounding, and so are all gradients.

    Dropout draws the same numbers again where a chunk is recomputed.

    Attributes:
        recompute_tokens: Tokens of a chunk that is recomputed in the backward pass, at most; None keeps all graphs.
        recompute_rows: The size of a chunk in pairs, were they all as long as the batch's longest; where `recompute_tokens`
            does not say.
        keep_tokens: The last chunks keep their graph as long as they hold no more tokens than this; None for one chunk.
        show_progress_bar: Whether to show a bar over recomputed chunks.

    Raises:
        ValueError: A size is less than 1.
    """

    recompute_tokens: int | None = None
    recompute_rows: int | None = None
    keep_tokens: int | None = None
    show_progress_bar: bool = False

    def __post_init__(self) -> None:
        for name in ("recompute_tokens", "recompute_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {value}. None recomputes nothing.")

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """The scores of a batch, (T, labels), in the caller's order; float32 at least."""
        if isinstance(batch, Mapping) and getattr(model, "takes_tokens", False) and "attention_mask" in batch:
            batch = TokenBatch.from_padded(
                batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")
            )
        run = self._run()
        if isinstance(batch, TokenBatch):
            scores = run(lambda tokens: model({"tokens": tokens})["scores"], batch)
        elif run is run_whole:
            scores = model(dict(batch))["scores"]
        else:
            first = next(iter(model.children()), None)
            rows: Any = FeatureBatch(batch, first)
            scores = run(lambda part: model(dict(part.features))["scores"], rows)
        return scores.float() if scores.element_size() < 4 else scores

    def _run(self) -> Run:
        if self.recompute_tokens is not None:
            return recompute(self.recompute_tokens, self.keep_tokens, self.show_progress_bar)
        if self.recompute_rows is not None:
            return recompute_mini_batches(self.recompute_rows, None, self.show_progress_bar)
        return run_whole


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
