"""Which entries dropout keeps, drawn sixteen bits at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 1 << 16


def keep_mask(shape: Sequence[int], drop: float, like: Tensor) -> tuple[Tensor, float]:
    """Which entries to keep, as ones and zeros, and what to multiply them with so that the expectation stays.

    On the CPU torch draws a 53-bit number for every entry, which takes longer than most of what surrounds a dropout.
    Here one 64-bit draw serves four entries; `drop` is met to 1 / 65,536, and the factor is that of the probability
    that is really drawn, so that the expectation is exact. A byte an entry, for what is kept until the backward pass.

    Args:
        shape: Of the mask.
        drop: Probability of a zero, in [0, 1).
        like: A tensor on whose device the mask is made.

    Returns:
        uint8 of that shape, and 1 / (1 - drop).
    """
    if like.device.type != "cpu":
        mask = torch.empty(*shape, dtype=torch.uint8, device=like.device)
        return mask.bernoulli_(1 - drop), 1 / (1 - drop)
    dropped = round(drop * LEVELS)
    size = torch.Size(shape).numel()
    words = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    kept = words.view(torch.int16)[:size] >= dropped - LEVELS // 2  # of numbers from -LEVELS / 2 on
    return kept.view(torch.uint8).view(*shape), LEVELS / (LEVELS - dropped)
