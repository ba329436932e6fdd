"""SentenceTransformerTrainingArguments: the arguments of a run that trains embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import BaseTrainingArguments, BatchSamplers, MultiDatasetBatchSamplers

__all__ = ["BatchSamplers", "MultiDatasetBatchSamplers", "SentenceTransformerTrainingArguments"]


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    """The arguments of a run that trains embeddings: those of every run."""

    __doc__ = f"{__doc__}\n\n{BaseTrainingArguments.__doc__}"
