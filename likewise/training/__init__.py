"""Training: arguments, plan, samplers, trainer."""

from likewise.training.run.arguments import BaseTrainingArguments, BatchSamplers, MultiDatasetBatchSamplers
from likewise.training.run.trainer import BaseTrainer

__all__ = ["BaseTrainer", "BaseTrainingArguments", "BatchSamplers", "MultiDatasetBatchSamplers"]
