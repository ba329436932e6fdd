"""The model card's data and its callback, under the reference's path."""

from likewise.card import SentenceTransformerModelCardData
from likewise.card.callback import SentenceTransformerModelCardCallback

ModelCardCallback = SentenceTransformerModelCardCallback
"""The older name."""

__all__ = ["ModelCardCallback", "SentenceTransformerModelCardCallback", "SentenceTransformerModelCardData"]
