"""SparseEncoders: models that give each text a weight for a few entries of a vocabulary (SPLADE, CSR)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.sparse_encoder.data_collator import SparseEncoderDataCollator
    from likewise.sparse_encoder.model import SparseEncoder
    from likewise.sparse_encoder.model_card import SparseEncoderModelCardData
    from likewise.sparse_encoder.trainer import SparseEncoderTrainer
    from likewise.sparse_encoder.training_args import SparseEncoderTrainingArguments

__all__ = [
    "SparseEncoder",
    "SparseEncoderDataCollator",
    "SparseEncoderModelCardData",
    "SparseEncoderTrainer",
    "SparseEncoderTrainingArguments",
]

_HOMES = {
    "SparseEncoder": "likewise.sparse_encoder.model",
    "SparseEncoderDataCollator": "likewise.sparse_encoder.data_collator",
    "SparseEncoderModelCardData": "likewise.sparse_encoder.model_card",
    "SparseEncoderTrainer": "likewise.sparse_encoder.trainer",
    "SparseEncoderTrainingArguments": "likewise.sparse_encoder.training_args",
}
_SUBMODULES = ("callbacks", "evaluation", "losses", "modules", "search_engines")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"likewise.sparse_encoder.{name}")
    raise AttributeError(f"module 'likewise.sparse_encoder' has no attribute {name!r}")
