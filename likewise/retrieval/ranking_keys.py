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


NO_KEY = int(pack(torch.tensor(-torch.inf), torch.tensor(_ID_BITS)))


def no_keys(num_queries: int, k: int, device: torch.device) -> Tensor:
    """(Q, K) keys of nothing: below every other key."""
    return torch.full((num_queries, k), NO_KEY, dtype=torch.int64, device=device)


class BestKeys:
    """The best keys of some queries, as more are added.

    Args:
        keys: (Q, W) descending: those known so far, and how many are kept.
        k: The K-th best tells what is worth adding; W by default.
    """

    def __init__(self, keys: Tensor, k: int | None = None) -> None:
        self._keys = keys
        self._k = k or keys.shape[1]
        self._is_eager = False  # to know thresholds
        self._buffer = keys[:, :0]  # what was added, and ...
        self._filled = torch.zeros(
            len(keys), dtype=torch.int64, device=keys.device
        )  # ... how much of it for each query

    def worst(self) -> Tensor:
        """(Q, 1): the K-th best score, but for what was added lately; -inf for none."""
        return unpack_scores(self._keys[:, self._k - 1 : self._k])

    def places(
        self, scores: Tensor, threshold: Tensor, margin: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows and columns of those of a tile's scores (Q, M) that are worth adding.

        Args:
            scores: float32 or bfloat16; -inf for excluded pairs.
            threshold: (Q, 1) float32: lower ones are not.
            margin: (Q, 1) float32: how far below the tile's K-th best they may be; 0 by default.
        """
        if scores.shape[1] > self._k and bool((threshold <= LOWEST).any()):
            self._is_eager = True
            of_tile = scores.topk(self._k, dim=1).values[:, -1:].float()
            threshold = torch.maximum(threshold, of_tile if margin is None else of_tile - margin)
        found = _at_least(scores, threshold)
        return found // scores.shape[1], found % scores.shape[1]

    def add(self, rows: Tensor, keys: Tensor) -> None:
        """Add keys (P,) of queries (P,), ascending."""
        if not len(rows):
            return
        counts = torch.bincount(rows, minlength=len(self._keys))
        most = int((self._filled + counts).max())
        if most > self._buffer.shape[1]:
            self._merge()
            most = int(counts.max())
        if most > self._buffer.shape[1]:
            width = max(most, self._keys.shape[1])
            self._buffer = no_keys(len(self._keys), width, rows.device)
        place = torch.arange(len(rows), device=rows.device) + (self._filled - counts.cumsum(0) + counts)[rows]
        self._buffer[rows, place] = keys
        self._filled += counts
        if self._is_eager:
            self._merge()
            self._is_eager = False

    def keys(self) -> Tensor:
        """(Q, W) descending."""
        self._merge()
        return self._keys

    def _merge(self) -> None:
        most = int(self._filled.max())
        if most:
            added = self._buffer[:, :most]
            self._keys = largest(torch.cat([self._keys, added], dim=1), self._keys.shape[1])
            added.fill_(NO_KEY)
            self._filled.zero_()


def _at_least(scores: Tensor, threshold: Tensor) -> Tensor:
    """Where scores (Q, M), float32 or bfloat16, reach thresholds (Q, 1), as places in the flattened scores; never where one is -inf."""
    if scores.dtype == torch.bfloat16:
        threshold = threshold - threshold.abs() * 2.0**-8  # stays below when it is rounded
    threshold = threshold.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    if scores.device.type != "cpu":
        return (scores >= threshold).reshape(-1).nonzero().squeeze(1)
    # NumPy compares, and finds few among many, much faster than torch.
    if scores.dtype == torch.float32:
        return torch.from_numpy(np.flatnonzero(scores.numpy() >= threshold.numpy()))
    if bool((threshold > 0).all()):
        # It has no bfloat16, but positive ones are in the order of the whole numbers of the same bits, and above all negative ones.
        bits, needed = scores.view(torch.int16).numpy(), threshold.view(torch.int16).numpy()
        return torch.from_numpy(np.flatnonzero(bits >= needed))
    return torch.from_numpy(np.flatnonzero((scores >= threshold).numpy()))


def largest(keys: Tensor, k: int) -> Tensor:
    """The K largest of each row of keys (Q, W), descending."""
    if keys.device.type == "cpu":  # NumPy sorts whole numbers faster than torch
        return torch.from_numpy(np.sort(keys.numpy(), axis=1)[:, : -k - 1 : -1].copy())
    return keys.topk(k, dim=1).values


def last_scores(keys: Tensor) -> Tensor:
    """The scores of the last of the keys (Q, K): (Q, 1)."""
    return unpack_scores(keys[:, -1:])
