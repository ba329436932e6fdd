"""The model card (README.md) that is written with each saved model."""

from likewise.card.data import SentenceTransformerModelCardData
from likewise.card.write import generate_model_card, write_model_card

__all__ = ["SentenceTransformerModelCardData", "generate_model_card", "write_model_card"]
