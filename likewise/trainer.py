"""The trainer, under the reference's path."""

from likewise.training.run.trainer import SentenceTransformerTrainer

__all__ = ["SentenceTransformerTrainer"]
