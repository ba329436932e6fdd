"""TokenSequences: the token ids of many texts in one array, before they are put into batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch

from likewise.engine.token_batch import TokenBatch

IntArray: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class TokenSequences:
    """N sequences of token ids laid end to end, in the caller's order.

    Attributes:
        input_ids: (T,) int32, the tokens of all sequences.
        offsets: (N + 1,) int64; sequence i is `input_ids[offsets[i]:offsets[i + 1]]`.
        token_type_ids: (T,) int32, 0 and 1 for the two texts of a pair; None where every token is of type 0.
        prompt_lengths: (N,) int64, the number of leading tokens that pooling leaves out; None where none are.
    """

    input_ids: IntArray
    offsets: IntArray
    token_type_ids: IntArray | None = None
    prompt_lengths: IntArray | None = None

    @classmethod
    def from_lists(
        cls, input_ids: Sequence[Sequence[int]], token_type_ids: Sequence[Sequence[int]] | None = None
    ) -> TokenSequences:
        """From one list of ids per sequence, as tokenizers return them."""
        lengths = np.fromiter(map(len, input_ids), np.int64, len(input_ids))
        total = int(lengths.sum())
        return cls(
            _flat(input_ids, total),
            np.concatenate([[0], np.cumsum(lengths)]),
            None if token_type_ids is None else _flat(token_type_ids, total),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[TokenSequences]) -> TokenSequences:
        """The sequences of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            np.concatenate([part.input_ids for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]),
            _join([part.token_type_ids for part in parts], [len(part.input_ids) for part in parts]),
            _join([part.prompt_lengths for part in parts], [len(part) for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """(N,) tokens in each sequence."""
        return np.diff(self.offsets)

    def select(self, rows: IntArray) -> TokenSequences:
        """The sequences with these numbers, in this order; `rows` (n,) lie in [0, N)."""
        if len(rows) == len(self) == 1:  # a query: ten calls to numpy take as long as it is read
            return self
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        # Where each wanted token lies now: its sequence's start, plus its place within the sequence.
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return TokenSequences(
            self.input_ids[source],
            offsets,
            None if self.token_type_ids is None else self.token_type_ids[source],
            None if self.prompt_lengths is None else self.prompt_lengths[rows],
        )

    def pack(self) -> TokenBatch:
        """One TokenBatch of all the sequences, laid out by length."""
        order = np.argsort(self.lengths, kind="stable")  # caller's numbers in packed order
        laid = self.select(order)
        return TokenBatch(
            input_ids=torch.from_numpy(laid.input_ids.astype(np.int64)),
            lengths=torch.from_numpy(laid.lengths.astype(np.int64)),
            place=torch.from_numpy(np.argsort(order)),  # the inverse
            token_type_ids=_tensor(laid.token_type_ids),
            prompt_lengths=_tensor(laid.prompt_lengths),
        )


def _flat(lists: Iterable[Sequence[int]], total: int) -> IntArray:
    return np.fromiter(chain.from_iterable(lists), np.int32, total)


def _join(parts: Sequence[IntArray | None], sizes: Sequence[int]) -> IntArray | None:
    """The parts end to end, with zeros for those that are None; None when all are."""
    if all(part is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(size, np.int64) if part is None else part for part, size in zip(parts, sizes, strict=True)]
    )


def _tensor(array: IntArray | None) -> torch.Tensor | None:
    return None if array is None else torch.from_numpy(array.astype(np.int64))
