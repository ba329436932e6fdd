"""TokenStore: the token ids of a data set's texts, each tokenised once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from likewise.engine import TokenSequences

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]


class TokenStore:
    """Token ids of C text columns of N rows, filled as rows are asked for and kept for the next epoch.

    Args:
        num_rows: N.
        num_columns: C.
    """

    def __init__(self, num_rows: int, num_columns: int) -> None:
        self._end = np.zeros(
            (num_columns, num_rows), np.int64
        )  # of each text's tokens in the buffer; 0: unknown
        self._length = np.zeros((num_columns, num_rows), np.int32)
        self._prompt_length: IntArray | None = None
        self._ids: IntArray = np.empty(2**16, np.int32)
        self._types: IntArray | None = None
        self._filled = 1  # so that no end is 0

    def missing(self, rows: IntArray) -> IntArray:
        """Those of the rows that are not in the store, each once."""
        return np.unique(rows[self._end[0, rows] == 0])

    def add(self, rows: IntArray, sequences: TokenSequences) -> None:
        """Keep the C * len(rows) sequences of these rows, column by column."""
        added = len(sequences.input_ids)
        while self._filled + added > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._filled : self._filled + added] = sequences.input_ids
        if sequences.token_type_ids is not None or self._types is not None:
            types = np.zeros_like(self._ids) if self._types is None else self._types
            self._types = np.concatenate([types, np.zeros(len(self._ids) - len(types), np.int32)])
            if sequences.token_type_ids is not None:
                self._types[self._filled : self._filled + added] = sequences.token_type_ids
        shape = (len(self._end), len(rows))
        self._end[:, rows] = (self._filled + sequences.offsets[1:]).reshape(shape)
        self._length[:, rows] = sequences.lengths.reshape(shape)
        if sequences.prompt_lengths is not None:
            if self._prompt_length is None:
                self._prompt_length = np.zeros_like(self._length)
            self._prompt_length[:, rows] = sequences.prompt_lengths.reshape(shape)
        self._filled += added

    def get(self, rows: IntArray) -> TokenSequences:
        """The C * len(rows) sequences of these rows, column by column."""
        lengths = self._length[:, rows].ravel()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        starts = self._end[:, rows].ravel() - lengths
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return TokenSequences(
            self._ids[source],
            offsets,
            None if self._types is None else self._types[source],
            None if self._prompt_length is None else self._prompt_length[:, rows].ravel().astype(np.int64),
        )


def save_tokens(store: TokenStore, path: Path) -> None:
    """Write a store to a file, which appears only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"end": store._end, "length": store._length, "ids": store._ids[: store._filled]}
    if store._types is not None:
        arrays["types"] = store._types[: store._filled]
    if store._prompt_length is not None:
        arrays["prompt_length"] = store._prompt_length
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    aside.replace(path)


def load_tokens(path: Path) -> TokenStore:
    """Read what `save_tokens` wrote."""
    with np.load(path) as arrays:
        columns, rows = arrays["end"].shape
        store = TokenStore(rows, columns)
        store._end, store._length, store._ids = arrays["end"], arrays["length"], arrays["ids"]
        store._types = arrays.get("types")
        store._prompt_length = arrays.get("prompt_length")
        store._filled = len(store._ids)
    return store
