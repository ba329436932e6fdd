"""Two processes with a part of the rows each have the loss and the gradients of one process with all of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

ROWS, COLUMNS, FIRST = 5, 3, 3  # so many rows in the first process


def columns() -> list[TokenEmbeddings]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(COLUMNS):
        lengths = torch.randint(1, 6, (ROWS,), generator=generator).tolist()
        texts = [torch.randn(length, 4, generator=generator) for length in lengths]
        made.append(TokenEmbeddings.from_list(texts))
    return made


def value_and_gradients(rows: slice, gather: bool) -> tuple[Any, list[Any]]:
    loss = MultiVectorMultipleNegativesRankingLoss(torch.nn.Identity(), gather_across_devices=gather)
    parts = []
    for column in columns():
        part = column.select(torch.arange(ROWS)[rows])
        parts.append(TokenEmbeddings(part.vectors.detach().requires_grad_(), part.lengths))
    value = loss.compute(parts)
    value.backward()
    return value.detach(), [part.vectors.grad for part in parts]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(minutes=4)
    )
    rows = slice(0, FIRST) if rank == 0 else slice(FIRST, ROWS)
    torch.save(value_and_gradients(rows, True), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_train_as_one_with_the_joined_batch(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    value, gradients = value_and_gradients(slice(0, ROWS), False)
    torch.testing.assert_close((found[0][0] + found[1][0]) / 2, value)
    for number, expected in enumerate(gradients):
        # Data parallelism takes the mean over processes.
        joined = torch.cat([found[0][1][number], found[1][1][number]]) / 2
        torch.testing.assert_close(joined, expected)
