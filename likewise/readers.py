"""Readers of the older kind, under the reference's path."""

from likewise.legacy.readers import *  # noqa: F403
from likewise.legacy.readers import __all__ as __all__

__path__: list[str] = []  # for files of older releases: likewise.compat
