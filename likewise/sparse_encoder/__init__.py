"""SparseEncoders: models that give each text a weight for a few entries of a vocabulary (SPLADE, CSR)."""

from __future__ import annotations

from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)
