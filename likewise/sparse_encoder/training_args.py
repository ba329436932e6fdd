"""SparseEncoderTrainingArguments: the arguments of a run that trains sparse embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import (
    BaseTrainingArguments,
    BatchSamplers,
    MultiDatasetBatchSamplers,
)

__all__ = ["BatchSamplers", "MultiDatasetBatchSamplers", "SparseEncoderTrainingArguments"]


@dataclass
class SparseEncoderTrainingArguments(BaseTrainingArguments):
    __doc__ = BaseTrainingArguments.__doc__
