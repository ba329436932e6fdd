"""A score and an id in one int64 that sorts by score, then by smaller id. Ranking becomes sorting whole numbers.

The upper 32 bits order as the float32 score does, the lower 32 bits hold 2**32 - 1 minus the id.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
