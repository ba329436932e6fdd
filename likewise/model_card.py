"""The model card's data and its callback, under the reference's path."""

from likewise.card import SentenceTransformerModelCardData
from likewise.card.callback import SentenceTransformerModelCardCallback

__all__ = ["SentenceTransformerModelCardCallback", "SentenceTransformerModelCardData"]
