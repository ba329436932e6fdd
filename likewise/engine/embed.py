"""Embed: from the columns of a batch to their embeddings; whole, in pieces that stay in cache, or in recomputed chunks.

A loss asks for columns of a batch and gets (B, D) for each. What lies between is known here alone: all columns of a packed
batch go through a model together, routes of a Router one by one, padded features column by column; and a batch that is
too large for the memory of one forward pass goes through in chunks whose graphs are not kept, but made again in the
backward pass.

Reference (chunks): Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
https://arxiv.org/abs/2101.06983. There the gradients of the embeddings are cached; here every chunk is a checkpoint, which
is the same arithmetic and fits any loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from likewise.checked import positive
from likewise.engine.column_batch import ColumnBatch
from likewise.engine.feature_batch import FeatureBatch
from likewise.engine.token_batch import TokenBatch
from likewise.types import Encoder

Batch: TypeAlias = Sequence[dict[str, Any]]
"""The text columns of a batch: a ColumnBatch, or one dict of padded features for each column."""

CACHED_TOKENS = 1024  # per forward pass on the CPU: the activations of about so many stay in its caches
PACKABLE = {"input_ids", "attention_mask", "token_type_ids", "prompt_length"}


@dataclass(frozen=True)
class Embed:
    """How columns become embeddings. The embeddings are the same either way, to rounding, and so are all gradients.

    Dropout draws the same numbers again where a chunk is recomputed, so that the gradients are those of the same chunks
    with their graphs kept.

    Attributes:
        recompute_tokens: Tokens of a chunk that is recomputed in the backward pass, at most; a longer sequence is a chunk
            of its own. Smaller saves memory, until the chunks no longer fill the device. None keeps all graphs.
        layers: Whether a sequence gets an embedding from each of the model's layers, (B, layers, D), the last one last.
        recompute_rows: The size of a chunk in sequences, were they all as long as the batch's longest; where
            `recompute_tokens` does not say. Nothing is padded: chunks of shorter ones hold more of them.
        keep_tokens: The last chunks keep their graph, and are not recomputed, as long as they hold no more tokens than
            this; None for the size of one chunk. That costs no memory, since the backward pass begins with them and holds
            one chunk's graph at any time.
        show_progress_bar: Whether to show a bar over recomputed chunks.
        output: The feature that is asked of the model: `sentence_embedding`, `scores` of pairs, or
            `multi_vector_embedding`, of which each text has a tensor of its own shape.
    """

    recompute_tokens: int | None = None
    layers: bool = False
    recompute_rows: int | None = None
    keep_tokens: int | None = None
    show_progress_bar: bool = False
    output: str = "sentence_embedding"

    def __post_init__(self) -> None:
        for name in ("recompute_tokens", "recompute_rows"):
            if getattr(self, name) is not None:
                positive(
                    getattr(self, name), name, "16,384 tokens fit most devices; None recomputes nothing."
                )

    def __call__(
        self, model: Encoder, batch: Batch, columns: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """The embeddings of columns, (B, D) or (B, layers, D) each, in the batch's order.

        Args:
            model: What embeds them.
            batch: The columns, packed or padded; where chunks are asked for, such as can be cut into rows.
            columns: The numbers of those that are wanted; None for all.
        """
        if columns is None and isinstance(batch, ColumnBatch) and batch.tasks is None:
            return batch.split(self.sequences(model, batch.tokens))
        wanted = range(len(batch)) if columns is None else columns
        if isinstance(batch, ColumnBatch):
            return self._by_tasks(model, batch, wanted)
        return tuple(self._column(model, batch, column) for column in wanted)

    def _by_tasks(self, model: Encoder, batch: ColumnBatch, columns: Sequence[int]) -> tuple[Tensor, ...]:
        """Columns that follow each other and have one task go together."""
        found: list[Tensor] = []
        tasks = batch.tasks or (None,) * len(batch)
        for task, group in groupby(columns, key=lambda column: tasks[column]):
            options = {} if batch.tasks is None else {"task": task}
            found += batch.split(self.sequences(model, batch.columns(list(group)), options))
        return tuple(found)

    def _column(self, model: Encoder, batch: Batch, column: int) -> Tensor:
        if not self.recomputes:
            return self._pass(model, dict(batch[column]))
        first = next(model.children(), None)
        return self.sequences(model, FeatureBatch(batch[column], first))

    @property
    def recomputes(self) -> bool:
        """Whether chunks are made again in the backward pass."""
        return self.recompute_tokens is not None or self.recompute_rows is not None

    def sequences(
        self, model: Encoder, batch: TokenBatch | FeatureBatch, options: Mapping[str, Any] | None = None
    ) -> Tensor:
        """(N, ...) in the batch's order, by as many forward passes as are needed; `options` are further features."""
        options = options or {}
        size = self._chunk_tokens(model, batch)
        if size is None:
            return self._pass(model, {**_features(batch), **options})
        chunks: list[Any] = list(batch.chunks(size))
        first_kept = 0
        if self.recomputes:
            first_kept = _first_kept(chunks, size if self.keep_tokens is None else self.keep_tokens)
        bar = tqdm(chunks, "Embed micro-batches", disable=not (self.show_progress_bar and self.recomputes))
        embeddings = [
            self._pass(model, {**_features(chunk), **options}, chunk.device if i < first_kept else None)
            for i, chunk in enumerate(bar)
        ]
        rows: Any = embeddings[0]
        if not isinstance(rows, Tensor):  # unequal shapes, which know how they are joined and put in order
            joined: Tensor = rows.join(embeddings).select(batch.restore(torch.arange(len(batch))))
            return joined
        return batch.restore(torch.cat(embeddings))

    def _chunk_tokens(self, model: Encoder, batch: TokenBatch | FeatureBatch) -> int | None:
        """The tokens of a chunk; None for the whole batch in one pass."""
        if self.recompute_tokens is not None:
            return self.recompute_tokens
        if self.recompute_rows is not None:
            return max(1, self.recompute_rows * batch.longest)
        first = next(model.children(), None)
        # Processes that gather each other's shards in every pass must go through as many. `shard` marks what it shards, torch what
        # somebody shards by hand.
        in_one_pass = any(getattr(first, mark, False) for mark in ("in_one_pass", "_is_fsdp_managed_module"))
        is_small = batch.device.type != "cpu" or batch.num_tokens <= CACHED_TOKENS
        return None if in_one_pass or is_small else CACHED_TOKENS

    def _pass(
        self, model: Encoder, features: dict[str, Any], recomputed_on: torch.device | None = None
    ) -> Tensor:
        """One forward pass; on a device to be made again in the backward pass, if that is said."""
        if recomputed_on is None or not torch.is_grad_enabled():
            return model.layer_embeddings(features) if self.layers else model(features)[self.output]
        # The argument is there only to tell `checkpoint` the device, whose random state it must keep.
        at = torch.empty(0, device=recomputed_on)
        embeddings: Tensor = checkpoint(lambda _: self._pass(model, dict(features)), at, use_reentrant=False)
        return embeddings


