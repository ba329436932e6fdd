"""Names of a package that are imported when they are first used, so that importing the package stays cheap."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from typing import Any


def lazy_names(package: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__all__`, `__getattr__` and `__dir__`, by its stub, `__init__.pyi`, which type checkers read as well.

    Each name there is imported by itself, `from likewise.similarity import cos_sim as cos_sim`. Submodules, which come from the
    package itself, are no part of `__all__`.
    """
    module = sys.modules[package]
    stub = ast.parse(files(package).joinpath("__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}

    def getattr_of(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        is_submodule = homes[name] == package
        value = (
            import_module(f"{package}.{name}") if is_submodule else getattr(import_module(homes[name]), name)
        )
        vars(module)[name] = value
        return value

    def dir_of() -> list[str]:
        return sorted({*vars(module), *homes})

    return sorted(name for name, home in homes.items() if home != package), getattr_of, dir_of
