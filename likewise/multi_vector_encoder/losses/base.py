"""MultiVectorLoss: what losses of late interaction have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from likewise.engine import ColumnBatch
from likewise.engine.embed import Batch, Embed
from likewise.losses.base import Loss as AnyLoss
from likewise.modules.query_expansion import DOCUMENT, QUERY
from likewise.multi_vector_encoder.scoring.token_scores import Score, XTRScores
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings
from likewise.types import Encoder

OUTPUT = "multi_vector_embedding"


class Loss(AnyLoss):
    """A loss over the token embeddings of a batch's columns: queries first, documents behind.

    A subclass sets `takes` and writes `compute`, which gets TokenEmbeddings of B texts for each column.

    Args:
        model: The MultiVectorEncoder whose embeddings are trained.
        similarity_fct: How queries and documents are scored.
        mini_batch_size: Texts of a chunk that is recomputed in the backward pass, were they all as long as the batch's
            longest; None for all at once.

    Raises:
        ValueError: The size is less than 1.
    """

    model_type = "MultiVectorEncoder"

    def __init__(self, model: Any, similarity_fct: Score, mini_batch_size: int | None = None) -> None:
        self.mini_batch_size = mini_batch_size
        super().__init__(cast(Encoder, model))
        self.similarity_fct = similarity_fct

    @property
    def embed(self) -> Embed:
        """Token embeddings, in chunks where a size is given."""
        return replace(super().embed, output=OUTPUT)

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """The token embeddings of each column; the first is of queries, the others of documents, unless the batch says else."""
        return embed(self.model, with_tasks(batch))

    def get_config_dict(self) -> dict[str, Any]:
        config = super().get_config_dict()
        if isinstance(self.similarity_fct, XTRScores):
            config["similarity_fct"] = type(self.similarity_fct).__name__
        return config


def with_tasks(batch: Batch) -> Batch:
    """The columns with what they are for, where they do not say."""
    tasks = (QUERY, *(DOCUMENT,) * (len(batch) - 1))
    if isinstance(batch, ColumnBatch):
        return batch if batch.tasks is not None else replace(batch, tasks=tasks)
    return [{"task": task, **column} for task, column in zip(tasks, batch, strict=True)]


def columns_of(embeddings: Sequence[Any]) -> tuple[TokenEmbeddings, list[TokenEmbeddings]]:
    """The queries, and the documents column by column."""
    queries, *documents = embeddings
    return queries, documents
