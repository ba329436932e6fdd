"""SparseEncoders: models that give each text a weight for a few entries of a vocabulary (SPLADE, CSR)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.sparse_encoder.model import SparseEncoder
    from likewise.sparse_encoder.model_card import SparseEncoderModelCardData

__all__ = ["SparseEncoder", "SparseEncoderModelCardData"]

_HOMES = {
    "SparseEncoder": "likewise.sparse_encoder.model",
    "SparseEncoderModelCardData": "likewise.sparse_encoder.model_card",
}
_SUBMODULES = ("modules",)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"likewise.sparse_encoder.{name}")
    raise AttributeError(f"module 'likewise.sparse_encoder' has no attribute {name!r}")
