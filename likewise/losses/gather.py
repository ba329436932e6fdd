"""Gather a batch across processes: every process sees the rows of all, and gradients find their way back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from likewise.processes import get_rank, get_world_size, is_dist_initialized

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """The rows of all processes.

    Attributes:
        tensors: Each (rows of all processes, ...), in the order of the processes.
        first: The number of this process's first row among them.
        weight: Multiplies a mean over this process's rows, so that the mean over processes, which data parallelism
            takes of gradients, is the mean over all rows. 1 where every process has as many rows.
    """

    tensors: list[Tensor]
    first: int = 0
    weight: float = 1.0

    def numbers(self, own: Tensor) -> Tensor:
        """(B,) the numbers of this process's rows, (B, ...), among all."""
        return self.first + torch.arange(len(own), device=own.device)


def join_processes(tensors: Sequence[Tensor], wanted: bool = True) -> Joined:
    """The tensors' rows, and those that the other processes hold.

    The gradient of a row is the sum of what all processes derive for it.

    Args:
        tensors: Each (B, ...), with the same B; it may differ between processes.
        wanted: False hands back the tensors as they are.
    """
    if not wanted or not is_dist_initialized():
        if wanted:
            _report_single()
        return Joined(list(tensors))
    sizes = _all_sizes(len(tensors[0]), tensors[0].device)
    rank = get_rank()
    return Joined(
        [_Gather.apply(tensor, sizes) for tensor in tensors],  # type: ignore[no-untyped-call]
        first=sum(sizes[:rank]),
        weight=sizes[rank] * len(sizes) / sum(sizes),
    )


@cache
def _report_single() -> None:
    logger.warning("`gather_across_devices` is without effect: there is only this process.")


def _all_sizes(size: int, device: torch.device) -> list[int]:
    sizes = torch.zeros(get_world_size(), dtype=torch.long, device=device)
    sizes[get_rank()] = size
    dist.all_reduce(sizes)
    return sizes.tolist()


class _Gather(torch.autograd.Function):
    """(B, ...) of each process -> (sum of all B, ...)."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        padded = pad(own, (0, 0) * (own.dim() - 1) + (0, longest - len(own))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.split(ctx.sizes)[get_rank()], None
