"""CrossEncoders: models that read two texts together, to rank documents or to classify pairs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder

__all__ = ["CrossEncoder"]

_HOMES = {"CrossEncoder": "likewise.cross_encoder.model"}
_SUBMODULES = ("evaluation", "losses", "modules")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"likewise.cross_encoder.{name}")
    raise AttributeError(f"module 'likewise.cross_encoder' has no attribute {name!r}")
