"""MultiVectorEncoderTrainingArguments: the arguments of a run that trains token embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import (
    BaseTrainingArguments,
    BatchSamplers,
    MultiDatasetBatchSamplers,
)

__all__ = ["BatchSamplers", "MultiDatasetBatchSamplers", "MultiVectorEncoderTrainingArguments"]


@dataclass
class MultiVectorEncoderTrainingArguments(BaseTrainingArguments):
    """The arguments of a run that trains token embeddings: those of every run."""

    __doc__ = f"{__doc__}\n\n{BaseTrainingArguments.__doc__}"
