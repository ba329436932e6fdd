"""Arguments and packages, checked in the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from numbers import Integral
from operator import index
from typing import Any


def positive(value: Any, name: str, advice: str = "", least: int = 1) -> int:
    """The value, if it is a whole number of at least 1, or `least`; `advice` is a sentence on what to pass instead.

    Raises:
        ValueError: It is not.
    """
    if (number := whole(value)) is None or number < least:
        message = f"`{name}` must be a whole number of at least {least}, but is {value!r}. {advice}"
        raise ValueError(message.rstrip())
    return number


def whole(value: Any) -> int | None:
    """A whole number (a tensor or array of one, too) as Python's; None for anything else, such as True."""
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


def positive_or_none(value: Any, name: str, advice: str = "") -> int | None:
    """The same of an argument that may be None, which stays None."""
    return None if value is None else positive(value, name, advice)


def above_zero(value: Any, name: str, advice: str) -> None:
    """Refuse, by a ValueError, what is no number above 0; `advice` is a sentence that says which would do."""
    if not is_number(value) or value <= 0:
        raise ValueError(f"`{name}` must be a number above 0, but is {value!r}. {advice}")


def above_zero_and_finite(value: Any, name: str, advice: str = "") -> None:
    """The same of a number that must not be infinite either."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, but is {value!r}. {advice}".rstrip())


def number(value: Any, name: str, advice: str = "") -> None:
    """Refuse, by a ValueError, what is no number; `advice` is a sentence that says which would do."""
    if not is_number(value):
        raise ValueError(f"`{name}` must be a number, but is {value!r}. {advice}".rstrip())


def is_number(value: Any) -> bool:
    """Whether something is a number, or a tensor or array of one, and not NaN."""
    try:
        return not isinstance(value, bool) and (bool(value <= 0) or bool(value > 0))
    except (TypeError, ValueError, RuntimeError):
        return False


def one_of(value: Any, name: str, choices: Iterable[Any], advice: str = "") -> None:
    """Refuse, by a ValueError, a value that is none of the choices; `advice` is a sentence on what to do instead."""
    choices = list(choices)
    if value not in choices:
        *others, last = map(repr, choices)
        known = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"`{name}` must be {known}, but is {value!r}. {advice}".rstrip())


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
