"""The trainer's data: names of data sets, samplers, collators, and loaders of batches.

The functions here are methods of the trainer, which has them by name; `trainer` is what `self` is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler
from transformers import Trainer

from likewise.card.data_sets import by_name
from likewise.processes import get_world_size
from likewise.training.data.checks import check_reserved, in_words
from likewise.training.data.columns import column_names
from likewise.training.data.prefetch import Prefetched
from likewise.training.data.reader import BatchReader, DataSetReader
from likewise.training.data.streams import StreamBatchSampler, StreamRows, is_stream, known_length
from likewise.training.run.arguments import BatchSamplers, Exhausted, MultiDatasetBatchSamplers
from likewise.training.samplers.default import DefaultBatchSampler, GroupByLabelBatchSampler
from likewise.training.samplers.multi_dataset import (
    OneAfterTheOther,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from likewise.training.samplers.no_duplicates import NoDuplicatesBatchSampler

if TYPE_CHECKING:
    from likewise.model.model import Model


BY_NAME: dict[Any, Any] = {
    BatchSamplers.BATCH_SAMPLER: DefaultBatchSampler,
    BatchSamplers.NO_DUPLICATES: NoDuplicatesBatchSampler,
    BatchSamplers.NO_DUPLICATES_HASHED: NoDuplicatesBatchSampler,
    BatchSamplers.GROUP_BY_LABEL: GroupByLabelBatchSampler,
    MultiDatasetBatchSamplers.PROPORTIONAL: ProportionalBatchSampler,
    MultiDatasetBatchSamplers.ROUND_ROBIN: RoundRobinBatchSampler,
}
# A batch knows the name of its data set by itself. The column is only for those who change how it is made.
NAMING = ("add_dataset_name_column", "add_dataset_name_transform", "should_dataset_name_column_be_added")


def get_batch_sampler(
    trainer: Any,
    dataset: Any,
    batch_size: int,
    drop_last: bool,
    valid_label_columns: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = 0,
) -> Any:
    """The batch sampler for one data set, as the arguments name it; override it to use your own."""
    chosen = trainer.args.batch_sampler
    options = {"fold": True} if trainer.args.fold_duplicates else {}
    make = chosen if callable(chosen) else BY_NAME[chosen]
    return make(dataset, batch_size, drop_last, valid_label_columns, generator, seed, **options)


def get_multi_dataset_batch_sampler(
    trainer: Any,
    dataset: Any,
    batch_samplers: Sequence[Any],
    generator: torch.Generator | None = None,
    seed: int | None = 0,
) -> Any:
    """The sampler over several data sets, as the arguments name it; override it to use your own."""
    args = trainer.args
    chosen = args.multi_dataset_batch_sampler
    if callable(chosen):
        return chosen(dataset, batch_samplers, generator=generator, seed=seed)
    options: dict[str, Any] = {}
    if args.multi_dataset_exhausted is not None:
        options["exhausted"] = args.multi_dataset_exhausted
    if chosen is MultiDatasetBatchSamplers.PROPORTIONAL:
        options["temperature"] = args.multi_dataset_temperature
        if args.multi_dataset_weights:
            names = [plan.name for plan in trainer.plans["train"]]
            options["weights"] = [float(args.multi_dataset_weights[name]) for name in names]
    if any(isinstance(s, StreamBatchSampler) and s.endless for s in batch_samplers):
        options["num_batches"] = args.max_steps * args.gradient_accumulation_steps * get_world_size()
    return BY_NAME[chosen](dataset, batch_samplers, generator, seed, **options)


def get_data_collator(trainer: Any, model: Model, args: Any, processing_class: Any = None) -> Any:
    """The data collator where none is given; override it to use another. The trainer's own way of making batches is faster."""
    return trainer.data_collator_class(
        preprocess_fn=model.preprocess, router_mapping=args.router_mapping, prompts=args.prompts
    )


def validate_column_names(trainer: Any, dataset: Any, dataset_name: str | None = None) -> None:
    """Refuse names of columns that batches use for something else; override it to check more.

    Raises:
        ValueError: There is one.
    """
    of = {"train": "training ", "eval": "evaluation "}.get(dataset_name or "", "")
    for name, each in by_name(dataset).items():
        if hasattr(each, "column_names"):
            check_reserved(column_names(each), f"the {of}data set {name!r}" if name else f"the {of}data")


def preprocess_dataset(trainer: Any, dataset: Any = None, dataset_name: str | None = None) -> Any:
    """Check the names of the columns; override it to change data sets before they are trained or evaluated on.

    Args:
        dataset: A data set, several by name, or None.
        dataset_name: "train", "eval", or another name for messages.
    """
    if dataset is None:
        return None
    trainer.validate_column_names(dataset, dataset_name=dataset_name)
    if not trainer._is_replaced(*NAMING):
        return dataset
    is_wanted = trainer.should_dataset_name_column_be_added(dataset, trainer.args, trainer.loss)
    return trainer.add_dataset_name_column(dataset) if is_wanted else dataset


