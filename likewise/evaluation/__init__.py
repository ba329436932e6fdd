"""Evaluators: what a model is measured with. Names are imported when they are first used."""

from __future__ import annotations

from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)
