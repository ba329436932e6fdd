"""The model card (README.md) that is written with each saved model."""

from likewise.card.data import BaseModelCardData
from likewise.card.write import generate_model_card, write_model_card

__all__ = ["BaseModelCardData", "generate_model_card", "write_model_card"]