def should_dataset_name_column_be_added(trainer: Any, dataset: Any, args: Any, loss: Any) -> bool:
    """Whether rows have to tell their data set: there are several, and losses, prompts or routes go by their names."""
    routes = args.router_mapping or {}
    given = loss, args.prompts or None, next(iter(routes.values()), None)
    return isinstance(dataset, Mapping) and any(isinstance(each, Mapping) for each in given)


def add_dataset_name_column(trainer: Any, dataset: Any, dataset_name: str | None = None) -> Any:
    """The data set, or each of several, with its name in every row that is read, as the column `dataset_name`."""
    if isinstance(dataset, Mapping):
        kind: Any = type(dataset)
        return kind({name: trainer.add_dataset_name_column(each, name) for name, each in dataset.items()})
    if dataset_name is None:
        return dataset
    transform = partial(trainer.add_dataset_name_transform, dataset_name=dataset_name)
    if is_stream(dataset):
        return dataset.map(transform, batched=True)
    return dataset.with_transform(partial(transform, **dataset.format["format_kwargs"]))


def add_dataset_name_transform(
    batch: dict[str, list[Any]],
    dataset_name: str | None = None,
    transform: Callable[[dict[str, list[Any]]], dict[str, list[Any]]] | None = None,
    **kwargs: Any,
) -> dict[str, list[Any]]:
    """Rows, by an earlier transform if there is one, with the name of their data set."""
    batch = batch if transform is None else transform(batch)
    num_rows = len(next(iter(batch.values()), []))
    is_named = dataset_name is not None and num_rows
    return {**batch, "dataset_name": [dataset_name] * num_rows} if is_named else batch


def get_train_dataloader(trainer: Any) -> DataLoader[Any]:
    """Batches for one epoch after the other."""
    data = by_name(trainer.train_dataset)
    plans = trainer._plans_of("train", data)
    if not plans:
        raise ValueError(
            "Training needs a `train_dataset`, but it is "
            f"{'an empty dict' if trainer.train_dataset is not None else 'None'}. Pass one to the trainer."
        )
    args = trainer.args
    rows: dict[str, Any] = {
        name: StreamRows(dataset, known_length(dataset)) if is_stream(dataset) else dataset
        for name, dataset in data.items()
    }
    seed = seed_of(args)
    generator = torch.Generator().manual_seed(seed)
    # Of several data sets each goes on where the generator is, or all would be shuffled alike.
    own_seed = None if len(data) > 1 and args.batch_sampler in BY_NAME else seed
    samplers = [_sampler(trainer, name, dataset, generator, own_seed) for name, dataset in rows.items()]
    batches = samplers[0]
    if len(samplers) > 1:
        joined: Any = ConcatDataset(list(rows.values()))
        batches = trainer.get_multi_dataset_batch_sampler(joined, samplers, generator, seed)
    most = 0 if _reads_once(args, samplers, batches) else args.max_kept_tokens // len(plans)
    making = trainer.making
    readers = [DataSetReader(rows[plan.name], plan, making, most, args.token_cache_dir) for plan in plans]
    trainer._reads_ahead = trainer._collator is None and not any(reader.is_made_anew for reader in readers)
    loader: DataLoader[Any] = trainer.accelerator.prepare_data_loader(loader_of(readers, batches))
    return loader


def loader_of(readers: Sequence[DataSetReader], batches: Any) -> DataLoader[Any]:
    """The batches of these numbers of rows, counted over all data sets."""
    return DataLoader(BatchReader(readers), batch_sampler=batches, collate_fn=lambda batch: batch)


def seed_of(args: Any) -> int:
    """What shuffles the data."""
    seed: int = args.seed if args.data_seed is None else args.data_seed
    return seed


def _sampler(trainer: Any, name: str, rows: Any, generator: torch.Generator, seed: int | None) -> Any:
    """The batch sampler of a training data set, or of a stream's rows; refused where there is not one batch."""
    args, size, labels = trainer.args, trainer._train_batch_size, trainer._label_columns
    drop_last = args.dataloader_drop_last
    if isinstance(rows, StreamRows):

        def of_window(window: Any, drops: bool, draws: torch.Generator) -> Any:
            return trainer.get_batch_sampler(window, size, drops, labels, draws, None)

        window, stream_seed = args.shuffle_buffer_size, seed_of(args)
        sampler: Any = StreamBatchSampler(rows, of_window, size, drop_last, window, stream_seed)
    else:
        sampler = trainer.get_batch_sampler(rows, size, drop_last, labels, generator=generator, seed=seed)
    with suppress(TypeError):  # the length of a stream may not be known
        if len(sampler) < get_world_size():
            raise ValueError(
                f"T{in_words(name, 'training')[1:]} has {len(rows):,} rows, not enough for one batch of {size} on each process. Lower "
                "`per_device_train_batch_size`, or set `dataloader_drop_last=False`."
            )
    return sampler


