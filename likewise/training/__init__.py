"""Training: arguments, plan, samplers, trainer."""

from likewise.training.run.arguments import (
    BatchSamplers,
    MultiDatasetBatchSamplers,
    SentenceTransformerTrainingArguments,
)
from likewise.training.run.trainer import SentenceTransformerTrainer

__all__ = [
    "BatchSamplers",
    "MultiDatasetBatchSamplers",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
]
