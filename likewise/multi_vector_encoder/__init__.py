"""Late interaction: models with an embedding for each token. Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.multi_vector_encoder.model import MultiVectorEncoder
    from likewise.multi_vector_encoder.model_card import MultiVectorEncoderModelCardData
    from likewise.multi_vector_encoder.trainer import (
        MultiVectorEncoderDataCollator,
        MultiVectorEncoderTrainer,
    )
    from likewise.multi_vector_encoder.training_args import MultiVectorEncoderTrainingArguments

_HOMES = {
    "MultiVectorEncoder": "likewise.multi_vector_encoder.model",
    "MultiVectorEncoderDataCollator": "likewise.multi_vector_encoder.trainer",
    "MultiVectorEncoderModelCardData": "likewise.multi_vector_encoder.model_card",
    "MultiVectorEncoderTrainer": "likewise.multi_vector_encoder.trainer",
    "MultiVectorEncoderTrainingArguments": "likewise.multi_vector_encoder.training_args",
}
_SUBMODULES = ("evaluation", "losses", "modules", "scoring", "token_corpus")

__all__ = [
    "MultiVectorEncoder",
    "MultiVectorEncoderDataCollator",
    "MultiVectorEncoderModelCardData",
    "MultiVectorEncoderTrainer",
    "MultiVectorEncoderTrainingArguments",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"likewise.multi_vector_encoder.{name}")
    raise AttributeError(f"module 'likewise.multi_vector_encoder' has no attribute {name!r}")
