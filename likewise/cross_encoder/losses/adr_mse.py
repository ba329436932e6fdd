"""ADR-MSE: how far is each document's rank by score from its rank by label, the first ranks counting most?

    loss = mean over all documents of (p_i - q_i)^2 / log2(1 + p_i)

p_i is the rank by label, ties sharing the average; q_i = 1 + sum over j != i of sigmoid(alpha * (s_j - s_i)) is a smooth rank
by score.

Reference: Schlatt et al. 2025, Rank-DistiLLM, https://doi.org/10.1007/978-3-031-88714-7_31.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from likewise.checked import number
from likewise.cross_encoder.losses.base import Labels, by_length
from likewise.cross_encoder.losses.listwise import ListLoss


class ADRMSELoss(ListLoss):
    """A query with a list of documents and a list of labels, of which only the order counts.

    Args:
        model: The CrossEncoder that is trained.
        alpha: How steep the smooth rank is; larger is closer to the true one.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: See ListLoss.
    """

    cites = "schlatt2025rankdistillm"
    config_keys = ("alpha", "activation_fn", "mini_batch_size")

    def __init__(
        self,
        model: Any,
        alpha: float = 1.0,
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        number(alpha, "alpha", "1 is the default.")
        self.alpha = alpha

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, a list of labels for each row, (B,) lengths -> scalar."""
        scores, targets = self.scores_and_labels(scores, labels, lengths)
        total = scores.sum() * 0
        for places in by_length(lengths):
            there = places.to(scores.device)
            total = total + self._errors(scores[there], targets[there]).sum()
        return total / max(1, len(scores))

    def _errors(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Lists of equal length, (B, n) each -> (B, n)."""
        above = (labels.unsqueeze(1) > labels.unsqueeze(2)).sum(dim=2)
        tied = (labels.unsqueeze(1) == labels.unsqueeze(2)).sum(dim=2)
        ranks = above + (tied + 1) / 2
        ahead = torch.sigmoid(self.alpha * (scores.unsqueeze(1) - scores.unsqueeze(2)))
        smooth_ranks = 0.5 + ahead.sum(dim=2)  # a document is ahead of itself by a half
        return (ranks - smooth_ranks) ** 2 / torch.log2(1 + ranks)
