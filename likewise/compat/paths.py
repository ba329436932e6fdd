"""The reference's import paths, of every release.

`likewise.SentenceTransformer` and `likewise.losses.CoSENTLoss` are files of the reference before 5.4,
`likewise.sentence_transformer.losses.cosent` and `likewise.base.modules` of 6.x. A script may import from any of them: each
gives the public names of the place where they live here. With the alias that holds for the package name
`sentence_transformers` too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from likewise.compat.missing import MissingModule
from likewise.compat.names import API_VERSION, BASES, HOMES, MISSING, TOPS

PACKAGE = Path(__file__).parents[1]
ALIAS = "sentence_transformers"
MISSING_HOME = "likewise.compat.missing"
_ALIASING = RLock()


def find_paths_of(root: str, place: int) -> None:
    """Let the reference's paths below a package be found, once, at this place among the ways to find modules."""
    if not any(isinstance(finder, OldPaths) and finder.root == root for finder in sys.meta_path):
        sys.meta_path.insert(place, OldPaths(root))


@contextmanager
def aliased() -> Iterator[None]:
    """Within this context `import sentence_transformers` gives this package; afterwards it is as it was.

    For code that comes with a model: it imports the reference by name, which need not be installed, and must not be mixed in
    where it is.
    """
    with _ALIASING:
        if any(isinstance(finder, OldPaths) and finder.root == ALIAS for finder in sys.meta_path):
            yield
            return
        aside = _taken_out(ALIAS)
        find_paths_of(ALIAS, 0)
        try:
            yield
        finally:
            sys.meta_path[:] = [f for f in sys.meta_path if not (isinstance(f, OldPaths) and f.root == ALIAS)]
            _taken_out(ALIAS)
            sys.modules.update(aside)


def _taken_out(package: str) -> dict[str, ModuleType]:
    """The modules of a package that were imported, which are then as if they had not been."""
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


class OldPaths:
    """Finds modules at the reference's paths; a finder and loader as `sys.meta_path` takes them.

    Args:
        root: The package whose paths these are.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A module that is another, or passes on its names. Nothing is imported here, where Python holds a lock."""
        root, _, rest = name.partition(".")
        home = _home(rest) if root == self.root else None
        return None if home in (None, name) else ModuleSpec(name, self, origin=home, is_package=True)  # type: ignore[arg-type]

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """The reference's distribution, for programs that ask which version is installed (`importlib.metadata` does here)."""
        asked = (getattr(context, "name", None) or ALIAS).lower().replace("-", "_").replace(".", "_")
        if self.root == ALIAS == asked:
            # Only now: `importlib.metadata` takes two thirds of the time of `import likewise`, and who asks has it already.
            from likewise.compat.distribution import AliasDistribution

            yield AliasDistribution()

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, where there is one at this path; else one that has its names."""
        rest = spec.name.removeprefix(f"{self.root}.")
        if spec.origin == MISSING_HOME:
            return MissingModule(spec.name, f"{spec.name} is not here: its names refuse when they are used.")
        if f"likewise.{rest}" != spec.origin:
            return PassedOn(spec.name, f"The names of {spec.origin}, under the reference's path.")
        module = import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave a module that has run before as it was; keep the class that has this one's name."""
        assert module.__spec__ is not None
        if module.__spec__.loader_state is not None:
            module.__spec__ = module.__spec__.loader_state
            return
        file = _file_of(str(module.__spec__.origin))
        module.__file__ = str(file)
        # For those who walk over a package's files. Under the alias alone, where this finder comes before Python's own:
        # that one would load the files a second time.
        if self.root == ALIAS and file.name == "__init__.py" and not isinstance(module, MissingModule):
            module.__path__ = [str(file.parent)]
        parent, _, name = module.__name__.rpartition(".")
        above = sys.modules.get(parent)
        if above is not None and not isinstance(above, _KeepsClasses) and _has_class(above, name):
            above.__class__ = _KeepsClasses


class _KeepsClasses(ModuleType):
    """A module whose class stays when a file of the same name is imported: `likewise.losses.CoSENTLoss`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, PassedOn) and _has_class(self, name)):
            super().__setattr__(name, value)


def _has_class(module: ModuleType, name: str) -> bool:
    """Whether a module has a class of this name. Only names in capitals are asked for, since asking imports what has them."""
    return name[:1].isupper() and isinstance(getattr(module, name, None), type)


class PassedOn(_KeepsClasses):
    """Has the names of the module that its spec names, and those of the package."""

    def __getattr__(self, name: str) -> Any:
        origin = str(self.__spec__.origin)  # type: ignore[union-attr]
        if name == "__version__" and self.__name__ == ALIAS:
            return API_VERSION
        base = BASES.get((self.__name__.partition(".")[2], name))
        if base is not None:
            return getattr(import_module(base[0]), base[1])
        homes: tuple[str, ...] = (origin, "likewise")
        if name.startswith("__"):
            homes = (origin,) if name == "__all__" else ()
        for home in homes:
            module = import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return dir(import_module(str(self.__spec__.origin)))  # type: ignore[union-attr]


def _home(path: str) -> str | None:
    """The module that holds the names of one of the reference's (without the package's name); None for no such."""
    first, _, rest = path.partition(".")
    place = rest if first in TOPS else path
    place = HOMES.get(place, place)
    home = f"likewise.{place}".rstrip(".")
    if not place or _file_of(home).is_file():
        return home
    return MISSING_HOME if any(f"{file}.".startswith(f"{path}.") for file in MISSING) else None


def _file_of(home: str) -> Path:
    """The file of a module of this package, whether or not there is one."""
    place = PACKAGE.joinpath(*home.split(".")[1:])
    is_package = (place / "__init__.py").is_file()
    return place / "__init__.py" if is_package else place.with_suffix(".py")
