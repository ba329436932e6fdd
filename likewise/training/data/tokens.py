"""TokenStore: the token ids of a data set's texts, each tokenised once; in memory for a run, or in a folder for many."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from likewise.engine import TokenSequences

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
Piece = tuple[IntArray, TokenSequences]
"""Some rows' numbers, and their sequences, column by column."""

MOST_TOKENS = 2**28  # in memory, of 4 bytes each; folders have no limit
IDS_FILE, TYPES_FILE, INDEX_FILE = "ids.bin", "types.bin", "index.npz"


class TokenStore:
    """Token ids of C text columns of N rows, filled as rows are asked for and kept for the next epoch.

    Args:
        num_rows: N.
        num_columns: C.
    """

    def __init__(self, num_rows: int, num_columns: int) -> None:
        # Where each text's tokens end in the buffer; 0 for texts that are not there, so that the buffer begins with a gap.
        self._end = np.zeros((num_columns, num_rows), np.int64)
        self._length = np.zeros((num_columns, num_rows), np.int32)
        self._prompt_length: IntArray | None = None
        self._ids: IntArray = np.empty(2**16, np.int32)
        self._types: IntArray | None = None
        self._filled = 1

    @property
    def is_full(self) -> bool:
        """Whether no further rows should be added."""
        return self._filled >= MOST_TOKENS

    def missing(self, rows: IntArray) -> IntArray:
        """Those of the rows that are not in the store, each once."""
        return np.unique(rows[self._end[0, rows] == 0])

    def add(self, rows: IntArray, sequences: TokenSequences) -> None:
        """Keep the C * len(rows) sequences of these rows, column by column."""
        start, added = self._filled, len(sequences.input_ids)
        while start + added > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[start : start + added] = sequences.input_ids
        if sequences.token_type_ids is not None or self._types is not None:
            types = np.zeros_like(self._ids) if self._types is None else self._types
            self._types = np.concatenate([types, np.zeros(len(self._ids) - len(types), np.int32)])
            if sequences.token_type_ids is not None:
                self._types[start : start + added] = sequences.token_type_ids
        self._enter(rows, sequences)

    def _enter(self, rows: IntArray, sequences: TokenSequences) -> None:
        """Note where these sequences are, which are the next in the buffer."""
        shape = (len(self._end), len(rows))
        self._end[:, rows] = (self._filled + sequences.offsets[1:]).reshape(shape)
        self._length[:, rows] = sequences.lengths.reshape(shape)
        if sequences.prompt_lengths is not None:
            if self._prompt_length is None:
                self._prompt_length = np.zeros_like(self._length)
            self._prompt_length[:, rows] = sequences.prompt_lengths.reshape(shape)
        self._filled += len(sequences.input_ids)

    def get(self, rows: IntArray) -> TokenSequences:
        """The C * len(rows) sequences of these rows, column by column."""
        lengths = self._length[:, rows].ravel()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        starts = self._end[:, rows].ravel() - lengths
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return TokenSequences(
            self._ids[source],
            offsets,
            None if self._types is None else self._types[source].astype(np.int32, copy=False),
            None if self._prompt_length is None else self._prompt_length[:, rows].ravel().astype(np.int64),
        )


def save_tokens(folder: Path, num_rows: int, num_columns: int, pieces: Iterable[Piece]) -> None:
    """Write a store to a folder, which appears only when it is complete; a piece at a time is held in memory.

    Args:
        folder: The folder; where another process was faster, its work stays.
        num_rows: N.
        num_columns: C.
        pieces: All rows.
    """
    store, has_types = TokenStore(num_rows, num_columns), False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
        aside = Path(temporary) / folder.name
        aside.mkdir()
        with (aside / IDS_FILE).open("wb") as ids, (aside / TYPES_FILE).open("wb") as types:
            ids.write(np.zeros(1, np.int32).tobytes())
            types.write(np.zeros(1, np.int8).tobytes())
            for rows, sequences in pieces:
                ids.write(sequences.input_ids.astype(np.int32).tobytes())
                has_types |= sequences.token_type_ids is not None
                kinds = sequences.token_type_ids
                kinds = np.zeros(len(sequences.input_ids), np.int8) if kinds is None else kinds
                types.write(kinds.astype(np.int8).tobytes())
                store._enter(rows, sequences)
        arrays = {"end": store._end, "length": store._length, "has_types": np.array(has_types)}
        if store._prompt_length is not None:
            arrays["prompt_length"] = store._prompt_length
        np.savez(aside / INDEX_FILE, **arrays)  # type: ignore[arg-type]
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():
                raise


def load_tokens(folder: Path) -> TokenStore:
    """Open what `save_tokens` wrote: token ids stay in the file, in memory that all processes share."""
    with np.load(folder / INDEX_FILE) as arrays:
        columns, rows = arrays["end"].shape
        store = TokenStore(rows, columns)
        store._end, store._length = arrays["end"], arrays["length"]
        store._prompt_length = arrays.get("prompt_length")
        has_types = bool(arrays["has_types"])
    store._ids = np.asarray(np.memmap(folder / IDS_FILE, np.int32, "r"))
    store._types = np.asarray(np.memmap(folder / TYPES_FILE, np.int8, "r")) if has_types else None
    store._filled = len(store._ids)
    return store
