"""The model card (README.md) that is written with each saved model."""

from likewise.card.data import SentenceTransformerModelCardData
from likewise.card.write import write_model_card

__all__ = ["SentenceTransformerModelCardData", "write_model_card"]
