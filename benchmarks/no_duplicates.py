"""NO_DUPLICATES over ten million rows: seconds to begin an epoch, and its exact length; `--against` the reference's.

python benchmarks/no_duplicates.py
python benchmarks/no_duplicates.py --rows 100000 --against
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from datasets import Dataset

from likewise.training.samplers.no_duplicates import NoDuplicatesBatchSampler


def made(rows: int, repeats: float) -> Dataset:
    """Questions and answers of about fifty bytes; a share of the answers stand in several rows."""
    random = np.random.default_rng(0)
    few = random.integers(0, max(int(rows * 0.05), 1), rows)
    numbers = np.where(random.random(rows) < repeats, few, np.arange(rows) + rows)
    columns = {
        "question": [f"what is known about the matter with the number {n}?" for n in range(rows)],
        "answer": [f"it is written in the book on page {n} of the volume" for n in numbers.tolist()],
    }
    return Dataset(pa.table(columns))


def timed(sampler: Any) -> tuple[float, float, int]:
    """Seconds to the first batch and to the last, and the number of batches."""
    start = time.perf_counter()
    batches = iter(sampler)
    next(batches)
    first = time.perf_counter() - start
    count = 1 + sum(1 for _ in batches)
    return first, time.perf_counter() - start, count


def main(
    rows: Annotated[int, typer.Option(help="Rows of the data set.")] = 10_000_000,
    batch_size: Annotated[int, typer.Option(help="Rows in a batch.")] = 128,
    repeats: Annotated[
        float, typer.Option(help="Share of the rows whose answer stands in other rows too.")
    ] = 0.2,
    against: Annotated[bool, typer.Option(help="Run the reference's sampler too.")] = False,
) -> None:
    """Print one line for each sampler."""
    data = made(rows, repeats)
    kinds: dict[str, Any] = {
        "likewise": lambda: NoDuplicatesBatchSampler(data, batch_size, False),
        "likewise, folded": lambda: NoDuplicatesBatchSampler(data, batch_size, False, fold=True),
    }
    if against:
        from sentence_transformers.base.sampler import NoDuplicatesBatchSampler as Reference

        kinds["reference"] = lambda: Reference(data, batch_size, False)
    for name, make in kinds.items():
        start = time.perf_counter()
        sampler = make()
        ready = time.perf_counter() - start
        promised = len(sampler)
        first, last, count = timed(sampler)
        exact = "exact" if promised == count else f"promised {promised:,}"
        print(
            f"{name:<18} {rows:>12,} rows: made in {ready:6.2f} s, first batch after {first:6.2f} s, "
            f"all {count:,} batches ({exact}) after {last:6.2f} s"
        )


if __name__ == "__main__":
    typer.run(main)
