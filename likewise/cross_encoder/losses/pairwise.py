"""PairLoss: a loss that reads the score of each row's one pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.cross_encoder.losses.base import Labels, Loss, PairLists, two_columns


class PairLoss(Loss):
    """One pair a row, with a label. A subclass writes `compute`."""

    def pairs(self, inputs: Sequence[Sequence[Any]], generator: torch.Generator | None = None) -> PairLists:
        """Row by row, the first column's text with the second's."""
        first, second = two_columns(self, inputs)
        return PairLists(list(zip(first, second, strict=True)), torch.ones(len(first), dtype=torch.long))

    def lengths_of(self, labels: Labels, num_pairs: int) -> Tensor:
        """One pair a row."""
        return torch.ones(num_pairs, dtype=torch.long)

    def one_label_per_pair(self, labels: Labels, scores: Tensor) -> Tensor:
        """The labels as a tensor on the scores' device.

        Raises:
            ValueError: There are none, or not one for each pair.
        """
        found = "none" if labels is None else f"{len(labels)}"
        if isinstance(labels, Tensor):
            found = f"{labels.numel()} in a tensor of shape {tuple(labels.shape)}"
        if labels is None or (labels.numel() if isinstance(labels, Tensor) else len(labels)) != len(scores):
            raise ValueError(
                f"{type(self).__name__} takes {self.takes[0].label.value}, so {len(scores)} labels for this batch; but got "
                f"{found}. Name the label column of the data set 'label' or 'score'."
            )
        return torch.as_tensor(labels).to(scores.device).view(-1)
