"""Several data sets and several processes: what is refused of their mixture, their order, and each process's share of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import BatchSampler

from likewise.processes import get_rank, get_world_size
from likewise.training.data.batch import Batch
from likewise.training.data.reader import BatchReader
from likewise.training.data.streams import known_length
from likewise.training.run.arguments import Exhausted, MultiDatasetBatchSamplers


def check_mixture(args: Any, data: Mapping[str, Any]) -> None:
    """Refuse arguments on mixing that do not fit the training data: weights by other names, a stream whose length must be known."""
    weights = args.multi_dataset_weights
    if weights and set(weights) != set(data):
        wrong = sorted(set(weights) ^ set(data))[0]
        raise ValueError(
            f"`multi_dataset_weights` and the training data sets must have the same names, but {wrong!r} is only in one of "
            f"them. The data sets are {', '.join(map(repr, data)) if set(data) - {''} else 'one without a name'}."
        )
    unknown = [name for name, dataset in data.items() if is_stream(dataset) and known_length(dataset) is None]
    if not unknown:
        return
    what = f"data set {unknown[0]!r}" if unknown[0] else "data"
    is_proportional = args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
    if args.max_steps <= 0:
        so = ", so that an epoch has no end. Set `max_steps`."
    elif len(data) > 1 and is_proportional and not weights:
        so = (
            ", so that there is no proportion. Set `multi_dataset_weights`, or "
            "`multi_dataset_batch_sampler='round_robin'`."
        )
    elif len(data) > 1 and args.multi_dataset_exhausted not in (None, Exhausted.RESTART):
        so = "; with it, data sets start over until `max_steps`. Drop `multi_dataset_exhausted`."
    else:
        return
    raise ValueError(f"The training {what} is a stream whose length is not known{so}")


def is_stream(dataset: Any) -> bool:
    """Whether rows come one after the other."""
    from datasets import IterableDataset

    return isinstance(dataset, IterableDataset)


@dataclass(eq=False)
class OneAfterTheOther(BatchSampler):
    """The batches of several data sets, one data set after the other, with rows counted over all of them."""

    batches: Sequence[Any]
    num_rows: Sequence[int]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def __iter__(self) -> Iterator[list[int]]:
        first = 0
        for batches, rows in zip(self.batches, self.num_rows, strict=True):
            for batch in batches:
                yield [first + row for row in batch]
            first += rows


def shared_over_processes(loader: Any) -> Iterator[tuple[Batch, bool]]:
    """This process's batches, every so many-th, and whether each counts.

    All processes get the same number, as losses that gather need; where there is nothing left, one comes again that
    does not count. A loader that is not of this package deals its batches itself.
    """
    reader: Any = getattr(loader, "dataset", None)
    if not isinstance(reader, BatchReader):
        for batch in loader:
            yield batch, True
        return
    world, rank = get_world_size(), get_rank()
    group: list[Any] = []
    for rows in loader.batch_sampler:
        group.append(rows)
        if len(group) == world:
            yield reader.__getitems__(group[rank]), True
            group = []
    if group:
        yield reader.__getitems__(group[min(rank, len(group) - 1)]), rank < len(group)
