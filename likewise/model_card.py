"""The model card's data, under the reference's path."""

from likewise.card import SentenceTransformerModelCardData

__all__ = ["SentenceTransformerModelCardData"]
