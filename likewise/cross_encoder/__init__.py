"""CrossEncoders: models that read two texts together, to rank documents or to classify pairs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.cross_encoder.data_collator import CrossEncoderDataCollator
    from likewise.cross_encoder.model import CrossEncoder
    from likewise.cross_encoder.model_card import CrossEncoderModelCardData
    from likewise.cross_encoder.trainer import CrossEncoderTrainer
    from likewise.cross_encoder.training_args import CrossEncoderTrainingArguments

__all__ = [
    "CrossEncoder",
    "CrossEncoderDataCollator",
    "CrossEncoderModelCardData",
    "CrossEncoderTrainer",
    "CrossEncoderTrainingArguments",
]

_HOMES = {
    "CrossEncoder": "likewise.cross_encoder.model",
    "CrossEncoderDataCollator": "likewise.cross_encoder.data_collator",
    "CrossEncoderModelCardData": "likewise.cross_encoder.model_card",
    "CrossEncoderTrainer": "likewise.cross_encoder.trainer",
    "CrossEncoderTrainingArguments": "likewise.cross_encoder.training_args",
}
_SUBMODULES = ("evaluation", "losses", "modules")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"likewise.cross_encoder.{name}")
    raise AttributeError(f"module 'likewise.cross_encoder' has no attribute {name!r}")
