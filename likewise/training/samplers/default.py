"""Batch samplers: which rows make up a batch.

All draw from a generator that is seeded with seed + epoch at the start of an epoch, so that every epoch has its own
order, and the same one in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from likewise.training.data.columns import arrow_chunks, label_column

if TYPE_CHECKING:
    from datasets import Dataset

    IntArray = np.ndarray[Any, np.dtype[np.int64]]


class EpochBatchSampler(BatchSampler):
    """What samplers have in common whose batches are others in every epoch: a generator, and what seeds it."""

    def __init__(
        self, rows: Any, batch_size: int, drop_last: bool, generator: torch.Generator | None, seed: int | None
    ) -> None:
        super().__init__(rows, batch_size, drop_last)
        self.generator = torch.Generator() if generator is None else generator
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def reseed(self) -> None:
        """Seed the generator for this epoch."""
        if self.seed is not None:
            self.generator.manual_seed(self.seed + self.epoch)


class DefaultBatchSampler(EpochBatchSampler):
    """Rows at random, cut into batches.

    Subclass it and override `__iter__` and `__len__` for a sampler of your own.

    Args:
        dataset: The data set; or a torch Sampler of row numbers, whose order is kept.
        batch_size: Rows in a batch.
        drop_last: Whether a last batch with fewer rows is left out.
        valid_label_columns: Names that a label column may have.
        generator: Where random numbers come from; None for one of its own.
        seed: Seeds the generator, together with the epoch; None leaves it as it is.
    """

    def __init__(
        self,
        dataset: Dataset | Sampler[int],
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, generator, seed)
        self.dataset = dataset
        self.valid_label_columns = valid_label_columns

    def __iter__(self) -> Iterator[list[int]]:
        if isinstance(self.dataset, Sampler):
            yield from super().__iter__()
            return
        self.reseed()
        number = len(self.dataset)
        kind = torch.int32 if number < 2**31 else torch.int64  # half the memory, and the same order
        rows = torch.randperm(number, generator=self.generator, dtype=kind)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield rows[start : start + self.batch_size].tolist()


class GroupByLabelBatchSampler(DefaultBatchSampler):
    """Batches with at least two rows of each of at least two labels.

    The labels, in random order, hand out two rows each, over and over, until fewer than two labels have any left.
    Labels of one row only are left out. Arguments as for DefaultBatchSampler; the batch size must be even, at least 4.
    """

    def __init__(self, dataset: Dataset, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        if self.batch_size < 4 or self.batch_size % 2:
            raise ValueError(
                f"Grouping by label needs an even batch size of at least 4, but got {self.batch_size}. Set "
                "`per_device_train_batch_size` to 4, 6 or more."
            )
        labels = self._labels(dataset)
        _, counts = np.unique(labels, return_counts=True)
        order = np.argsort(labels, kind="stable")
        order = order.astype(np.int32) if len(order) < 2**31 else order
        by_label = np.split(order, np.cumsum(counts)[:-1])
        self.groups: list[IntArray] = [rows for rows in by_label if len(rows) >= 2]
        if len(self.groups) < 2:
            raise ValueError(
                f"Grouping by label needs two labels with two rows each, but {len(self.groups)} of the "
                f"{len(counts)} labels in the data have two. Choose another `batch_sampler`."
            )
        pairs = sorted(len(rows) // 2 for rows in self.groups)
        self._num_rounds = pairs[-2]
        self._num_rows = 2 * sum(min(count, self._num_rounds) for count in pairs)

    def _labels(self, dataset: Dataset) -> Any:
        column = label_column(dataset.column_names, self.valid_label_columns or ())
        if column is None:
            raise ValueError(
                f"Grouping by label needs a label column ({', '.join(self.valid_label_columns or ['label'])}), but the "
                f"data set has {', '.join(dataset.column_names)}. Rename one or choose another `batch_sampler`."
            )
        chunks = [part.to_numpy(zero_copy_only=False) for part in arrow_chunks(dataset, column)]
        return np.concatenate(chunks) if chunks else np.empty(0)

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        shuffled = [rows[torch.randperm(len(rows), generator=self.generator).numpy()] for rows in self.groups]
        batch: list[int] = []
        last = None
        for place in range(self._num_rounds):
            labels = [label for label, rows in enumerate(shuffled) if len(rows) >= 2 * place + 2]
            labels = [labels[i] for i in torch.randperm(len(labels), generator=self.generator)]
            if labels[0] == last:  # or two neighbouring pairs, perhaps all of a batch, would share a label
                labels[:2] = labels[1::-1]
            last = labels[-1]
            for label in labels:
                batch += shuffled[label][2 * place : 2 * place + 2].tolist()
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []
        if len(batch) >= 4 and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        full, rest = divmod(self._num_rows, self.batch_size)
        return full + (rest >= 4 and not self.drop_last)