def packed(model: Encoder, columns: Iterable[dict[str, Any]]) -> Batch:
    """A ColumnBatch of the columns where they are padded token ids and the model takes packed ones; else a list of them."""
    if isinstance(columns, ColumnBatch):
        return columns
    columns = list(columns)
    if not columns:
        raise ValueError("The batch has no column of texts. Give at least one.")
    first = columns[0]
    are_ids = {"input_ids", "attention_mask"} <= set(first) <= PACKABLE
    if not (are_ids and getattr(model, "takes_tokens", False)):
        return columns
    if any(set(c) != set(first) or len(c["input_ids"]) != len(first["input_ids"]) for c in columns):
        return columns
    longest = max(column["input_ids"].shape[1] for column in columns)
    joined = {}
    for key in first:
        values = [column[key] for column in columns]
        if key == "prompt_length":
            values = [torch.as_tensor(value).reshape(-1).expand(len(first["input_ids"])) for value in values]
        else:
            values = [pad(value, (0, longest - value.shape[1])) for value in values]
        joined[key] = torch.cat(values)
    return ColumnBatch(TokenBatch.from_padded(**joined), len(columns))


def _features(batch: TokenBatch | FeatureBatch) -> dict[str, Any]:
    return {"tokens": batch} if isinstance(batch, TokenBatch) else dict(batch.features)


def _first_kept(chunks: Sequence[TokenBatch | FeatureBatch], keep_tokens: int) -> int:
    """The number of the first chunk that keeps its graph."""
    first = len(chunks)
    while first and chunks[first - 1].num_tokens <= keep_tokens:
        first -= 1
        keep_tokens -= chunks[first].num_tokens
    return first
