"""The trainers, under the reference's path."""

from likewise.sentence_transformer.trainer import SentenceTransformerTrainer
from likewise.training.run.trainer import BaseTrainer

__all__ = ["BaseTrainer", "SentenceTransformerTrainer"]
