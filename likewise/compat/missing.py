"""Names of what is not here: they import, answer `isinstance`, and refuse when they are used.

Programs import them at their top, whether they use them or not.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from likewise.compat.names import MISSING


class NotHere(type):
    """The type of such names; an instance of it is a class without instances."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(refusal(cls.__name__))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(refusal(f"{cls.__name__}.{name}"))


def refusal(name: str) -> str:
    """Why it cannot be used, and what to do."""
    return (
        f"{name} is not part of Likewise yet. Use the package sentence-transformers for it, in a process without "
        "`likewise.compat.install()`."
    )


_made: dict[str, NotHere] = {}


def stand_in(name: str, module: str = "likewise") -> NotHere:
    """The class that stands for a name; always the same one."""
    if name not in _made:
        doc = f"{name}, which is not here. {refusal(name)}"
        _made[name] = NotHere(name, (), {"__module__": module, "__doc__": doc})
    return _made[name]


class MissingModule(ModuleType):
    """One of the reference's files whose family is not here."""

    def __getattr__(self, name: str) -> Any:
        if name in self._names():
            return stand_in(name, self.__name__)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self._names()})

    def _names(self) -> set[str]:
        """Those of the file, and of the files below it."""
        path = self.__name__.partition(".")[2]
        within = (names for file, names in MISSING.items() if f"{file}.".startswith(f"{path}."))
        return {name for names in within for name in names}
