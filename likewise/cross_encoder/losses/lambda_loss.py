"""LambdaLoss: order each query's documents as their labels do, weighed by what a wrong order costs the metric.

    loss = - mean over the chosen pairs (i, j) of the batch of W_ij * log sigmoid(sigma * (s_i - s_j))

i and j are places in the order of the scores, from 1. Chosen are those with y_i > y_j; with `k`, only where one of the two is
among the first k. With D(i) = log2(1 + i) and gains G_i = (2^y_i - 1) / maxDCG the weights are

    NoWeighting     1
    NDCGLoss1       G_i / D(i), for all pairs, i = j too
    NDCGLoss2       |1 / D(|i - j|) - 1 / D(|i - j| + 1)| * |G_i - G_j|
    LambdaRank      |1 / D(i) - 1 / D(j)| * |G_i - G_j|
    NDCGLoss2++     mu * NDCGLoss2 + LambdaRank

Reference: Wang et al. 2018, The LambdaLoss Framework for Ranking Metric Optimization, https://dl.acm.org/doi/10.1145/3269206.3271784.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import log
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from likewise.checked import number, one_of, positive
from likewise.cross_encoder.losses.base import Labels, by_length
from likewise.cross_encoder.losses.listwise import ListLoss


class BaseWeightingScheme(nn.Module, ABC):
    """What a pair of documents in the wrong order costs.

    A subclass writes `forward(gain, discount, true_sorted)`: gains (B, n), log2(1 + place) (1, n) and labels (B, n), in the
    order of the scores -> weights that broadcast to (B, n, n).
    """

    all_pairs: bool = False
    """Whether all pairs of documents are chosen, not only those whose labels differ."""

    @abstractmethod
    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """See the class."""


class NoWeightingScheme(BaseWeightingScheme):
    """All pairs weigh the same (RankNet)."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(1, 1, 1)."""
        return gain.new_ones(1, 1, 1)


class NDCGLoss1Scheme(BaseWeightingScheme):
    """The first document's gain at its place; of all pairs."""

    all_pairs = True

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(B, n, 1)."""
        return (gain / discount).unsqueeze(2)


class NDCGLoss2Scheme(BaseWeightingScheme):
    """The difference of gains, by how far the two are apart: a tighter bound on NDCG."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(B, n, n)."""
        places = torch.arange(1, gain.shape[1] + 1, device=gain.device)
        distance = (places.unsqueeze(1) - places).abs().to(gain.dtype)
        delta = (1 / torch.log2(1 + distance) - 1 / torch.log2(2 + distance)).abs()
        delta = torch.where(distance == 0, 0.0, delta)  # a document with itself
        return delta * _gain_differences(gain)


class LambdaRankScheme(BaseWeightingScheme):
    """The difference of gains, by what the two places are worth: how NDCG changes when they are exchanged."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(B, n, n)."""
        worth = 1 / discount
        return (worth.unsqueeze(2) - worth.unsqueeze(1)).abs() * _gain_differences(gain)


class NDCGLoss2PPScheme(BaseWeightingScheme):
    """NDCGLoss2 and LambdaRank together.

    Args:
        mu: How much NDCGLoss2 counts, where LambdaRank counts 1.
    """

    def __init__(self, mu: float = 10.0) -> None:
        super().__init__()
        number(mu, "mu", "10 is the default.")
        self.mu = mu
        self.ndcg_loss2 = NDCGLoss2Scheme()
        self.lambda_rank = LambdaRankScheme()

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(B, n, n)."""
        weights: Tensor = self.mu * self.ndcg_loss2(gain, discount, true_sorted)
        weights = weights + self.lambda_rank(gain, discount, true_sorted)
        return weights


class LambdaLoss(ListLoss):
    """A query with a list of documents and a list of labels; the lists may differ in length.

    Args:
        model: The CrossEncoder that is trained.
        weighting_scheme: What a wrong order costs; None for the same everywhere.
        k: Only pairs with a document among the first k count; None for all.
        sigma: Multiplies the differences of scores.
        eps: The least that the best possible DCG is taken for.
        reduction_log: "binary" for a loss in bits, "natural" in nats.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: See ListLoss.

    Raises:
        ValueError: `reduction_log` is another.
    """

    cites = "wang2018lambdaloss"
    config_keys: ClassVar[tuple[str, ...]] = (
        "weighting_scheme", "k", "sigma", "eps", "reduction_log", "activation_fn", "mini_batch_size",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        weighting_scheme: nn.Module | None = NDCGLoss2PPScheme(),  # noqa: B008 - it has no state
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: Literal["natural", "binary"] = "binary",
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        one_of(reduction_log, "reduction_log", ("natural", "binary"))
        positive(k or 0, "k", "None takes all documents.", least=0)
        for name, value in (("sigma", sigma), ("eps", eps)):
            number(value, name, "Drop it to take the default.")
        self.weighting_scheme = NoWeightingScheme() if weighting_scheme is None else weighting_scheme
        self.k = k
        self.sigma = sigma
        self.eps = eps
        self.reduction_log = reduction_log

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, a list of labels for each row, (B,) lengths -> scalar; 0 where no pair is chosen."""
        scores, targets = self.scores_and_labels(scores, labels, lengths)
        total, count = scores.sum() * 0, 0
        for places in by_length(lengths):
            chosen = self._terms(scores[places.to(scores.device)], targets[places.to(scores.device)])
            total, count = total - chosen.sum(), count + chosen.numel()
        loss = total / max(count, 1)
        return loss / log(2) if self.reduction_log == "binary" else loss

    def _terms(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Lists of equal length, (B, n) each -> the terms of the chosen pairs, (pairs,)."""
        length = scores.shape[1]
        k = self.k or length
        scores, order = scores.sort(descending=True, dim=1, stable=True)
        by_score = labels.gather(1, order)
        differs = by_score.unsqueeze(2) - by_score.unsqueeze(1) > 0
        chosen = torch.ones_like(differs) if _takes_all_pairs(self.weighting_scheme) else differs
        first = torch.arange(length, device=scores.device) < k
        chosen = chosen & (first.unsqueeze(1) | first)

        by_score = by_score.clamp(min=0)
        discount = torch.log2(torch.arange(2, length + 2, device=scores.device).to(scores.dtype)).unsqueeze(0)
        best = labels.sort(descending=True, dim=1).values.clamp(min=0)
        best_dcg = ((2**best - 1) / discount)[:, :k].sum(dim=1, keepdim=True).clamp(min=self.eps)
        weights = self.weighting_scheme((2**by_score - 1) / best_dcg, discount, by_score)
        differences = (scores.unsqueeze(2) - scores.unsqueeze(1)).clamp(min=-1e8, max=1e8)
        terms: Tensor = weights * logsigmoid(self.sigma * differences)
        return terms[chosen]


def _takes_all_pairs(scheme: nn.Module) -> bool:
    """A scheme that somebody else wrote chooses by labels."""
    return isinstance(scheme, BaseWeightingScheme) and scheme.all_pairs


def _gain_differences(gain: Tensor) -> Tensor:
    """(B, n) -> (B, n, n)."""
    return (gain.unsqueeze(2) - gain.unsqueeze(1)).abs()
