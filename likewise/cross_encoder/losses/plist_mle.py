"""PListMLE: how likely is the right order, drawn document by document, the first places weighing most?

    loss = - mean over the queries of sum over the places r of w_r * (s_(r) - log sum over t >= r of exp(s_(t)))

(r) is the document at place r of the right order; the weights of a list, by default 2^(n - r) - 1, are made to sum to 1.

Reference: Lan et al. 2014, Position-Aware ListMLE: A Sequential Learning Process for Ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Labels, by_length
from likewise.cross_encoder.losses.listwise import ListLoss

LARGEST_POWER = 127  # of two, in float32


class PListMLELambdaWeight(nn.Module):
    """The weight of each place.

    Args:
        rank_discount_fn: Takes a mask (B, n) of True and gives weights (B, n); None for 2^(n - r) - 1.
    """

    def __init__(self, rank_discount_fn: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.rank_discount_fn = rank_discount_fn

    def forward(self, mask: Tensor) -> Tensor:
        """(B, n), True for a document -> (B, n). Weights of long lists are smaller by a power of two, so as to be finite."""
        if self.rank_discount_fn is not None:
            return self.rank_discount_fn(mask)
        length = mask.sum(dim=1, keepdim=True)
        ranks = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        scale = (length - LARGEST_POWER).clamp(min=0)
        return (2.0 ** (length - ranks - scale) - 2.0**-scale) * mask


class PListMLELoss(ListLoss):
    """A query with a list of documents in the right order; or in any, with labels to order them by.

    Args:
        model: The CrossEncoder that is trained.
        lambda_weight: The weights of the places; None for 1 each.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: See ListLoss.
        respect_input_order: Whether the documents come in the right order; False to order them by their labels.
    """

    eps = 1e-10

    cites = "lan2014position"
    config_keys: ClassVar[tuple[str, ...]] = (
        "lambda_weight",
        "activation_fn",
        "mini_batch_size",
        "respect_input_order",
    )

    def __init__(
        self,
        model: Any,
        lambda_weight: nn.Module | None = PListMLELambdaWeight(),  # noqa: B008 - it has no state
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        self.lambda_weight = lambda_weight
        self.respect_input_order = respect_input_order

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, a list of labels for each row, (B,) lengths -> scalar, in nats."""
        scores, targets = self.scores_and_labels(scores, labels, lengths)
        total = scores.sum() * 0
        for places in by_length(lengths):
            there = places.to(scores.device)
            total = total - self._log_likelihoods(scores[there], targets[there]).sum()
        return total / len(lengths)

    def _log_likelihoods(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Lists of equal length, (B, n) each -> (B, n), that of each place."""
        if not self.respect_input_order:
            scores = scores.gather(1, labels.argsort(descending=True, dim=1, stable=True))
        rest = scores.flip(1).logcumsumexp(dim=1).flip(1)  # of each document and those behind it
        likelihoods = scores - rest
        if self.lambda_weight is None:
            return likelihoods
        weights = self.lambda_weight(torch.ones_like(scores, dtype=torch.bool))
        weighted: Tensor = likelihoods * (weights / (weights.sum(dim=1, keepdim=True) + self.eps))
        return weighted
