"""The modules, under the name that the reference gave them first."""

from likewise.modules import *  # noqa: F403
from likewise.modules import __all__ as __all__

__path__: list[str] = []  # for files of older releases: likewise.compat
