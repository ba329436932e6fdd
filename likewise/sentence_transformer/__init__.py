"""The dense family: SentenceTransformer and what belongs to it. Its names are imported when they are first used."""

from __future__ import annotations

from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)
