"""Functions around embeddings, models and runs, under the name that the reference gave them.

Each is imported when it is first used: some need the training's libraries, and `util` is imported everywhere.
"""

from __future__ import annotations

from likewise.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__)
