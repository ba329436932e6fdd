"""A score and an id in one int64 that sorts by score, then by smaller id. Ranking becomes sorting whole numbers.

The upper 32 bits order as the float32 score does, the lower 32 bits hold 2**32 - 1 minus the id.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min  # stands for -inf, with which one cannot calculate
_ID_BITS = 2**32 - 1
_SIGN_FLIP = 0x7FFFFFFF  # negative floats sort backwards by their bits


def pack(scores: Tensor, ids: Tensor) -> Tensor:
    """float32 scores without NaN and int64 ids from 0 to 2**32 - 2 -> int64 keys."""
    bits = (scores + 0.0).view(torch.int32).long()  # adding 0 makes -0.0 and 0.0 one score
    ordered = torch.where(bits < 0, bits ^ _SIGN_FLIP, bits)
    return (ordered << 32) | (_ID_BITS - ids)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """int64 keys -> float32 scores and int64 ids; -inf and -1 for `NO_KEY`."""
    ids = _ID_BITS - (keys & _ID_BITS)
    return unpack_scores(keys), ids.masked_fill(ids == _ID_BITS, -1)


def unpack_scores(keys: Tensor) -> Tensor:
    """int64 keys -> float32 scores."""
    ordered = keys >> 32
    return torch.where(ordered < 0, ordered ^ _SIGN_FLIP, ordered).int().view(torch.float32)


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


def kth_score(keys: Tensor, k: int) -> Tensor:
    """(Q, 1): the K-th score of keys (Q, W), descending; -inf where there are fewer."""
    enough = keys.shape[1] >= k
    return unpack_scores(keys[:, k - 1 : k] if enough else keys.new_full((len(keys), 1), NO_KEY))


def kth_at_least(scores: Tensor, k: int) -> Tensor:
    """(Q, 1) float32: what the K-th best of scores (Q, M >= K) is at least.

    The largest of each of some groups are K different scores, and tell nearly as much as all.
    """
    size = max(1, scores.shape[1] // (8 * k))
    maxima = scores[:, : scores.shape[1] // size * size].view(len(scores), size, -1).amax(dim=1)
    return maxima.topk(k, dim=1).values[:, -1:].float()


def at_least(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns where scores (Q, M), float32 or bfloat16, reach thresholds (Q, 1); never where one is -inf."""
    if scores.dtype == torch.bfloat16:
        threshold = threshold - threshold.abs() * 2.0**-8  # stays below when it is rounded
    threshold = threshold.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    if scores.device.type != "cpu":
        hits = (scores >= threshold).reshape(-1).nonzero().squeeze(1)
        return hits // scores.shape[1], hits % scores.shape[1]
    # NumPy compares, and finds few among many, much faster than torch. It has no bfloat16, but positive ones are in the order
    # of the whole numbers of the same bits, and above all negative ones.
    if scores.dtype == torch.bfloat16 and bool((threshold > 0).all()):
        scores, threshold = scores.view(torch.int16), threshold.view(torch.int16)
    elif scores.dtype == torch.bfloat16:
        scores, threshold = scores.float(), threshold.float()
    hits = torch.from_numpy(np.flatnonzero(scores.numpy() >= threshold.numpy()))
    return hits // scores.shape[1], hits % scores.shape[1]
