"""The reference's import paths, of every release, and its name.

`likewise.SentenceTransformer` and `likewise.losses.CoSENTLoss` are files of the reference before 5.4,
`likewise.sentence_transformer.losses.cosent` and `likewise.base.modules` of 6.x. A script may import from any of them: each
gives the public names of the place where they live here. After `install()` that holds for the package name
`sentence_transformers` too, for programs that import it and cannot be changed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# 6.x keeps in these two what stood at the top before.
TOPS = ("base", "sentence_transformer")
# Where the names of a file are now, if not in a place of the same name.
MOVED = {
    "LoggingHandler": "util",
    "SentenceTransformer": "",
    "data_collator": "training.data_collator",
    "model": "",
    "models.tokenizer": "models",
    "modules": "models",
    "modules.tokenizer": "models",
    "util.hard_negatives": "util",
    "util.quantization": "util",
    "util.retrieval": "util",
    "util.similarity": "util",
}
# Places that had a file for each class.
ROOMS = ("datasets", "evaluation", "losses", "models", "readers")


def install() -> None:
    """Let `import sentence_transformers` give this package, for code that imports it by name.

    Raises:
        RuntimeError: The reference itself was imported before.
    """
    if any(
        isinstance(finder, OldPaths) and finder.root == "sentence_transformers" for finder in sys.meta_path
    ):
        return
    if "sentence_transformers" in sys.modules:
        raise RuntimeError(
            "sentence_transformers was imported already. Call `likewise.compat.install()` before the first import of it."
        )
    sys.meta_path.insert(0, OldPaths("sentence_transformers"))


class OldPaths:
    """Finds modules at the reference's paths; a finder and loader as `sys.meta_path` takes them.

    Args:
        root: The package whose paths these are.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A module that passes on the names of another, where there is one."""
        root, _, rest = name.partition(".")
        home = _home(rest) if root == self.root else None
        return None if home in (None, name) else ModuleSpec(name, self, origin=home, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _PassedOn(spec.name, f"The names of {spec.origin}, under the reference's path.")

    def exec_module(self, module: ModuleType) -> None:
        parent, _, name = module.__name__.rpartition(".")
        above = sys.modules.get(parent)
        if isinstance(getattr(above, name, None), type) and not isinstance(above, _KeepsClasses):
            sys.modules[parent].__class__ = _KeepsClasses


class _KeepsClasses(ModuleType):
    """A module whose class stays when a file of the same name is imported: `likewise.losses.CoSENTLoss`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, _PassedOn) and isinstance(getattr(self, name, None), type)):
            super().__setattr__(name, value)


class _PassedOn(_KeepsClasses):
    """Has the names of the module that its spec names, and those of the package."""

    def __getattr__(self, name: str) -> Any:
        for home in (self.__spec__.origin, "likewise"):  # type: ignore[union-attr]
            if not name.startswith("__") or name in ("__all__", "__version__"):
                try:
                    return getattr(import_module(str(home)), name)
                except AttributeError:
                    continue
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return dir(import_module(str(self.__spec__.origin)))  # type: ignore[union-attr]


def _home(path: str) -> str | None:
    """The module that holds the names of one of the reference's (without the package's name); None for no such."""
    first, _, rest = path.partition(".")
    if first in TOPS:
        path = rest
    path = MOVED.get(path, path)
    room, _, file = path.rpartition(".")
    room = MOVED.get(room, room)
    if room in ROOMS and _names_a_class(file, import_module(f"likewise.{room}")):
        path = room
    return _module(f"likewise.{path}".rstrip("."))


def _module(name: str) -> str | None:
    """The name, if there is such a module in this package."""
    if name in sys.modules:
        return name
    try:
        above = import_module(name.rpartition(".")[0])
        return name if PathFinder.find_spec(name, above.__path__) else None
    except (ModuleNotFoundError, AttributeError):  # the place above does not exist, or is a file
        return None


def _names_a_class(file: str, room: ModuleType) -> bool:
    """Whether a file is named after something in a room: `CoSENTLoss` or `cosent`."""
    first, *others = file.lower().split("_")
    names = [name.lower() for name in room.__all__]
    return any(name.startswith(first) and all(part in name for part in others) for name in names)
