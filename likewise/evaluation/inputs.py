"""Checks of what evaluators are given, before anything is embedded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from numbers import Number
from typing import Any

import numpy as np

from likewise.checked import having, is_number, number, positive
from likewise.evaluation.measurement import Array
from likewise.similarity import OF_WHOLE_TEXTS, SimilarityFunction

FUNCTION_NAMES = OF_WHOLE_TEXTS


def checked_texts(**columns: Iterable[Any]) -> list[list[Any]]:
    """The columns as lists: of one length, not empty, without None or numbers among the texts."""
    lists = {name: checked_column(name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise ValueError(
            f"The columns must have equally many rows, but {described}. Pass one row per example in each."
        )
    if not all(lengths.values()):
        raise ValueError(f"`{next(iter(lengths))}` is empty. Pass at least one row to evaluate on.")
    return list(lists.values())


def checked_column(name: str, values: Iterable[Any]) -> list[Any]:
    """The values as a list; a TypeError where they are one text, or one of them can be none."""
    if isinstance(values, str | bytes):
        raise TypeError(
            f"`{name}` must be a list of texts, but is the single text {values!r}. Write [{values!r}]."
        )
    column = list(values)
    for row, value in enumerate(column):
        check_text(value, f"row {row} of `{name}`")
    return column


def check_text(value: Any, where: str) -> None:
    """Raise unless the value can be a text (or another input that a model may take, such as an image)."""
    if value is None or isinstance(value, Number):
        raise TypeError(
            f"{where[0].upper()}{where[1:]} must be a text, but is {value!r}. Drop or fill that row."
        )


def check_sizes(**sizes: int | Iterable[int]) -> None:
    """Refuse ranks, and sizes of chunks, that are no whole numbers of at least 1."""
    for name, values in sizes.items():
        for value in values if isinstance(values, Iterable) else (values,):
            positive(value, name)


def checked_numbers(name: str, values: Iterable[Any], length: int) -> Array:
    """The values as (N,) float64: finite, one for each row."""
    column = list(values)
    if len(column) != length:
        raise ValueError(
            f"`{name}` must have one number for each of the {length} rows, but has {len(column)}."
        )
    numbers = np.empty(length, dtype=np.float64)
    for row, value in enumerate(column):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            message = f"Row {row} of `{name}` must be a number, but is {value!r}. Convert the column."
            raise TypeError(message) from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"Row {row} of `{name}` must be finite, but is {column[row]!r}. Drop that row.")
    return numbers


def checked_function(
    function: str | SimilarityFunction | None, known: Collection[str] = FUNCTION_NAMES
) -> SimilarityFunction | None:
    """A similarity function's name as a SimilarityFunction."""
    if function is None:
        return None
    checked_function_names([function.value if isinstance(function, SimilarityFunction) else function], known)
    return SimilarityFunction(function)


def checked_function_names(names: Sequence[str] | None, known: Collection[str] = FUNCTION_NAMES) -> list[str]:
    """The names, each of a known similarity function."""
    given = list(checked_column("similarity_fn_names", names or ()))
    for name in given:
        if name not in known:
            raise ValueError(f"There is no similarity function {name!r}. Choose from {', '.join(known)}.")
    return given


def function_names(
    names: Sequence[str] | None, main: SimilarityFunction | None, known: Collection[str] = FUNCTION_NAMES
) -> list[str]:
    """The similarity functions to use: those that are named, else the main one, else none yet (the model's)."""
    return checked_function_names(names, known) or ([] if main is None else [main.value])


def primary_of(template: str, names: Sequence[str], main: SimilarityFunction | None = None) -> str:
    """The primary metric: the main function's, else the largest of several functions', else the only function's."""
    return template.format(main.value if main is not None else names[0] if len(names) == 1 else "max")


def file_name(*parts: str | None) -> str:
    """The parts that are not empty, with underscores between them, and for slashes, as names on the Hub have them."""
    return "_".join(part for part in parts if part).replace("/", "_")


def checked_margin(margin: Any, known: Collection[str] = FUNCTION_NAMES) -> dict[str, float]:
    """A margin for every known similarity function, of one number, a dict of numbers by their names, or None."""
    if margin is None or is_number(margin):
        return dict.fromkeys(known, float(margin or 0))
    having(margin, "keys", "margin", "a number or a dict of numbers")
    for name in checked_function_names(list(margin), known):
        number(margin[name], f"margin[{name!r}]", "Drop it for 0.")
    return {name: margin.get(name, 0) for name in known}
