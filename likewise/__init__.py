"""Likewise: train, fine-tune, evaluate and run text embedding models (dense and sparse) and rerankers, without padding."""

from __future__ import annotations

import sys

from likewise.compat.paths import find_paths_of
from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)

# The reference's paths below the package, looked for only where a file is not found: the one effect of importing it.
find_paths_of("likewise", len(sys.meta_path))