def _reads_once(args: Any, samplers: Sequence[Any], batches: Any) -> bool:
    """Whether no row comes a second time, as far as is known, so that nothing need be kept for it."""
    has_streams = any(isinstance(sampler, StreamBatchSampler) for sampler in samplers)
    if has_streams or args.multi_dataset_exhausted is Exhausted.RESTART:
        return False
    used = args.max_steps * args.gradient_accumulation_steps * get_world_size()
    return bool(used <= len(batches) if args.max_steps > 0 else args.num_train_epochs <= 1)


def get_eval_dataloader(trainer: Any, eval_dataset: Any = None) -> Any:
    """Batches of evaluation data, in order: of the data set with this name, of the given one, or of all there are."""
    known = by_name(trainer.eval_dataset)
    if eval_dataset is None and not known:
        if trainer.evaluator is not None:
            return DataLoader([])  # type: ignore[arg-type]
        raise ValueError("Evaluation needs an `eval_dataset` or an `evaluator`. Pass one to the trainer.")
    if isinstance(eval_dataset, str):
        if eval_dataset not in known:
            raise ValueError(
                f"There is no evaluation data set {eval_dataset!r}, only {', '.join(map(repr, known)) or 'none'}."
            )
        return evaluation_loader(trainer, {eval_dataset: known[eval_dataset]})
    return evaluation_loader(trainer, known if eval_dataset is None else named(trainer, eval_dataset))


def get_test_dataloader(trainer: Any, test_dataset: Any) -> Any:
    """Batches of other data, in order, as `predict` measures it."""
    return evaluation_loader(trainer, named(trainer, test_dataset))


def named(trainer: Any, dataset: Any) -> dict[str, Any]:
    """A data set by the name that it has among those of the evaluation."""
    if isinstance(dataset, Mapping):
        return dict(dataset)
    known = {**by_name(trainer.eval_dataset), **trainer._evaluated}
    return {next((name for name, each in known.items() if each is dataset), ""): dataset}


def evaluation_loader(trainer: Any, data: dict[str, Any]) -> DataLoader[Any]:
    """Batches of data sets to evaluate on, planned as the trainer's own where they are these."""
    mine = by_name(trainer.eval_dataset)
    known = {plan.name: plan for plan in trainer._plans_of("eval", mine)}
    is_known = all(name in mine and mine[name] is dataset for name, dataset in data.items())
    plans = [known[name] for name in data] if is_known else trainer._plans_of("other", data)
    args, size = trainer.args, trainer.args.eval_batch_size
    seed = {"generator": torch.Generator().manual_seed(args.seed), "seed": args.seed}
    is_own = trainer._is_replaced("get_batch_sampler", "get_multi_dataset_batch_sampler")
    rows: list[Any] = [StreamRows(each, None) if is_stream(each) else each for each in data.values()]
    samplers: list[Any] = []
    for each in rows:
        if isinstance(each, StreamRows):
            sampler: Any = StreamBatchSampler(each, lambda *_: None, size, False, window=1, endless=False)
        elif is_own:
            drop_last, labels = args.dataloader_drop_last, trainer._label_columns
            sampler = trainer.get_batch_sampler(each, size, drop_last, labels, **seed)
        else:
            sampler = BatchSampler(SequentialSampler(each), size, False)
        samplers.append(sampler)
    batches = samplers[0]
    if len(rows) > 1:
        joins = trainer.get_multi_dataset_batch_sampler if is_own else OneAfterTheOther
        batches = joins(ConcatDataset(rows), samplers, **seed)
    making = trainer.making
    readers = [DataSetReader(each, plan, making) for each, plan in zip(rows, plans, strict=True)]
    return loader_of(readers, batches)


def get_batch_samples(trainer: Any, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
    """The next batches, which a thread makes ahead of the model; not where other people's code may draw numbers."""
    if trainer._reads_ahead:
        if trainer._ahead is None or trainer._ahead.iterator is not epoch_iterator:
            stop_ahead(trainer)
            trainer._ahead = Prefetched(epoch_iterator)
        epoch_iterator = trainer._ahead
    return Trainer.get_batch_samples(trainer, epoch_iterator, num_batches, device)


def stop_ahead(trainer: Any) -> None:
    """Stop the thread that makes batches ahead of the model."""
    if trainer._ahead is not None:
        trainer._ahead.close()
        trainer._ahead = None
