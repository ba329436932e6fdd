"""CrossEncoders: models that read two texts together, to rank documents or to classify pairs."""

from __future__ import annotations

from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)
