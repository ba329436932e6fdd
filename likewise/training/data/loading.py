"""Loaders: from data sets and the plan's roles to batches for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler

from likewise.processes import get_rank, get_world_size
from likewise.training.data.batch import Batch
from likewise.training.data.columns import LABEL_COLUMNS
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Family, Making
from likewise.training.data.reader import BatchReader, DataSetReader
from likewise.training.data.streams import StreamBatchSampler, StreamRows, known_length
from likewise.training.run.arguments import BatchSamplers, Exhausted, MultiDatasetBatchSamplers
from likewise.training.samplers.default import DefaultBatchSampler, GroupByLabelBatchSampler
from likewise.training.samplers.multi_dataset import ProportionalBatchSampler, RoundRobinBatchSampler
from likewise.training.samplers.no_duplicates import NoDuplicatesBatchSampler

BY_NAME: dict[Any, Any] = {
    BatchSamplers.BATCH_SAMPLER: DefaultBatchSampler,
    BatchSamplers.NO_DUPLICATES: NoDuplicatesBatchSampler,
    BatchSamplers.NO_DUPLICATES_HASHED: NoDuplicatesBatchSampler,
    BatchSamplers.GROUP_BY_LABEL: GroupByLabelBatchSampler,
    MultiDatasetBatchSamplers.PROPORTIONAL: ProportionalBatchSampler,
    MultiDatasetBatchSamplers.ROUND_ROBIN: RoundRobinBatchSampler,
}


@dataclass(frozen=True)
class Samplers:
    """Makes samplers as the arguments say; the trainer's two methods of these names, which users may override.

    Attributes:
        one: `get_batch_sampler(dataset, batch_size, drop_last, valid_label_columns, generator, seed)`.
        several: `get_multi_dataset_batch_sampler(dataset, batch_samplers, generator, seed)`.
        label_columns: Names that a label column may have.
    """

    one: Callable[..., Any]
    several: Callable[..., Any]
    label_columns: Sequence[str] = LABEL_COLUMNS


def batch_sampler(
    args: Any,
    dataset: Any,
    batch_size: int,
    drop_last: bool,
    valid_label_columns: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = 0,
) -> Any:
    """The batch sampler that `args.batch_sampler` names, for one data set."""
    chosen = args.batch_sampler
    options = {"fold": True} if args.fold_duplicates else {}
    make = chosen if callable(chosen) else BY_NAME[chosen]
    return make(dataset, batch_size, drop_last, valid_label_columns, generator, seed, **options)


def multi_dataset_batch_sampler(
    args: Any,
    dataset: Any,
    batch_samplers: Sequence[Any],
    generator: torch.Generator | None = None,
    seed: int | None = 0,
    names: Sequence[str] = (),
) -> Any:
    """The sampler over data sets that `args.multi_dataset_batch_sampler` names."""
    chosen = args.multi_dataset_batch_sampler
    if callable(chosen):
        return chosen(dataset, batch_samplers, generator=generator, seed=seed)
    options: dict[str, Any] = {}
    if args.multi_dataset_exhausted is not None:
        options["exhausted"] = args.multi_dataset_exhausted
    if chosen is MultiDatasetBatchSamplers.PROPORTIONAL:
        options["temperature"] = args.multi_dataset_temperature
        if args.multi_dataset_weights:
            options["weights"] = [float(args.multi_dataset_weights[name]) for name in names]
    if any(isinstance(s, StreamBatchSampler) and s.endless for s in batch_samplers):
        options["num_batches"] = args.max_steps * args.gradient_accumulation_steps * get_world_size()
    return BY_NAME[chosen](dataset, batch_samplers, generator, seed, **options)


def check_mixture(args: Any, data: Mapping[str, Any]) -> None:
    """Refuse arguments on mixing that do not fit the training data.

    Raises:
        ValueError: A weight has no data set, a data set has no weight, or a stream's length must be known but is not.
    """
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
    if args.max_steps <= 0:
        raise ValueError(
            f"The training {what} is a stream whose length is not known, so that an epoch has no end. Set `max_steps`."
        )
    if len(data) == 1:
        return
    proportional = args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
    if proportional and not weights:
        raise ValueError(
            f"The training {what} is a stream whose length is not known, so that there is no proportion. Set "
            "`multi_dataset_weights`, or `multi_dataset_batch_sampler='round_robin'`."
        )
    if args.multi_dataset_exhausted not in (None, Exhausted.RESTART):
        raise ValueError(
            f"The training {what} is a stream whose length is not known; with it, data sets start over until `max_steps`. "
            "Drop `multi_dataset_exhausted`."
        )


def is_stream(dataset: Any) -> bool:
    """Whether rows come one after the other."""
    from datasets import IterableDataset

    return isinstance(dataset, IterableDataset)


def training_loader(
    args: Any,
    data: Mapping[str, Any],
    plans: Sequence[DataSetPlan],
    making: Making,
    family: Family,
    samplers: Samplers,
    batch_size: int,
) -> DataLoader[Any]:
    """Batches of all training data, each of one data set.

    Raises:
        ValueError: A data set has not one batch.
    """
    rows: dict[str, Any] = {
        name: StreamRows(dataset, known_length(dataset)) if is_stream(dataset) else dataset
        for name, dataset in data.items()
    }
    seed = args.seed if args.data_seed is None else args.data_seed
    generator = torch.Generator().manual_seed(seed)
    shared: dict[str, Any] = {"generator": generator, "seed": seed}
    # Of several data sets each goes on where the generator is, or all would be shuffled alike.
    of_each = shared | ({"seed": None} if len(data) > 1 and args.batch_sampler in BY_NAME else {})
    made = []
    for name, dataset in rows.items():
        if isinstance(dataset, StreamRows):
            sampler: Any = _stream_sampler(args, dataset, samplers, batch_size, seed)
        else:
            sampler = samplers.one(
                dataset, batch_size, args.dataloader_drop_last, samplers.label_columns, **of_each
            )
        _refuse_empty(sampler, name, dataset, batch_size)
        made.append(sampler)
    joined: Any = ConcatDataset(list(rows.values())) if len(made) > 1 else None
    batches = made[0] if joined is None else samplers.several(joined, made, generator, seed)
    most = 0 if _reads_once(args, made, batches) else args.max_kept_tokens // len(plans)
    readers = [
        DataSetReader(
            rows[plan.name],
            plan,
            making,
            family,
            *((0,) if is_stream(data[plan.name]) else (most, args.token_cache_dir)),
        )
        for plan in plans
    ]
    return DataLoader(BatchReader(readers), batch_sampler=batches, collate_fn=_as_read)


def _reads_once(args: Any, made: Sequence[Any], batches: Any) -> bool:
    """Whether no row comes a second time, as far as is known, so that nothing need be kept for it."""
    if args.multi_dataset_exhausted is Exhausted.RESTART or any(
        isinstance(s, StreamBatchSampler) for s in made
    ):
        return False
    used = args.max_steps * args.gradient_accumulation_steps * get_world_size()
    return bool(used <= len(batches) if args.max_steps > 0 else args.num_train_epochs <= 1)


def _stream_sampler(args: Any, rows: StreamRows, samplers: Samplers, batch_size: int, seed: int) -> Any:
    def of_window(window: Any, drop_last: bool, generator: torch.Generator) -> Any:
        return samplers.one(window, batch_size, drop_last, samplers.label_columns, generator, None)

    return StreamBatchSampler(
        rows, of_window, batch_size, args.dataloader_drop_last, args.shuffle_buffer_size, seed
    )


def _refuse_empty(sampler: Any, name: str, rows: Any, batch_size: int) -> None:
    try:
        batches = len(sampler)
    except TypeError:  # a stream without a known length
        return
    if batches < get_world_size():
        what = f"data set {name!r}" if name else "data"
        raise ValueError(
            f"The training {what} has {len(rows):,} rows, not enough for one batch of {batch_size} on each process. Lower "
            "`per_device_train_batch_size`, or set `dataloader_drop_last=False`."
        )


def evaluation_loader(
    args: Any,
    data: Mapping[str, Any],
    plans: Sequence[DataSetPlan],
    making: Making,
    family: Family,
    samplers: Samplers | None = None,
) -> DataLoader[Any]:
    """Batches of evaluation data, in order: of one data set, or of several one after the other.

    Args:
        args: The training arguments.
        data: The data sets by name.
        plans: Their plans.
        making: How rows become a batch.
        family: What the model's family takes.
        samplers: The trainer's own samplers, where somebody replaced them; None for rows in order.
    """
    size = args.eval_batch_size
    seed = {"generator": torch.Generator().manual_seed(args.seed), "seed": args.seed}
    rows: list[Any] = []
    batches: list[Any] = []
    for dataset in data.values():
        if is_stream(dataset):
            rows.append(StreamRows(dataset, None))
            batches.append(
                StreamBatchSampler(rows[-1], lambda *_: None, size, False, window=1, endless=False)
            )
        elif samplers is None:
            rows.append(dataset)
            batches.append(BatchSampler(SequentialSampler(dataset), size, False))
        else:
            rows.append(dataset)
            batches.append(
                samplers.one(dataset, size, args.dataloader_drop_last, samplers.label_columns, **seed)
            )
    readers = [DataSetReader(each, plan, making, family) for each, plan in zip(rows, plans, strict=True)]
    if len(rows) == 1:
        return DataLoader(BatchReader(readers), batch_sampler=batches[0], collate_fn=_as_read)
    if samplers is None:
        joined: Any = OneAfterTheOther(batches, [len(each) for each in rows])
    else:
        joined = samplers.several(ConcatDataset(rows), batches, **seed)
    return DataLoader(BatchReader(readers), batch_sampler=joined, collate_fn=_as_read)


class OneAfterTheOther(BatchSampler):
    """The batches of several data sets, one data set after the other, with rows counted over all of them.

    Args:
        batches: Batches of each.
        num_rows: How many rows each has.
    """

    def __init__(self, batches: Sequence[Any], num_rows: Sequence[int]) -> None:
        self.batches = batches
        self.num_rows = num_rows

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
    world = get_world_size()
    rank = get_rank()
    group: list[Any] = []
    for rows in loader.batch_sampler:
        group.append(rows)
        if len(group) == world:
            yield reader.__getitems__(group[rank]), True
            group = []
    if group:
        yield reader.__getitems__(group[min(rank, len(group) - 1)]), rank < len(group)


def _as_read(batch: Any) -> Any:
    return batch


def by_name(data: Any) -> dict[str, Any]:
    """Data sets by name; an only one by the name ""."""
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else {"": data}
