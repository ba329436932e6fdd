"""`model.fit`: training of the older kind, from data loaders of InputExample, on top of the trainer."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader
from transformers import TrainerCallback, get_scheduler
from transformers.trainer_utils import get_last_checkpoint

from likewise.checked import having, one_of
from likewise.input_example import InputExample
from likewise.losses.base import Label
from likewise.training.data.collation import label_tensor
from likewise.training.data.reader import DataSetReader
from likewise.training.run.arguments import MultiDatasetBatchSamplers
from likewise.training.run.batches import loader_of
from likewise.training.run.checkpoints import trained_weights
from likewise.training.run.evaluating import run_evaluator
from likewise.training.samplers.multi_dataset import RoundRobinBatchSampler

if TYPE_CHECKING:
    from likewise.model.model import Model

logger = logging.getLogger(__name__)

MOST_PROCESSES = 64
SCHEDULES = {  # what transformers calls them
    "constantlr": "constant",
    "warmupconstant": "constant_with_warmup",
    "warmuplinear": "linear",
    "warmupcosine": "cosine",
    "warmupcosinewithhardrestarts": "cosine_with_restarts",
}


def fit(
    trainer_class: Any,
    model: Model,
    train_objectives: Iterable[tuple[Any, nn.Module]],
    evaluator: Any = None,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    scheduler: str = "WarmupLinear",
    warmup_steps: int = 10_000,
    optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
    optimizer_params: Mapping[str, Any] | None = None,
    weight_decay: float = 0.01,
    evaluation_steps: int = 0,
    output_path: str | None = None,
    save_best_model: bool = True,
    max_grad_norm: float = 1,
    use_amp: bool = False,
    callback: Callable[[float, float, int], None] | None = None,
    show_progress_bar: bool = True,
    checkpoint_path: str | None = None,
    checkpoint_save_steps: int = 500,
    checkpoint_save_total_limit: int = 0,
    resume_from_checkpoint: bool = False,
) -> None:
    """Train a model with its family's trainer; see `SentenceTransformer.fit`."""
    objectives = _checked(train_objectives)
    loaders = {f"_dataset_{number}": loader for number, (loader, _) in enumerate(objectives, 1)}
    losses = dict(zip(loaders, (loss for _, loss in objectives), strict=True))
    for loader in loaders.values():
        loader.collate_fn = list  # the examples themselves
    rounds = min(map(len, loaders.values()))
    epoch_steps = (steps_per_epoch or rounds) * len(objectives)
    optimizer = _optimizer(model, losses, optimizer_class, optimizer_params or {"lr": 2e-5}, weight_decay)
    schedule, total = str(scheduler).lower(), epochs * epoch_steps
    one_of(schedule if schedule in SCHEDULES else scheduler, "scheduler", SCHEDULES)
    on_gpu = torch.cuda.is_available()
    with TemporaryDirectory() as temporary:
        args = trainer_class.training_args_class(
            output_dir=checkpoint_path or temporary,
            per_device_train_batch_size=max(_batch_size(loader) for loader in loaders.values()),
            multi_dataset_batch_sampler=MultiDatasetBatchSamplers.ROUND_ROBIN,
            max_steps=total,
            max_grad_norm=max_grad_norm,
            fp16=use_amp and on_gpu,
            bf16=use_amp and not on_gpu,
            disable_tqdm=not show_progress_bar,
            save_strategy="steps" if checkpoint_path else "no",
            save_steps=checkpoint_save_steps,
            save_total_limit=checkpoint_save_total_limit or None,
            report_to="none",
        )
        trainer = trainer_class(
            train_dataset={name: _first_rows(each, losses[name]) for name, each in loaders.items()},
            model=model, args=args, loss=losses,
            optimizers=(optimizer, get_scheduler(SCHEDULES[schedule], optimizer, warmup_steps, total)),
        )  # fmt: skip
        trainer.get_train_dataloader = partial(_batches_of, loaders, trainer)
        watch = _Evaluation(
            evaluator, output_path, save_best_model, callback,
            every=evaluation_steps * len(objectives), epoch_steps=epoch_steps,
        )  # fmt: skip
        trainer.add_callback(watch)
        last = None
        if resume_from_checkpoint and checkpoint_path and os.path.isdir(checkpoint_path):
            last = get_last_checkpoint(checkpoint_path)
        if resume_from_checkpoint and last is None:
            logger.warning("There is no checkpoint in %s; training begins from the start.", checkpoint_path)
        trainer.train(last)
    if output_path is not None and (evaluator is None or not save_best_model):
        model.save(output_path)


def _checked(given: Any) -> list[tuple[Any, nn.Module]]:
    objectives: list[Any] = [given] if isinstance(given, DataLoader) else list(given)
    if not objectives:
        raise ValueError("`train_objectives` is empty. Pass at least one pair of a data loader and a loss.")
    for each in objectives:
        loader, loss = each if isinstance(each, tuple | list) and len(each) == 2 else (each, None)
        if isinstance(loader, Sequence | None) or not isinstance(loss, nn.Module):
            raise TypeError(
                "`fit` takes a DataLoader of InputExamples (a SentenceTransformer pairs of one and its loss, `[(loader, loss)]`), but "
                f"got a {type(loader).__name__} with a loss of the type {type(loss).__name__}."
            )
    return objectives


