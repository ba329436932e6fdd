"""Methods of the reference's classes that nothing calls here: a subclass that overrides one is refused when it is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def refuse_uncalled(kind: type, uncalled: Mapping[str, Collection[str]], instead: str) -> None:
    """Refuse a class that overrides a method which is never called.

    Args:
        kind: A class that is being made.
        uncalled: Names of methods by the name of the class of this library that lacks them, or does not call them.
        instead: What to do instead, as a sentence.

    Raises:
        TypeError: It does.
    """
    if kind.__module__.startswith("likewise."):
        return
    for base in kind.__mro__[1:]:
        names = uncalled.get(base.__name__, ()) if base.__module__.startswith("likewise.") else ()
        if found := [name for name in names if name in vars(kind)]:
            raise TypeError(
                f"{kind.__name__} overrides `{found[0]}` of {base.__name__}, which is never called here. {instead}"
            )
