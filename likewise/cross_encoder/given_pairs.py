"""What `predict` takes: a pair, many pairs, or pairs of ids of texts that are given once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast, overload

import numpy as np

Pair: TypeAlias = str | tuple[str, str] | list[str]
TextsById: TypeAlias = Mapping[Any, str] | Sequence[str]
"""Texts by their ids; of a list, by their places."""


def as_pairs(inputs: Any) -> tuple[Sequence[Any], bool]:
    """The inputs as a list of pairs, and whether there was just one.

    Raises:
        TypeError: They are neither a pair nor pairs.
    """
    if inputs is None:
        raise TypeError("predict() needs a pair of texts or a list of pairs, but got None.")
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.kind not in "UO":
            raise TypeError(f"predict() needs pairs of texts, but got an array of {inputs.dtype}.")
        single = inputs.ndim < 2 and inputs.size > 0
        return [inputs.tolist()] if single else inputs.tolist(), single
    if isinstance(inputs, Mapping) or not hasattr(inputs, "__iter__"):
        raise TypeError(
            f"predict() needs a pair of texts or a list of pairs, but got {type(inputs).__name__}: {inputs!r}."
        )
    if hasattr(inputs, "columns"):  # to iterate over a frame gives the names of its columns
        raise TypeError(
            f"predict() needs a list of pairs, but got a {type(inputs).__name__}. Pass its columns: `list(zip(queries, documents))`."
        )
    is_sequence = hasattr(inputs, "__getitem__")
    listed = inputs if isinstance(inputs, list) else list(inputs)
    if is_sequence and listed and isinstance(listed[0], str):
        return [listed], True
    return listed, False


class PairsById(Sequence[Any]):
    """Pairs of texts, each text held once: they are put together when they are looked at.

    Args:
        ids: (query id, document id) pairs.
        queries: The queries by id, or a list of them, whose places are the ids.
        documents: The documents, likewise.

    Raises:
        TypeError: Something is no pair of ids, or no texts by ids.
        ValueError: An id is unknown.
    """

    def __init__(self, ids: Iterable[Any], queries: TextsById, documents: TextsById) -> None:
        sources = (("queries", queries), ("documents", documents))
        for name, texts in sources:
            if isinstance(texts, str) or not isinstance(texts, Mapping | Sequence):
                raise TypeError(
                    f"`{name}` must be texts by id, a dict or a list, but is {texts!r:.60} ({type(texts).__name__})."
                )
        self.queries, self.documents = cast(Any, queries), cast(Any, documents)
        self.ids: list[Any] = list(ids)
        for row, pair in enumerate(self.ids):
            if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
                raise TypeError(
                    f"Pair {row} is {pair!r:.60}; with `queries` and `documents` expected a query id and a document id."
                )
            for (name, texts), key in zip(sources, pair, strict=True):
                known = key in texts if isinstance(texts, Mapping) else _is_place(key, len(texts))
                if not known:
                    raise ValueError(
                        f"Pair {row} is {tuple(pair)!r}, but `{name}` has no {key!r}. Add it there, or drop the pair."
                    )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> PairsById: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = PairsById((), self.queries, self.documents)
            part.ids = self.ids[index]
            return part
        query, document = self.ids[index]
        return self.queries[query], self.documents[document]


def _is_place(key: Any, length: int) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= int(key) < length


def pairs_of(
    inputs: Any, queries: TextsById | None = None, documents: TextsById | None = None
) -> tuple[Sequence[Any], bool]:
    """The pairs that `predict` was given, and whether there was just one.

    Raises:
        TypeError: They are neither a pair nor pairs, or only one side's texts are given by ids.
        ValueError: An id is unknown.
    """
    if queries is None and documents is None:
        return as_pairs(inputs)
    if queries is None or documents is None:
        raise TypeError(
            "Pass both `queries` and `documents`, whose ids the pairs name, or neither and pairs of texts."
        )
    if inputs is None or isinstance(inputs, str | Mapping) or not hasattr(inputs, "__iter__"):
        raise TypeError(
            f"predict() needs pairs of a query id and a document id, but got {type(inputs).__name__}: {inputs!r:.60}."
        )
    return PairsById(inputs, queries, documents), False


def check_pair(row: int, pair: Any) -> None:
    """Raise unless this is a text or a pair of texts.

    Raises:
        TypeError: It is neither a string nor a pair of strings.
        ValueError: It has more or less than two texts.
    """
    if isinstance(pair, str):
        return
    if not isinstance(pair, tuple | list | np.ndarray):
        raise TypeError(
            f"Pair {row} is {pair!r} ({type(pair).__name__}); expected two texts, such as (query, document)."
        )
    if len(pair) != 2:
        raise ValueError(
            f"Pair {row} has {len(pair)} texts, but a pair is two, such as (query, document): {pair!r}."
        )
    for text in pair:
        if not isinstance(text, str):
            raise TypeError(
                f"Pair {row} holds {text!r} ({type(text).__name__}); expected two texts. Convert or drop it first."
            )


def checked_pairs(inputs: Sequence[Any], prompt: str = "") -> list[str | tuple[str, str]]:
    """The pairs with a prompt in front of their first texts.

    Raises:
        TypeError: Something is neither a string nor a pair of strings.
        ValueError: A pair has more or less than two texts.
    """
    ready: list[str | tuple[str, str]] = []
    for row, pair in enumerate(inputs):
        check_pair(row, pair)
        ready.append(prompt + pair if isinstance(pair, str) else (prompt + pair[0], str(pair[1])))
    return ready
