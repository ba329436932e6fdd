"""A score and an id in one int64 that sorts by score, then by smaller id. Ranking becomes sorting whole numbers.

The upper 32 bits order as the float32 score does, the lower 32 bits hold 2**32 - 1 minus the id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_ID_BITS = 2**32 - 1
_SIGN_FLIP = 0x7FFFFFFF  # negative floats sort backwards by their bits


@dataclass(frozen=True)
class Ranking:
    """The best K documents of Q queries, best first.

    Attributes:
        scores: (Q, K) float32, descending; -inf where a query has fewer than K documents.
        ids: (Q, K) int64; -1 where a query has fewer than K documents.
    """

    scores: Tensor
    ids: Tensor


def pack(scores: Tensor, ids: Tensor) -> Tensor:
    """float32 scores without NaN and int64 ids from 0 to 2**32 - 2 -> int64 keys."""
    bits = (scores + 0.0).view(torch.int32).long()  # adding 0 makes -0.0 and 0.0 one score
    ordered = torch.where(bits < 0, bits ^ _SIGN_FLIP, bits)
    return (ordered << 32) | (_ID_BITS - ids)


def unpack(keys: Tensor) -> Ranking:
    """int64 keys -> float32 scores and int64 ids; -inf and -1 for `NO_KEY`."""
    ordered, ids = keys >> 32, _ID_BITS - (keys & _ID_BITS)
    scores = torch.where(ordered < 0, ordered ^ _SIGN_FLIP, ordered).int().view(torch.float32)
    return Ranking(scores, ids.masked_fill(ids == _ID_BITS, -1))


NO_KEY = int(pack(torch.tensor(-torch.inf), torch.tensor(_ID_BITS)))  # below every other


def largest(keys: Tensor, k: int) -> Tensor:
    """The K largest of each row of keys (Q, W), descending."""
    if keys.device.type == "cpu":  # NumPy sorts whole numbers faster than torch
        return torch.from_numpy(np.sort(keys.numpy(), axis=1)[:, : -k - 1 : -1].copy())
    return keys.topk(k, dim=1).values


def merged(keys: Tensor, rows: Tensor, more: Tensor) -> Tensor:
    """All keys of each row, descending: those of (Q, W), and `more` (P,) of these rows (P,), which ascend."""
    counts = torch.bincount(rows, minlength=len(keys))
    width = int(counts.max()) if len(rows) else 0
    added = keys.new_full((len(keys), width), NO_KEY)
    column = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    added[rows, column] = more
    return largest(torch.cat([keys, added], dim=1), keys.shape[1] + width)


def at_least(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns where scores (Q, M) reach thresholds (Q, 1) float32; never where one is -inf."""
    threshold = threshold.clamp(min=torch.finfo(torch.float32).min)
    if scores.device.type != "cpu":
        hits = (scores >= threshold).reshape(-1).nonzero().squeeze(1)
    else:  # NumPy compares, and finds few among many, much faster than torch
        is_positive = scores.dtype == torch.bfloat16 and bool((threshold > 0).all())
        if is_positive:  # bits order as positive numbers do; a threshold cut off is lower, and misses none
            scores, threshold = scores.view(torch.int16), (threshold.view(torch.int32) >> 16).short()
        values = scores.numpy() if is_positive else scores.float().numpy()
        hits = torch.from_numpy(np.flatnonzero(values >= threshold.numpy()))
    return hits // scores.shape[1], hits % scores.shape[1]
