"""Random keep-masks for dropout, drawn sixteen bits at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 1 << 16


def keep_mask(shape: Sequence[int], drop: float, like: Tensor) -> Tensor:
    """A mask to multiply with, of the dtype and device of `like`: 0 with probability `drop`, else 1 / (1 - drop).

    On the CPU torch draws a 53-bit number for every entry, which takes longer than most of what surrounds a dropout.
    Here one 64-bit draw serves four entries; `drop` is met to 1 / 65,536, and the scale is that of the probability
    that is really drawn, so that the expectation is exact.
    """
    if like.device.type != "cpu":
        return torch.empty(*shape, dtype=like.dtype, device=like.device).bernoulli_(1 - drop).div_(1 - drop)
    dropped = round(drop * LEVELS)
    size = torch.Size(shape).numel()
    words = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    kept = words.view(torch.int16)[:size] >= dropped - LEVELS // 2
    return kept.view(*shape).to(like.dtype).mul_(LEVELS / (LEVELS - dropped))
