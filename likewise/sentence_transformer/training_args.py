"""SentenceTransformerTrainingArguments: the arguments of a run that trains embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import (
    BaseTrainingArguments,
    BatchSamplers,
    MultiDatasetBatchSamplers,
)

__all__ = ["BatchSamplers", "MultiDatasetBatchSamplers", "SentenceTransformerTrainingArguments"]


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    __doc__ = BaseTrainingArguments.__doc__
