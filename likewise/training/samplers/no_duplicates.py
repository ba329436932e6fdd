"""NoDuplicatesBatchSampler: no two rows of a batch share a text.

Each value is turned into a 64-bit id once, and rows are compared by those. An epoch is dealt like a deck of cards:
the rows are shuffled so that rows which share a value lie next to each other, and handed out one by one to the K
batches in turn. Up to K rows with the same value so end up in K different batches, at no more cost than a shuffle.
What clashes still (rows are neighbours by one value only, and may share others with rows elsewhere) is mended by
swapping rows between batches; about as many rows as fit in one batch need it, however large the data set is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from likewise.processes import get_world_size
from likewise.training.data.columns import column_names, value_ids
from likewise.training.samplers.default import DefaultBatchSampler

if TYPE_CHECKING:
    from datasets import Dataset

    IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]

logger = logging.getLogger(__name__)

SWAP_TRIES = 500  # random places that a row may change with, before it sits out the epoch


class NoDuplicatesBatchSampler(DefaultBatchSampler):
    """Rows at random, but no two rows of a batch share a value in any column, the label left aside.

    `len` is exact and the same in every epoch. Where a value stands in more rows than there are batches, there are as
    many batches as such rows, all of them smaller; with `drop_last` the rows too many sit out the epoch instead.
    Under several processes the batches that are used at the same time share no value either.

    Args:
        dataset: As for DefaultBatchSampler, as are the next five.
        precompute_hashes: Has no say: values are hashed once, ahead of the first batch, whatever it is.
        precompute_num_proc: Has no effect, and is warned about: hashing takes one process.
        precompute_batch_size: Has no effect, and is warned about.
        fold: Whether texts that differ only in case and white space count as equal.
        num_processes: How many batches are used at the same time; None for the number of processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Any = None,
        generator: torch.Generator | None = None,
        seed: int | None = 0,
        precompute_hashes: bool = False,
        precompute_num_proc: int | None = None,
        precompute_batch_size: int | None = None,
        *,
        fold: bool = False,
        num_processes: int | None = None,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        if precompute_num_proc is not None or precompute_batch_size is not None:
            logger.warning(
                "`precompute_num_proc` and `precompute_batch_size` have no effect: the columns are hashed whole, in this process."
            )
        self.fold = fold
        self.num_processes = get_world_size() if num_processes is None else num_processes

    @cached_property
    def _codes(self) -> IntArray:
        """(rows, columns): a number from 0 for each value that several rows have; -1 for other values."""
        assert not isinstance(self.dataset, torch.utils.data.Sampler)
        skipped = {*(self.valid_label_columns or ()), "dataset_name"}
        columns = [name for name in column_names(self.dataset) if name not in skipped]
        return _codes_of_repeats(value_ids(self.dataset, columns, self.fold))

    @cached_property
    def _counts(self) -> IntArray:
        """How many rows have each value that several have."""
        return np.bincount(self._codes[self._codes >= 0])

    @cached_property
    def _heaviest(self) -> IntArray:
        """(rows,): each row's most frequent value, or -1 where the row has no value that another row has."""
        if not self._codes.shape[1] or not len(self._counts):
            return np.full(len(self._codes), -1)
        counts = np.where(self._codes >= 0, self._counts[self._codes], 0)
        return np.take_along_axis(self._codes, counts.argmax(axis=1)[:, None], axis=1)[:, 0]

    @cached_property
    def _num_steps(self) -> int:
        """K: how often all processes take a batch."""
        rows, size = len(self._codes), self.batch_size * self.num_processes
        most = int(self._counts.max(initial=1))
        if not self.drop_last:
            return max(-(-rows // size), most) if rows else 0
        sizes = np.bincount(self._heaviest[self._heaviest >= 0])
        unique = rows - int(sizes.sum())
        steps = rows // size
        while steps and unique + int(np.minimum(sizes, steps).sum()) < steps * size:
            steps = (unique + int(np.minimum(sizes, steps).sum())) // size
        return steps

    @cached_property
    def _step_sizes(self) -> IntArray:
        """(K,): rows of each step; all full but the last, or, where values repeat too often, all about the same."""
        steps, size = self._num_steps, self.batch_size * self.num_processes
        rows = steps * size if self.drop_last else len(self._codes)
        if rows > (steps - 1) * size:
            return np.minimum(size, rows - size * np.arange(steps))
        return (rows + np.arange(steps)[::-1]) // steps

    def __len__(self) -> int:
        return int((-(-self._step_sizes // self.batch_size)).sum())

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        table = self._deal(self._deck())
        left_out = self._mend(table)
        if left_out:
            logger.warning(
                "%d rows are left out of epoch %d: each shares a value with a row of every batch that has room. "
                "A smaller batch size makes room for them.",
                left_out, self.epoch,
            )  # fmt: skip
        order = torch.randperm(len(table), generator=self.generator).tolist()
        order.sort(key=lambda step: -self._step_sizes[step])  # batches with fewer rows come last
        for step in order:
            for start in range(0, self._step_sizes[step], self.batch_size):
                rows = table[step, start : start + self.batch_size]
                yield rows[rows >= 0].tolist()

    def _deck(self) -> IntArray:
        """The rows, shuffled, those with the same most frequent value next to each other."""
        rows, heaviest = len(self._codes), self._heaviest
        keys = torch.randint(2**62, (rows,), generator=self.generator).numpy()
        shared = np.flatnonzero(heaviest >= 0)
        keys_of_values = torch.randint(2**62, (len(self._counts),), generator=self.generator).numpy()
        shuffled = torch.randperm(rows, generator=self.generator).numpy()
        keys[shared] = keys_of_values[heaviest[shared]]
        deck: IntArray = shuffled[_argsort(keys[shuffled])]
        if self.drop_last:
            deck = deck[self._places_among_equals(deck) < self._num_steps]
            deck = deck[: self._num_steps * self.batch_size * self.num_processes]
        return deck

    def _places_among_equals(self, deck: IntArray) -> IntArray:
        """For each card, how many cards with the same most frequent value lie right before it."""
        values = self._heaviest[deck]
        place = np.arange(len(deck))
        is_first = np.append(True, (values[1:] != values[:-1]) | (values[1:] < 0))[: len(deck)]
        return place - np.maximum.accumulate(np.where(is_first, place, 0))

    def _deal(self, deck: IntArray) -> IntArray:
        """(K, rows of the largest step): the deck dealt out, -1 for places without a row."""
        sizes = self._step_sizes
        table = np.full((len(sizes), int(sizes.max(initial=0))), -1)
        if table.size:
            # Place by place, to all steps that have such a place (sizes fall, so those are the first ones).
            has_place = np.arange(table.shape[1])[:, None] < sizes
            table.T[has_place] = deck
        return table

    def _mend(self, table: IntArray) -> int:
        """Swap rows between steps until no step has a value twice; returns how many rows had to be taken out."""
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=self.generator)))
        left_out = 0
        for step, place in self._clashes(table):
            for _ in range(SWAP_TRIES):
                other, there = int(random.integers(len(table))), int(random.integers(table.shape[1]))
                mine, theirs = table[step, place], table[other, there]
                fits = theirs >= 0 and self._fits(table, mine, other, there)
                if fits and self._fits(table, theirs, step, place):
                    table[step, place], table[other, there] = theirs, mine
                    break
            else:
                table[step, place] = -1
                left_out += 1
        return left_out

    def _clashes(self, table: IntArray) -> list[tuple[int, int]]:
        """The places of rows that share a value with an earlier row of their step."""
        codes = np.where((table >= 0)[:, :, None], self._codes[table], -1)  # (steps, places, columns)
        step, place, column = np.nonzero(codes >= 0)
        keys = step * len(self._counts) + codes[step, place, column]
        order = _argsort(keys)
        again = order[1:][keys[order[1:]] == keys[order[:-1]]]
        return sorted(set(zip(step[again].tolist(), place[again].tolist(), strict=True)))

    def _fits(self, table: IntArray, row: int, step: int, place: int) -> bool:
        """Whether a row shares no value with a step's rows, the one at `place` left aside."""
        others = np.delete(table[step], place)
        values = self._codes[row]
        return not np.isin(self._codes[others[others >= 0]], values[values >= 0]).any()


def _codes_of_repeats(ids: IntArray) -> IntArray:
    """Ids (rows, columns) -> numbers from 0 for the values of several rows, -1 for others (and repeats in a row)."""
    codes: IntArray = np.full(ids.shape, -1, np.int32 if ids.size < 2**31 else np.int64)
    values, order = (found.numpy() for found in torch.sort(torch.from_numpy(ids.ravel()), stable=True))
    same = np.concatenate([[False], values[1:] == values[:-1], [False]])[: len(values) + 1]
    del values  # as large as the ids
    repeats = same[1:] | same[:-1]
    cells, first = order[repeats], ~same[:-1][repeats]
    rows, run = cells // max(ids.shape[1], 1), np.cumsum(first) - 1
    # Within a run of equal values the sort is stable, so the cells of one row follow each other.
    first_of_row = first | np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    counts = np.bincount(run[first_of_row])
    number = np.cumsum(counts > 1) - 1
    shared = first_of_row & (counts[run] > 1)
    codes.ravel()[cells[shared]] = number[run[shared]]
    return codes


def _argsort(values: IntArray) -> IntArray:
    """A stable argsort; torch's is much faster than numpy's on millions of numbers."""
    order: IntArray = torch.sort(torch.from_numpy(np.ascontiguousarray(values)), stable=True).indices.numpy()
    return order
