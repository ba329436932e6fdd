"""Evaluation in the course of training: mean losses, evaluators, and which metric tells the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from likewise.modules.text import KeptTokens, keeping_tokens
from likewise.processes import get_rank, get_world_size
from likewise.training.data.collation import Batch

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer


def mean_losses(
    measure: Callable[[Any, Any, str], tuple[Tensor, Mapping[str, Tensor]]],
    batches: Iterable[tuple[Batch, bool]],
    prepare: Callable[[Batch], Batch],
) -> tuple[dict[str, float], int]:
    """The mean over rows of the loss, as `loss`, and of its named parts; and the number of rows.

    Args:
        measure: Columns, labels and the data set's name -> the loss and its named parts.
        batches: This process's batches, and whether each counts.
        prepare: Brings a batch to the device.
    """
    sums: dict[str, float] = {}
    num_rows = 0
    for batch, counts in batches:
        batch = prepare(batch)
        loss, parts = measure(batch["columns"], batch.get("label"), batch["dataset_name"])
        if counts:
            size = rows_of(batch)
            num_rows += size
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * size
    everyone = over_processes((sums, num_rows))
    total = sum(rows for _, rows in everyone)
    names = dict.fromkeys(name for each, _ in everyone for name in each)
    means = {name: sum(each.get(name, 0.0) for each, _ in everyone) / max(total, 1) for name in names}
    return means, total


def rows_of(batch: Batch) -> int:
    """How many rows a batch has."""
    columns = batch["columns"]
    if hasattr(columns, "num_rows"):
        return int(columns.num_rows)
    return len(next(value for value in columns[0].values() if isinstance(value, Tensor)))


def over_processes(value: Any) -> list[Any]:
    """What every process has for this value, in their order."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(values, value)
    return values


@contextmanager
def encode_shared(model: SentenceTransformer) -> Iterator[None]:
    """Within this context `model.encode` embeds a share of a list's texts on each process, and returns all."""
    world = get_world_size()
    if world == 1:
        yield
        return
    encode, rank = model.encode, get_rank()

    def shared(inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        inputs = kwargs.pop("sentences", None) if inputs is None else inputs
        if isinstance(inputs, str) or inputs is None or len(inputs) < world:
            return encode(inputs, *args, **kwargs)
        own = encode(list(inputs[rank::world]), *args, **kwargs)
        return _interleaved(over_processes(_on_cpu(own)), own)

    model.encode = shared  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.encode


def _on_cpu(values: Any) -> Any:
    if isinstance(values, Tensor):
        return values.cpu()
    return [_on_cpu(value) for value in values] if isinstance(values, list) else values


def _interleaved(shares: Sequence[Any], like: Any) -> Any:
    """The shares' rows, row i of all being row i // W of share i % W."""
    world, total = len(shares), sum(map(len, shares))
    if isinstance(like, list):
        return [shares[i % world][i // world] for i in range(total)]
    is_array = isinstance(like, np.ndarray)
    joined: Any = (np if is_array else torch).empty((total, *like.shape[1:]), dtype=like.dtype)
    for rank, share in enumerate(shares):
        joined[rank::world] = share
    return joined if is_array else joined.to(like.device)


def run_evaluator(
    evaluator: Any,
    model: SentenceTransformer,
    folder: str | None,
    epoch: float,
    step: int,
    kept: KeptTokens | None = None,
) -> dict[str, float]:
    """An evaluator's metrics, each with `eval_` in front.

    Args:
        evaluator: The evaluator.
        model: What it measures.
        folder: Where its csv files are; None for none. Only the first process writes.
        epoch: For the csv files.
        step: For the csv files.
        kept: Token ids of earlier evaluations, which have the same texts; None to forget them.
    """
    first = get_rank() == 0
    with encode_shared(model), keeping_tokens(model.modules(), kept or KeptTokens()):
        found = evaluator(model, output_path=folder if first else None, epoch=epoch, steps=step)
    found = over_processes(found)[0]
    metrics: Mapping[str, float] = found if isinstance(found, dict) else {"evaluator": found}
    return {f"eval_{key.removeprefix('eval_')}": value for key, value in metrics.items()}
