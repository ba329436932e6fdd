"""TripletLoss: the anchor should be nearer to its positive than to its negative, by a margin.

    loss = mean over rows of max(0, d(anchor, positive) - d(anchor, negative) + margin)

Reference: Schroff et al. 2015, FaceNet, https://arxiv.org/abs/1503.03832, equation 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from torch.nn.functional import relu

from likewise.losses.base import Columns, Loss
from likewise.similarity import (
    pairwise_cos_sim,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    to_float_tensor,
)
from likewise.types import Encoder

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Distances of two aligned batches: (B, D), (B, D) -> (B,)."""


class TripletDistanceMetric:
    """Distances of two aligned batches: (B, D), (B, D) -> (B,)."""

    @staticmethod
    def COSINE(x: Tensor, y: Tensor) -> Tensor:
        """1 - cosine, in [0, 2]."""
        return 1 - pairwise_cos_sim(x, y)

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """The length of the difference."""
        return -pairwise_euclidean_sim(x, y)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """The sum of the absolute differences."""
        return -pairwise_manhattan_sim(x, y)


@dataclass(eq=False, repr=False)
class TripletLoss(Loss):
    """Rows of an anchor, a positive and a negative.

    Prefer MultipleNegativesRankingLoss, which compares each anchor with the documents of all rows besides.

    Args:
        model: The model to train.
        distance_metric: Distance of two aligned batches.
        triplet_margin: How much farther the negative should be, > 0, in units of the distance. 5 is made for Euclidean
            distances of embeddings that are not normalised; for normalised ones and for cosine take 0.1 to 1.
    """

    takes = (Columns(("anchor", "positive", "negative")),)
    cites = "hermans2017defense"

    model: Encoder
    distance_metric: Distance = TripletDistanceMetric.EUCLIDEAN
    triplet_margin: float = 5

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Three (B, D) batches -> scalar, >= 0."""
        anchors, positives, negatives = (to_float_tensor(embedding) for embedding in embeddings)
        excess = self.distance_metric(anchors, positives) - self.distance_metric(anchors, negatives)
        return relu(excess + self.triplet_margin).mean()
