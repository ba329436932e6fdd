"""The modules, under the name that the reference gave them first."""

from likewise.modules import *  # noqa: F403
from likewise.modules import __all__ as __all__
