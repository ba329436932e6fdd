"""Arguments and packages, checked in the same words everywhere."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def positive(value: Any, name: str) -> int:
    """The value, if it is a whole number of at least 1.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, but is {value!r}.")
    return value


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
