"""PairBatch: a training batch of rows that have a list of pairs each, all in one TokenBatch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from likewise.engine.token_batch import TokenBatch


@dataclass(frozen=True)
class PairBatch:
    """B rows, each with a list of pairs of texts to score, tokenised ahead.

    Attributes:
        tokens: The T pairs, row by row.
        lengths: (B,) int64, on the CPU, how many pairs each row has.
    """

    tokens: TokenBatch
    lengths: Tensor

    @property
    def num_rows(self) -> int:
        """B, the rows of the batch."""
        return len(self.lengths)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same batch on another device."""
        return replace(self, tokens=self.tokens.to(device, non_blocking))
