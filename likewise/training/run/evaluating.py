"""Evaluation in the course of training: mean losses, evaluators, and which metric tells the best checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from likewise.losses.gather import join_processes
from likewise.model.placement import on_cpu
from likewise.modules.text import KeptTokens, keeping_tokens
from likewise.processes import get_rank, get_world_size
from likewise.training.data.batch import Batch, num_rows
from likewise.training.data.reader import BatchReader

if TYPE_CHECKING:
    from likewise.model.model import Model


def mean_losses(
    measure: Callable[[Batch], Mapping[str, Tensor]], batches: Iterable[tuple[Batch, bool]]
) -> tuple[dict[str, float], int]:
    """The mean over rows of what `measure` gives for each batch; and the number of rows. `batches` say whether each counts."""
    sums: dict[str, float] = {}
    total_rows = 0
    for batch, counts in batches:
        size = num_rows(batch)
        values = measure(batch)
        if counts:
            total_rows += size
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * size
    everyone = over_processes((sums, total_rows))
    total = sum(rows for _, rows in everyone)
    names = dict.fromkeys(name for each, _ in everyone for name in each)
    means = {name: sum(each.get(name, 0.0) for each, _ in everyone) / max(total, 1) for name in names}
    return means, total


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
    rank, batches = get_rank(), iter(loader.batch_sampler)
    while round_of := list(islice(batches, get_world_size())):
        yield reader.__getitems__(round_of[min(rank, len(round_of) - 1)]), rank < len(round_of)


def over_processes(value: Any) -> list[Any]:
    """What every process has for this value, in their order."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(values, value)
    return values


@contextmanager
def encode_shared(model: Any) -> Iterator[None]:
    """Within this context the model's `encode` or `predict` does a share of a list's inputs on each process, and returns all."""
    world = get_world_size()
    if world == 1:
        yield
        return
    method = model.over_inputs
    run, rank = getattr(model, method), get_rank()

    def shared(inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        inputs = kwargs.pop("sentences", None) if inputs is None else inputs
        if inputs is None or model.is_singular_input(inputs) or len(inputs) < world:
            return run(inputs, *args, **kwargs)
        own = run(list(inputs[rank::world]), *args, **kwargs)
        if isinstance(own, Tensor | np.ndarray):
            return _all_rows(own, len(inputs), model.device)
        shares = over_processes(on_cpu(own))
        return [shares[i % world][i // world] for i in range(len(inputs))]

    setattr(model, method, shared)
    try:
        yield
    finally:
        delattr(model, method)


def _all_rows(own: Any, total: int, device: torch.device) -> Any:
    """The rows (total, D), or (total,), that the processes hold in turns, of which this one has its own: a tensor or an array, as those are."""
    world = get_world_size()
    # As bytes, since not every way between processes takes every type of number; and where such ways begin.
    given = torch.as_tensor(own)
    rows = (given if given.ndim > 1 else given.unsqueeze(1)).contiguous()
    sent = rows.view(torch.uint8).to("cpu" if distributed.get_backend() == "gloo" else device)
    everyone = join_processes([sent]).tensors[0].to(rows.device)
    found = torch.empty(total, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    sizes = [len(range(rank, total, world)) for rank in range(world)]
    for rank, share in enumerate(everyone.split(sizes)):
        found[rank::world] = share.view(rows.dtype)
    found = found.reshape(total, *given.shape[1:])
    return found.numpy() if isinstance(own, np.ndarray) else found


def run_evaluator(
    evaluator: Any,
    model: Model,
    folder: str | None,
    epoch: float,
    step: int,
    kept: KeptTokens | None = None,
    prefix: str = "eval",
) -> dict[str, float]:
    """An evaluator's metrics, each with the prefix and `_` in front.

    Args:
        folder: Where its csv files are, with epoch and step; made where it is not there. None for none. Only the first process writes.
        kept: Token ids of earlier evaluations, which have the same texts; None to forget them.
    """
    first = get_rank() == 0
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
    with encode_shared(model), keeping_tokens(model.modules(), kept or KeptTokens()):
        found = evaluator(model, output_path=folder if first else None, epoch=epoch, steps=step)
    found = over_processes(found)[0]
    metrics: Mapping[str, float] = found if isinstance(found, dict) else {"evaluator": found}
    return {f"{prefix}_{key.removeprefix(f'{prefix}_')}": value for key, value in metrics.items()}
