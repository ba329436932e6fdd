"""Under the alias, public classes are called what the reference calls them.

Programs choose by it: `"sentence_transformers" in str(type(model))`. A class is renamed when the file that has it is
loaded, so that nothing is imported for it. An object that is pickled still says where its class lives
here, and so loads with the alias and without. A class that is pickled by itself (`pickle.dumps(SentenceTransformer)`), or
as part of something else, is named as the reference has it, and loads only under the alias or beside the reference.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

from likewise.compat.names import reference_path
from likewise.compat.paths import PassedOn

PACKAGE = "likewise"


class Place(NamedTuple):
    """Where a class lives in this package."""

    module: str
    name: str


def name_as_the_reference_does() -> None:
    """Rename the public classes of the files that are loaded, and of others when they are."""
    if any(isinstance(finder, _Renames) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Renames())
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PACKAGE}.") and module is not None and module.__name__ == name:
            _import_all(rename_classes(module))


class _Renames:
    """Finds this package's files as Python does, to be renamed once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual specification, with a loader that renames."""
        if not name.startswith(f"{PACKAGE}."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _RenamingLoader(spec.loader.name, spec.loader.path)
        return spec


class _Loading(threading.local):
    """How deep this thread is in files that import files, and the classes' paths that wait for the outermost one."""

    depth = 0
    paths: Mapping[str, ModuleType] = {}


_loading = _Loading()


class _RenamingLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        _loading.depth += 1
        try:
            super().exec_module(module)
            _loading.paths = {**_loading.paths, **rename_classes(module)}
        finally:
            _loading.depth -= 1
        if not _loading.depth:
            waiting, _loading.paths = _loading.paths, {}
            _import_all(waiting)


def _import_all(paths: Mapping[str, ModuleType]) -> None:
    """Have the modules of renamed classes loaded: `inspect` asks them for a class's file, `typing` for names in annotations."""
    for path, file in paths.items():
        module = import_module(path)
        if isinstance(module, PassedOn):
            module.__file__ = file.__file__
            for name, value in vars(file).items():
                vars(module).setdefault(name, value)


def rename_classes(module: ModuleType) -> dict[str, ModuleType]:
    """Give a file's public classes the reference's path as their `__module__`; returns these paths, with the file."""
    paths = {}
    for value in list(vars(module).values()):
        path = isinstance(value, type) and value.__module__ == module.__name__ and _path_of(value)
        if path:
            value.__reduce_ex__ = _reduce_to(
                Place(module.__name__, value.__qualname__), value, value.__reduce_ex__
            )  # type: ignore[method-assign]
            value.__module__ = path
            paths[path] = module
    return paths


def _path_of(kind: type) -> str | None:
    path = reference_path(kind.__name__, kind.__module__)
    return None if path is None else f"sentence_transformers.{path}"


def _reduce_to(place: Place, renamed: type, usual: Callable[..., Any]) -> Callable[..., Any]:
    """A `__reduce_ex__` that names the class by its place here; a subclass is named as it is anyway."""

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        reduced = usual(self, protocol)
        if type(self) is not renamed or not isinstance(reduced, tuple):
            return reduced
        make, arguments, *state = reduced
        made_by = place if make is renamed else make
        return rebuild, (made_by, *(place if value is renamed else value for value in arguments)), *state

    return __reduce_ex__


def rebuild(make: Any, *arguments: Any) -> Any:
    """What `copyreg` or a class makes of these arguments, with each place in place of its class."""
    function, *values = (
        _class_at(value) if isinstance(value, Place) else value for value in (make, *arguments)
    )
    return function(*values)


def _class_at(place: Place) -> Any:
    return getattr(import_module(place.module), place.name)
