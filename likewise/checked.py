"""Arguments and packages, checked in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from numbers import Integral
from typing import Any


def positive(value: Any, name: str, fix: str = "", least: int = 1) -> int:
    """The value, if it is a whole number of at least 1, or `least`; `fix` is a sentence that says what else would do.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}, but is {value!r}. {fix}".rstrip()
        )
    return int(value)


def above_zero(value: Any, name: str, fix: str) -> None:
    """Refuse, by a ValueError, what is no number above 0; `fix` is a sentence that says which would do."""
    if isinstance(value, str | None) or not value > 0:
        raise ValueError(f"`{name}` must be a number above 0, but is {value!r}. {fix}")


def one_of(value: Any, choices: Iterable[Any], name: str, fix: str = "") -> None:
    """Refuse, by a ValueError, what is none of the choices."""
    if value not in (known := tuple(choices)):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(str, known))}, but is {value!r}. {fix}".rstrip()
        )


def having(value: Any, method: str, name: str, wanted: str) -> None:
    """Refuse, by a TypeError, an argument that lacks a method."""
    if isinstance(value, str) or not hasattr(value, method):  # texts have a method `encode`
        shown = repr(value) if isinstance(value, str | Integral | None) else f"a {type(value).__name__}"
        raise TypeError(f"`{name}` must be {wanted}, but is {shown}.")


def needed(package: str, why: str, extra: str) -> Any:
    """A package that not everybody has, imported.

    Args:
        package: Its name.
        why: Who needs it, as a sentence without its full stop.
        extra: The extra of this library that it comes with.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f'{why}. Install it: pip install "likewise[{extra}]".') from error
