"""ContrastiveLoss: similar pairs near, dissimilar pairs at least a margin apart; OnlineContrastiveLoss: only the hard ones.

    loss = mean over pairs of 1/2 * (label * d ** 2 + (1 - label) * max(0, margin - d) ** 2)
    online loss = sum of d ** 2 over positives farther than the nearest negative
                + sum of max(0, margin - d) ** 2 over negatives nearer than the farthest positive

Reference: Hadsell, Chopra and LeCun 2006, Dimensionality Reduction by Learning an Invariant Mapping,
https://doi.org/10.1109/CVPR.2006.100, equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from torch import Tensor
from torch.nn.functional import cosine_similarity, pairwise_distance, relu

from likewise.losses.base import Columns, Label, Loss, one_label_per_row
from likewise.losses.gather import join_processes
from likewise.losses.triplet import Distance
from likewise.similarity import to_float_tensor
from likewise.types import Encoder


class SiameseDistanceMetric:
    """Distances of two aligned batches: (B, D), (B, D) -> (B,)."""

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """The length of the difference."""
        return pairwise_distance(x, y, p=2)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """The sum of the absolute differences."""
        return pairwise_distance(x, y, p=1)

    @staticmethod
    def COSINE_DISTANCE(x: Tensor, y: Tensor) -> Tensor:
        """1 - cosine, in [0, 2]."""
        return 1 - cosine_similarity(x, y)


@dataclass(eq=False, repr=False)
class ContrastiveLoss(Loss):
    """Pairs of texts, each similar (1) or not (0).

    Prefer OnlineContrastiveLoss, which learns from the hard pairs of a batch; for similar pairs only,
    MultipleNegativesRankingLoss.

    Args:
        model: The model to train.
        distance_metric: Distance of two aligned batches.
        margin: Dissimilar pairs at this distance or beyond cost nothing; > 0, in units of the distance.
        size_average: True for the mean over pairs, False for the sum.
    """

    takes = (Columns(("sentence1", "sentence2"), label=Label.BINARY),)
    cites = "hadsell2006dimensionality"

    model: Encoder
    distance_metric: Distance = SiameseDistanceMetric.COSINE_DISTANCE
    margin: float = 0.5
    size_average: bool = True

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) labels -> scalar, >= 0. Labels between 0 and 1 weigh the two terms."""
        labels = one_label_per_row(self, labels, embeddings)
        distances = self.distance_metric(*(to_float_tensor(embedding) for embedding in embeddings))
        labels = labels.to(distances.dtype)
        losses = 0.5 * (labels * distances.square() + (1 - labels) * relu(self.margin - distances).square())
        return losses.mean() if self.size_average else losses.sum()


@dataclass(eq=False, repr=False)
class OnlineContrastiveLoss(Loss):
    """Pairs of texts, each similar (1) or not (0); only the pairs that a threshold could not tell apart count.

    A batch of one class keeps the pairs beyond its own mean distance (positives), or within it (negatives). The loss is
    a sum: larger batches weigh more.

    Args:
        model: The model to train.
        distance_metric: Distance of two aligned batches.
        margin: Dissimilar pairs at this distance or beyond cost nothing; > 0, in units of the distance.
        gather_across_devices: Whether the hard pairs are chosen among those of all processes.
    """

    takes = ContrastiveLoss.takes
    config_keys = ("distance_metric", "margin")

    model: Encoder
    distance_metric: Distance = SiameseDistanceMetric.COSINE_DISTANCE
    margin: float = 0.5
    _: KW_ONLY
    gather_across_devices: bool = False

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) labels, 0 or 1 -> scalar, >= 0."""
        labels = one_label_per_row(self, labels, embeddings)
        distances = self.distance_metric(*(to_float_tensor(embedding) for embedding in embeddings))
        # Every process computes the loss of all pairs: what they derive for a pair adds up to its gradient.
        distances, labels = join_processes([distances, labels], self.gather_across_devices).tensors
        positives, negatives = distances[labels == 1], distances[labels == 0]
        hard_positives = positives[positives > (negatives.min() if len(negatives) else positives.mean())]
        hard_negatives = negatives[negatives < (positives.max() if len(positives) else negatives.mean())]
        return hard_positives.square().sum() + relu(self.margin - hard_negatives).square().sum()
