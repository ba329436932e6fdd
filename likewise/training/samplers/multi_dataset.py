"""Samplers over several data sets: which of them the next batch comes from.

With several processes all of them train on the same data set at any time, one batch each, as one process would on a
batch that is so much larger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from likewise.processes import get_world_size
from likewise.training.run.arguments import Exhausted
from likewise.training.samplers.default import EpochBatchSampler


class MultiDatasetDefaultBatchSampler(EpochBatchSampler, ABC):
    """What samplers over several data sets have in common. Subclass it for one of your own.

    Args:
        dataset: The data sets, end to end.
        batch_samplers: A batch sampler for each of them.
        generator: Where random numbers come from; None for one of its own.
        seed: Seeds the generator, together with the epoch; None leaves it as it is.
        num_processes: How many batches are used at the same time, all of one data set; None for the number of processes.
        num_batches: An epoch has about so many batches, and data sets start over as often as it takes. None for an
            epoch that the data sets' lengths decide.
    """

    def __init__(
        self,
        dataset: ConcatDataset[Any],
        batch_samplers: Sequence[Any],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
        num_processes: int | None = None,
        num_batches: int | None = None,
    ) -> None:
        if len(dataset.datasets) != len(batch_samplers):
            raise ValueError(
                f"There are {len(dataset.datasets)} data sets but {len(batch_samplers)} batch samplers; "
                "each data set needs one."
            )
        first = batch_samplers[0]
        super().__init__(dataset, first.batch_size, first.drop_last, generator, seed)
        self.dataset = dataset
        self.batch_samplers = batch_samplers
        self.num_processes = get_world_size() if num_processes is None else num_processes
        self.num_batches = num_batches

    @property
    def offsets(self) -> list[int]:
        """The number of each data set's first row among all rows."""
        return [0, *accumulate(len(dataset) for dataset in self.dataset.datasets)][:-1]  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, to every data set's sampler too."""
        super().set_epoch(epoch)
        for sampler in self.batch_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    @property
    def num_turns(self) -> list[int]:
        """How often each data set can be drawn from: its batches, or groups of one for each process."""
        return [len(sampler) // self.num_processes for sampler in self.batch_samplers]

    def take_turns(self, turns: Iterable[int], exhausted: Exhausted) -> Iterator[list[int]]:
        """The batches of the data sets with these numbers, one for each process at every turn.

        Args:
            turns: Numbers of data sets.
            exhausted: What happens where a data set has no batch left.
        """
        offsets = self.offsets
        batches = [iter(sampler) for sampler in self.batch_samplers]
        for i in turns:
            taken = list(islice(batches[i], self.num_processes))
            if len(taken) < self.num_processes and exhausted is Exhausted.RESTART:
                batches[i] = iter(self.batch_samplers[i])
                taken = list(islice(batches[i], self.num_processes))
            if len(taken) < self.num_processes and exhausted is Exhausted.STOP:
                return
            for batch in taken:
                yield [row + offsets[i] for row in batch]

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]:
        """Batches of row numbers, each counted over all data sets."""

    @abstractmethod
    def __len__(self) -> int:
        """How many batches there are."""


class RoundRobinBatchSampler(MultiDatasetDefaultBatchSampler):
    """One batch from each data set in turn.

    Args:
        *args: As for MultiDatasetDefaultBatchSampler.
        exhausted: What happens when a data set has no batch left: the epoch ends (the default), it starts over, or the
            others go on without it.
        **kwargs: As for MultiDatasetDefaultBatchSampler.
    """

    def __init__(self, *args: Any, exhausted: Exhausted | str = Exhausted.STOP, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exhausted = Exhausted.RESTART if self.num_batches else Exhausted(exhausted)

    def _counts(self) -> list[int]:
        if self.num_batches:
            number = len(self.batch_samplers)
            return [-(-self.num_batches // (number * self.num_processes))] * number
        counts = self.num_turns
        if self.exhausted is Exhausted.DROP:
            return counts
        rounds = min(counts) if self.exhausted is Exhausted.STOP else max(counts)
        return [rounds] * len(counts)

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        counts = self._counts()
        turns = (i for number in range(max(counts)) for i in range(len(counts)) if number < counts[i])
        yield from self.take_turns(turns, self.exhausted)

    def __len__(self) -> int:
        return sum(self._counts()) * self.num_processes


class ProportionalBatchSampler(MultiDatasetDefaultBatchSampler):
    """Batches of all data sets in random order: every batch once, or each data set in proportion to a weight.

    An epoch's share of each data set is exact, not drawn, so that the number of batches is known beforehand.

    Args:
        *args: As for MultiDatasetDefaultBatchSampler.
        weights: A weight for each data set; None for its number of batches.
        temperature: Weights are raised to the power of 1 / temperature.
        exhausted: What happens when a data set has no batch left. None: every batch is used once ("drop") where the
            weights are the numbers of batches, else the epoch ends ("stop").
        **kwargs: As for MultiDatasetDefaultBatchSampler.
    """

    def __init__(
        self,
        *args: Any,
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        exhausted: Exhausted | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.weights = weights
        self.temperature = temperature
        plain = weights is None and temperature == 1
        default = Exhausted.DROP if plain else Exhausted.STOP
        self.exhausted = default if exhausted is None else Exhausted(exhausted)
        if self.num_batches:
            self.exhausted = Exhausted.RESTART

    def _counts(self) -> list[int]:
        """How many turns of an epoch each data set has."""
        if self.num_batches:
            shares = np.asarray(self.weights, float) ** (1 / self.temperature)
            wanted = self.num_batches / self.num_processes * shares / shares.sum()
            # Rounded first, here and below, or 3.0000001 would be 4 turns.
            return [int(count) for count in np.ceil(np.round(wanted, 6))]
        turns = self.num_turns
        if self.exhausted is Exhausted.DROP:
            return turns
        weights = np.asarray(turns if self.weights is None else self.weights, float) ** (1 / self.temperature)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Of one batch for each unit of weight, until it is exhausted.
            rounds = np.asarray(turns) / weights
        share = rounds.min() if self.exhausted is Exhausted.STOP else rounds.max()
        rounded = np.floor if self.exhausted is Exhausted.STOP else np.ceil
        return [int(count) for count in rounded(np.round(share * weights, 6))]

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        turns = torch.tensor([i for i, count in enumerate(self._counts()) for _ in range(count)])
        order = torch.randperm(len(turns), generator=self.generator)
        # A sampler of somebody's own may promise more batches than it has: its turns are then skipped.
        exhausted = Exhausted.RESTART if self.exhausted is Exhausted.RESTART else Exhausted.DROP
        yield from self.take_turns(turns[order].tolist(), exhausted)

    def __len__(self) -> int:
        return sum(self._counts()) * self.num_processes


class OneAfterTheOther(MultiDatasetDefaultBatchSampler):
    """All batches of the first data set, then those of the next."""

    def __iter__(self) -> Iterator[list[int]]:
        for first, batches in zip(self.offsets, self.batch_samplers, strict=True):
            for batch in batches:
                yield [first + row for row in batch]

    def __len__(self) -> int:
        return sum(map(len, self.batch_samplers))
