"""The model card's data and its callback, under the reference's path."""

from likewise.card import SentenceTransformerModelCardData, generate_model_card
from likewise.card.callback import SentenceTransformerModelCardCallback

BaseModelCardData = SentenceTransformerModelCardData
"""The name that 6.x has for the data of all models."""
ModelCardCallback = SentenceTransformerModelCardCallback
"""The older name."""

__all__ = [
    "BaseModelCardData",
    "ModelCardCallback",
    "SentenceTransformerModelCardCallback",
    "SentenceTransformerModelCardData",
    "generate_model_card",
]
