"""The model card's data and its callback, under the reference's path."""

from likewise.card import BaseModelCardData, generate_model_card
from likewise.card.callback import BaseModelCardCallback
from likewise.sentence_transformer.model_card import SentenceTransformerModelCardData
from likewise.sentence_transformer.trainer import SentenceTransformerModelCardCallback

ModelCardCallback = SentenceTransformerModelCardCallback
"""The older name."""

__all__ = [
    "BaseModelCardCallback",
    "BaseModelCardData",
    "ModelCardCallback",
    "SentenceTransformerModelCardCallback",
    "SentenceTransformerModelCardData",
    "generate_model_card",
]
