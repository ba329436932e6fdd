"""The dense family: SentenceTransformer and what belongs to it. Its names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.sentence_transformer.model import SentenceTransformer as SentenceTransformer
    from likewise.sentence_transformer.trainer import SentenceTransformerTrainer as SentenceTransformerTrainer

_HOMES = {
    "SentenceTransformer": "likewise.sentence_transformer.model",
    "SentenceTransformerModelCardData": "likewise.sentence_transformer.model_card",
    "SentenceTransformerTrainer": "likewise.sentence_transformer.trainer",
    "SentenceTransformerTrainingArguments": "likewise.sentence_transformer.training_args",
}

__all__ = [
    "SentenceTransformer",
    "SentenceTransformerModelCardData",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value
