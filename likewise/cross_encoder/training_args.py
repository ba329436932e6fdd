"""CrossEncoderTrainingArguments: the arguments of a run that trains scores of pairs."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import (
    BaseTrainingArguments,
    BatchSamplers,
    MultiDatasetBatchSamplers,
)

__all__ = ["BatchSamplers", "CrossEncoderTrainingArguments", "MultiDatasetBatchSamplers"]


@dataclass
class CrossEncoderTrainingArguments(BaseTrainingArguments):
    """The arguments of a run that trains scores of pairs: those of every run."""

    __doc__ = f"{__doc__}\n\n{BaseTrainingArguments.__doc__}"
