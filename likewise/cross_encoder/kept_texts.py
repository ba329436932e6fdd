"""KeptTexts: the token ids of texts that come again, each by itself, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from likewise.engine import TokenSequences
from likewise.engine.token_sequences import IntArray

MOST_BYTES = 2**28
BYTES_OF_A_TEXT = 200  # its key, and its places in a dict and two arrays


class KeptTexts:
    """Token ids of distinct texts, by a key of their characters; those that come when memory is full are not kept.

    For one user at a time.

    Args:
        most_bytes: How much memory it may take, about.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._forget(None)

    def _forget(self, way: Any) -> None:
        self._way = way
        self._number: dict[bytes, int] = {}
        self._ids: IntArray = np.empty(2**10, np.int32)
        self._starts: IntArray = np.empty(2**8, np.int64)
        self._lengths: IntArray = np.empty(2**8, np.int64)
        self._filled = 0

    def __len__(self) -> int:
        return len(self._number)

    @property
    def num_bytes(self) -> int:
        """How much memory it takes, about."""
        return 4 * self._filled + BYTES_OF_A_TEXT * len(self._number)

    def get(
        self, way: Any, texts: Sequence[str], encode: Callable[[list[str]], list[list[int]]]
    ) -> TokenSequences:
        """The token ids of each text, whole and without special tokens.

        Args:
            way: What they depend on, beside the texts; everything is forgotten when it is another object.
            texts: Distinct texts.
            encode: Texts -> a list of ids for each.
        """
        from xxhash import xxh3_128_digest

        if way is not self._way:
            self._forget(way)
        keys = [xxh3_128_digest(text.encode("utf8", "surrogatepass")) for text in texts]
        is_new = np.array([key not in self._number for key in keys], bool)
        known = self._kept([self._number[key] for key, new in zip(keys, is_new, strict=True) if not new])
        if not is_new.any():
            return known
        added = TokenSequences.from_lists(
            encode([text for text, new in zip(texts, is_new, strict=True) if new])
        )
        self._add([key for key, new in zip(keys, is_new, strict=True) if new], added)
        place = np.where(is_new, len(known) + np.cumsum(is_new) - 1, np.cumsum(~is_new) - 1)
        return TokenSequences.concatenate([known, added]).select(place)

    def _kept(self, numbers: Sequence[int]) -> TokenSequences:
        rows = np.array(numbers, np.int64)
        lengths = self._lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.arange(offsets[-1]) + np.repeat(self._starts[rows] - offsets[:-1], lengths)
        return TokenSequences(self._ids[source], offsets)

    def _add(self, keys: Sequence[bytes], sequences: TokenSequences) -> None:
        needed = 4 * len(sequences.input_ids) + BYTES_OF_A_TEXT * len(keys)
        if self.num_bytes + needed > self.most_bytes:
            return
        first, start = len(self._number), self._filled
        self._ids = _with_room(self._ids, start + len(sequences.input_ids))
        self._ids[start : start + len(sequences.input_ids)] = sequences.input_ids
        self._starts = _with_room(self._starts, first + len(keys))
        self._lengths = _with_room(self._lengths, first + len(keys))
        self._starts[first : first + len(keys)] = start + sequences.offsets[:-1]
        self._lengths[first : first + len(keys)] = sequences.lengths
        self._number.update(zip(keys, range(first, first + len(keys)), strict=True))
        self._filled += len(sequences.input_ids)


def _with_room(array: IntArray, size: int) -> IntArray:
    """The array, or a copy of it that is at least twice as long."""
    if size <= len(array):
        return array
    return np.concatenate([array, np.empty(max(size, 2 * len(array)) - len(array), array.dtype)])