def smart_batching_collate(
    model: Model, batch: Sequence[InputExample]
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Examples -> one dict of padded features for each text column, and the labels."""
    columns = zip(*(example.texts for example in batch), strict=True)
    labels = label_tensor([example.label for example in batch])
    return [dict(model.tokenize(list(column))) for column in columns], labels


@dataclass(eq=False)
class _Evaluation(TrainerCallback):
    """Evaluates every so many steps and after every epoch, and keeps the best model."""

    evaluator: Any
    output_path: str | None
    saves: bool
    callback: Any
    every: int
    epoch_steps: int
    best: float = -math.inf

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if self.evaluator is None:
            return
        epoch, step = divmod(state.global_step, self.epoch_steps)
        if step == 0:
            self._evaluate(model, epoch - 1, -1)
        elif self.every > 0 and step % self.every == 0:
            self._evaluate(model, epoch, step)

    def _evaluate(self, model: Any, epoch: int, step: int) -> None:
        folder = None if self.output_path is None else os.path.join(self.output_path, "eval")
        metrics = run_evaluator(self.evaluator, model, folder, epoch, step)
        primary = getattr(self.evaluator, "primary_metric", None)
        score = metrics[f"eval_{primary}"] if primary else next(iter(metrics.values()))
        if self.callback is not None:
            self.callback(score, epoch, step)
        better = score if getattr(self.evaluator, "greater_is_better", True) else -score
        if better > self.best:
            self.best = better
            if self.saves and self.output_path is not None:
                model.save(self.output_path)


def _batches_of(loaders: Mapping[str, Any], trainer: Any) -> DataLoader[Any]:
    """The data loaders' batches, one of each in turn."""
    plans = trainer.plans["train"]
    rows = [_LoaderRows(loaders[plan.name]) for plan in plans]
    making = replace(trainer.making, by_name=False)
    readers = [DataSetReader(each, plan, making) for each, plan in zip(rows, plans, strict=True)]
    joined: Any = ConcatDataset(rows)  # type: ignore[arg-type]
    batches = RoundRobinBatchSampler(joined, [_LoaderBatches(each) for each in rows])
    loader: DataLoader[Any] = trainer.accelerator.prepare_data_loader(loader_of(readers, batches))
    return loader


@dataclass(eq=False)
class _LoaderRows:
    """The rows of a data loader's newest batches, by their number."""

    loader: Any
    kept: dict[int, InputExample] = field(default_factory=dict)

    def __len__(self) -> int:
        return max(1, len(self.loader) * _batch_size(self.loader))

    def __getitem__(self, numbers: Sequence[int]) -> dict[str, list[Any]]:
        return _columns([self.kept[number] for number in numbers])


class _LoaderBatches(BatchSampler):
    """The batches of a data loader, as numbers of rows."""

    def __init__(self, rows: _LoaderRows) -> None:
        super().__init__(rows, _batch_size(rows.loader), False)  # type: ignore[arg-type]
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows.loader)

    def __iter__(self) -> Iterator[list[int]]:
        number = 0
        for batch in self.rows.loader:
            numbers = list(range(number, number + len(batch)))
            number += len(batch)
            # Where processes share the batches, those of all of them are drawn before the first one's is read.
            oldest = number - MOST_PROCESSES * len(batch)
            newest = {n: row for n, row in self.rows.kept.items() if n >= oldest}
            self.rows.kept = newest | dict(zip(numbers, batch, strict=True))
            yield numbers


def _columns(examples: Sequence[InputExample]) -> dict[str, list[Any]]:
    """Examples as columns `sentence_0`, `sentence_1`, ... and `label`, each of the examples' own order."""
    texts = zip(*(example.texts for example in examples), strict=True)
    columns: dict[str, list[Any]] = {f"sentence_{n}": list(column) for n, column in enumerate(texts)}
    return columns | {"label": [example.label for example in examples]}


def _first_rows(loader: Any, loss: nn.Module) -> Any:
    """The first batch as a data set, for the plan; without labels where all are 0, the default, and the loss needs none."""
    from datasets import Dataset

    batch = next(iter(loader), None)
    if not batch:
        raise ValueError("A data loader of `fit` has no batch. Add examples, or lower its batch size.")
    known = getattr(loader, "dataset", None)
    known = getattr(known, "examples", None) or known
    examples = known if isinstance(known, list) and isinstance(known[0], InputExample) else batch
    having(examples[0], "texts", "loader.dataset[0]", "an InputExample, with texts and a label")
    columns = _columns(examples)
    shapes: Any = getattr(loss, "takes", None) or ()
    needs_label = bool(shapes) and all(shape.label is not Label.NONE for shape in shapes)
    if not needs_label and all(isinstance(label, int) and label == 0 for label in columns["label"]):
        columns.pop("label")
    return Dataset.from_dict(columns)


def _batch_size(loader: Any) -> int:
    sampler = getattr(loader, "batch_sampler", None)
    return int(getattr(loader, "batch_size", None) or getattr(sampler, "batch_size", None) or 8)


def _optimizer(
    model: Model, losses: Mapping[str, nn.Module], kind: Any, options: Any, weight_decay: float
) -> torch.optim.Optimizer:
    modules = nn.ModuleDict({"model": model, **losses})
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
    for name, parameter in trained_weights(modules).items():
        is_plain = any(part in name for part in ("bias", "LayerNorm.weight"))
        groups[1 if is_plain else 0]["params"].append(parameter)
    optimizer: torch.optim.Optimizer = kind(groups, **options)
    return optimizer
