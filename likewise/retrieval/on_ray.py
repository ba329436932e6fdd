"""Pieces of work on the workers of a Ray cluster, by Ray Data.

What a worker held when it died is done again by another: a piece of work should leave its result in a file, complete or not
at all, and leave alone what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from likewise.checked import needed, positive


def each_on_ray(work: Callable[[Any], object], items: Sequence[Any], num_workers: int) -> Iterator[int]:
    """Do some work for each item; yields how many are done, each time one is.

    Joins the cluster that `RAY_ADDRESS` names, or starts one on this machine. Each worker has a processor core, and a GPU
    where the cluster has any.

    Args:
        work: What to do. It is sent to the workers, each of which keeps its copy.
        items: What to do it for; they are sent, too.
        num_workers: How many workers there are at most.

    Raises:
        ImportError: Ray is not installed.
        ValueError: There is no worker.
    """
    ray = needed("ray", "This needs Ray", "ray")
    needed("ray.data", "This needs Ray", "ray")
    positive(num_workers, "workers")
    if not items:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call, unused-ignore]
    numbers = ray.data.from_items(list(range(len(items))), override_num_blocks=len(items))
    done = numbers.map_batches(
        _Worker,
        fn_constructor_args=(work, list(items)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(num_workers, len(items))),
        num_gpus=min(1, int(has.get("GPU", 0))),
    )
    for count, _ in enumerate(done.iter_rows(), start=1):
        yield count


class _Worker:
    """Lives in a process of its own, and does one piece of work after the other."""

    def __init__(self, work: Callable[[Any], object], items: Sequence[Any]) -> None:
        self.work = work
        self.items = items

    def __call__(self, numbers: dict[str, Any]) -> dict[str, Any]:
        for number in numbers["item"].tolist():
            self.work(self.items[number])
        return numbers
