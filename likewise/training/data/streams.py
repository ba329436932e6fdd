"""Streamed data sets: rows that come one after the other, read as batches with the samplers of other data sets.

A stream is cut into windows of some thousand rows. A window is a small data set, so that any batch sampler deals its
rows: shuffled, without duplicates, grouped by label. Rows that it leaves over go to the next window. Everything else
works with the numbers of rows, counted from the first row of the stream, so that streams mix with other data sets,
are shared by several processes, and are skipped to where a run stopped without tokenising a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from likewise.processes import get_world_size
from likewise.training.samplers.default import EpochBatchSampler

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

ENDLESS = 2**40  # stands for the number of rows of a stream whose length is not known
# What `datasets` puts around a stream without changing its number of rows.
SAME_LENGTH = {
    "BufferShuffledExamplesIterable", "MappedExamplesIterable", "SelectColumnsIterable", "FormattedExamplesIterable",
    "TypedExamplesIterable", "RebatchedArrowExamplesIterable", "InterleavedShardsExamplesIterable",
}  # fmt: skip


def is_stream(dataset: Any) -> bool:
    """Whether rows come one after the other."""
    from datasets import IterableDataset

    return isinstance(dataset, IterableDataset)


def known_length(dataset: IterableDataset) -> int | None:
    """How many rows a stream has, where its source tells; None where that is not known."""
    examples, most = dataset._ex_iterable, None
    while hasattr(examples, "ex_iterable"):
        kind = type(examples).__name__
        if kind == "TakeExamplesIterable":
            most = examples.n if most is None else min(most, examples.n)
        elif kind not in SAME_LENGTH or getattr(examples, "batched", False):
            return None
        examples = examples.ex_iterable
    shards = (getattr(examples, "kwargs", None) or {}).get("shards") or ()
    if shards and all(hasattr(one, "num_rows") for one in shards):  # made by `Dataset.to_iterable_dataset`
        length = sum(len(shard) for shard in shards)
    else:
        splits, split = dataset.info.splits or {}, str(dataset.split or "")
        length = splits[split].num_examples if split in splits else 0
    if not length:
        return None
    return length if most is None else min(length, most)


@dataclass(eq=False)
class StreamRows:
    """The rows of a stream by their number, each to be read once, a little after it came."""

    dataset: IterableDataset
    num_rows: int | None  # None where that is not known

    def __post_init__(self) -> None:
        self._window: dict[int, dict[str, Any]] = {}
        self._before: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return ENDLESS if self.num_rows is None else self.num_rows

    def keep(self, rows: dict[int, dict[str, Any]]) -> None:
        """Hold the rows of a new window, and of the one before it."""
        self._before, self._window = self._window, rows

    def __getitem__(self, numbers: Sequence[int]) -> dict[str, list[Any]]:
        rows = [self._window[n] if n in self._window else self._before[n] for n in numbers]
        return {column: [row[column] for row in rows] for column in rows[0]}


class StreamBatchSampler(EpochBatchSampler):
    """Batches of a stream's rows.

    Args:
        rows: The stream.
        make_sampler: Makes the batch sampler of a window from a data set, and whether to leave out a smaller batch.
        batch_size: Rows in a batch.
        drop_last: Whether a last batch with fewer rows is left out.
        window: Rows of a window; 1 keeps their order.
        seed: Seeds the windows' shuffling, together with the epoch and the window's number.
        endless: Whether the stream starts over at its end; None for where its length is not known.
    """

    def __init__(
        self,
        rows: StreamRows,
        make_sampler: Callable[[Dataset, bool, torch.Generator], Any],
        batch_size: int,
        drop_last: bool,
        window: int,
        seed: int = 0,
        endless: bool | None = None,
    ) -> None:
        super().__init__(rows, batch_size, drop_last, None, seed)
        self.rows = rows
        self.make_sampler = make_sampler
        self.num_processes = get_world_size()  # each window gives as many batches to all of them
        # A batch for each process must come of a window, or none does; rows that wait for the next one take room, too.
        self.window = max(window, 2 * self.num_processes * batch_size)
        self.keeps_order = window == 1
        self.endless = rows.num_rows is None if endless is None else endless

    def __len__(self) -> int:
        if self.rows.num_rows is None:
            raise TypeError("The length of this stream is not known.")
        full, rest = divmod(self.rows.num_rows, self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        number = passes = 0
        while True:
            self.rows.dataset.set_epoch(self.epoch + passes)
            start = number
            for batch, read in self._one_pass(start, passes):
                number = read
                yield batch
            passes += 1
            if not self.endless:
                return
            if number == start:
                raise ValueError(
                    "A streamed data set gave no batch. It has fewer rows than a batch, or none."
                )

    def _one_pass(self, first: int, passes: int) -> Iterator[tuple[list[int], int]]:
        """The batches of all rows, counted from `first`, each with the number after the last row that was read."""
        waiting: dict[int, dict[str, Any]] = {}
        source = iter(self.rows.dataset)
        number, at_end, windows = first, False, 0
        while not at_end:
            room = self.window - len(waiting)
            rows = list(islice(source, room))
            at_end = len(rows) < room
            waiting.update(enumerate(rows, number))
            number += len(rows)
            self.rows.keep(dict(waiting))
            # Python hashes numbers, unlike texts, alike in every process.
            self.generator.manual_seed(hash((self.seed, self.epoch, passes, windows)) % 2**63)
            windows += 1
            batches = list(self._deal(waiting, not at_end or self.drop_last))
            if not at_end:
                del batches[len(batches) - len(batches) % self.num_processes :]
            for batch in batches:
                yield batch, number
                for row_number in batch:
                    del waiting[row_number]
            if len(waiting) >= self.window:
                raise ValueError(
                    f"No batch of {self.batch_size} can be made of {len(waiting):,} rows of a streamed data set: too many "
                    "share a value. Take a smaller batch, or a larger `shuffle_buffer_size`."
                )

    def _deal(self, waiting: dict[int, dict[str, Any]], drop_last: bool) -> Iterator[list[int]]:
        from datasets import Dataset

        numbers = list(waiting)
        if self.keeps_order:
            last = len(numbers) - len(numbers) % self.batch_size if drop_last else len(numbers)
            yield from (numbers[i : min(i + self.batch_size, last)] for i in range(0, last, self.batch_size))
        elif len(numbers) >= self.batch_size or not drop_last:
            dealt = self.make_sampler(Dataset.from_list(list(waiting.values())), drop_last, self.generator)
            for batch in dealt:
                yield [numbers[place] for place in batch]
