"""Run by Python when it starts, where `likewise run` put this folder on its path: gives it the alias."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

try:
    from likewise.compat import install
except ImportError:  # another Python, which does not have this library: leave it as it is
    pass
else:
    install()

# The sitecustomize.py that this one stands in front of, if there is one.
_here = Path(__file__).parent
_spec = PathFinder.find_spec(
    "sitecustomize", [path for path in sys.path if Path(path).resolve() != _here.resolve()]
)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(module_from_spec(_spec))
