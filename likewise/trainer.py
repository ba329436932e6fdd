"""The trainer, under the reference's path."""

from likewise.training.trainer import SentenceTransformerTrainer

__all__ = ["SentenceTransformerTrainer"]
