"""The training arguments, under the reference's path."""

from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from likewise.training.run.arguments import BaseTrainingArguments, BatchSamplers, MultiDatasetBatchSamplers

__all__ = [
    "BaseTrainingArguments",
    "BatchSamplers",
    "MultiDatasetBatchSamplers",
    "SentenceTransformerTrainingArguments",
]
