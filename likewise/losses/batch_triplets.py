"""Triplet losses that form their triplets within a batch, from texts with a class each.

With d the distances of all rows, m the margin, p the rows of the anchor's class (without itself), n the others:

    all:        sum over (a, p, n) of max(0, d(a, p) - d(a, n) + m) / number of positive terms
    hard:       mean over a of max(0, max over p of d(a, p) - min over n of d(a, n) + m)
    soft margin: mean over a of log(1 + exp(max over p of d(a, p) - min over n of d(a, n)))
    semi-hard:  mean over (a, p) of max(0, d(a, p) - d(a, n*) + m), n* the nearest n farther than p, or else the farthest

References: Hermans, Beyer and Leibe 2017, https://arxiv.org/abs/1703.07737, equations 5 to 7; Schroff et al. 2015, FaceNet,
https://arxiv.org/abs/1503.03832, section 3.2 (semi-hard).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from likewise.losses.base import Columns, Label, Loss, one_label_per_row
from likewise.losses.gather import join_processes
from likewise.similarity import cos_sim, to_float_tensor
from likewise.types import Encoder

AllDistances: TypeAlias = Callable[[Tensor], Tensor]
"""Distances of all pairs of rows: (B, D) -> (B, B)."""
TINY = 1e-16


class BatchHardTripletLossDistanceFunction:
    """Distances of all pairs of rows: (B, D) -> (B, B)."""

    @staticmethod
    def cosine_distance(embeddings: Tensor) -> Tensor:
        """1 - cosine, in [0, 2]."""
        return 1 - cos_sim(embeddings, embeddings)

    @staticmethod
    def euclidean_distance(embeddings: Tensor, squared: bool = False) -> Tensor:
        """The length of the difference, or its square; its gradient is 0 where it is 0."""
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = to_float_tensor(embeddings)
            products = rows @ rows.T
        norms = products.diagonal()
        squares = relu(norms[None, :] - 2.0 * products + norms[:, None])
        if squared:
            return squares
        apart = squares > 0
        return torch.where(apart, squares, 1.0).sqrt() * apart

    eucledian_distance = euclidean_distance


@dataclass(eq=False, repr=False)
class BatchTripletLoss(Loss, ABC):
    """What the four have in common: distances of all rows, and which rows are of one class.

    Args:
        model: The model to train.
        distance_metric: Distances of all pairs of rows.
        margin: As in the formulas.
        gather_across_devices: Whether triplets are formed over the rows of all processes.
    """

    takes = (Columns(("sentence",), label=Label.CLASS, in_batch_negatives=True),)
    never_called = frozenset({
        "batch_all_triplet_loss", "batch_hard_triplet_loss", "batch_hard_triplet_soft_margin_loss",
        "batch_semi_hard_triplet_loss", "get_triplet_mask", "get_anchor_positive_triplet_mask",
        "get_anchor_negative_triplet_mask",
    })  # fmt: skip
    config_keys: ClassVar[tuple[str, ...]] = ("distance_metric", "margin")
    cites = "hermans2017defense"

    model: Encoder
    distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance
    margin: float = 5
    _: KW_ONLY
    gather_across_devices: bool = False

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """One (B, D) batch and (B,) classes -> scalar, >= 0."""
        labels = one_label_per_row(self, labels, embeddings)
        # Every process computes the loss of the joined batch: what they derive for a row adds up to its gradient.
        joined = join_processes([to_float_tensor(embeddings[0]), labels], self.gather_across_devices)
        embedding, labels = joined.tensors
        return self.mine(self.distance_metric(embedding), labels[:, None] == labels[None, :])

    @abstractmethod
    def mine(self, distances: Tensor, same: Tensor) -> Tensor:
        """(B, B) distances, and (B, B) whether two rows are of one class -> scalar."""


class BatchAllTripletLoss(BatchTripletLoss):
    """Texts with a class each; every valid triplet of the batch counts.

    Draw batches with several texts of a class (`batch_sampler="group_by_label"`). Prefer BatchHardTripletLoss where
    most triplets are easy; BatchSemiHardTripletLoss where the hardest are label errors.

    Args:
        model: The model to train.
        distance_metric: Distances of all pairs of rows.
        margin: How much farther negatives should be, > 0, in units of the distance.
        gather_across_devices: Whether triplets are formed over the rows of all processes.
    """

    def mine(self, distances: Tensor, same: Tensor) -> Tensor:
        """Mean over the triplets that cost something; 0 where there are none.

        A distance counts once for each triplet with a positive term that it is part of; those are counted by sorting,
        in O(B**2 log B) time and O(B**2) memory, instead of forming the triplets.
        """
        positive = same ^ torch.eye(len(same), dtype=torch.bool, device=same.device)
        reach = (distances + self.margin).detach()
        negatives = distances.detach().masked_fill(same, torch.inf).sort(dim=1).values
        of_positives = (
            torch.searchsorted(negatives, reach) * positive
        )  # negatives nearer than the positive's reach
        reaches = reach.masked_fill(~positive, -torch.inf).sort(dim=1).values
        within = torch.searchsorted(reaches, distances.detach().contiguous(), right=True)
        of_negatives = (len(same) - within) * ~same  # positives that reach beyond the negative
        total = ((of_positives - of_negatives).to(distances.dtype) * distances).sum()
        count = of_positives.sum().to(distances.dtype)
        return (total + self.margin * count) / (count + TINY)


class BatchHardTripletLoss(BatchTripletLoss):
    """Texts with a class each; every text with its farthest positive and its nearest negative.

    Draw batches with several texts of a class (`batch_sampler="group_by_label"`). The hardest triplets are also where
    wrong labels show: with noisy ones prefer BatchSemiHardTripletLoss or BatchAllTripletLoss.

    Args:
        model: The model to train.
        distance_metric: Distances of all pairs of rows.
        margin: How much farther the negative should be, > 0, in units of the distance.
        gather_across_devices: Whether triplets are formed over the rows of all processes.
    """

    def mine(self, distances: Tensor, same: Tensor) -> Tensor:
        """Mean over all rows."""
        return (_hardest_excess(distances, same) + self.margin).clamp(min=0).mean()


class BatchHardSoftMarginTripletLoss(BatchTripletLoss):
    """Texts with a class each; BatchHardTripletLoss without a margin: log(1 + exp(x)) in place of max(0, x + margin).

    It never stops pulling classes apart. Prefer BatchHardTripletLoss where you know how far apart is enough.

    Args:
        model: The model to train.
        distance_metric: Distances of all pairs of rows.
        gather_across_devices: Whether triplets are formed over the rows of all processes.
    """

    config_keys = ("distance_metric",)

    def __init__(
        self,
        model: Encoder,
        distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance,
        *,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, distance_metric, 0.0, gather_across_devices=gather_across_devices)

    def mine(self, distances: Tensor, same: Tensor) -> Tensor:
        """Mean over all rows."""
        return softplus(_hardest_excess(distances, same)).mean()


class BatchSemiHardTripletLoss(BatchTripletLoss):
    """Texts with a class each; every pair of a class with the nearest negative that is farther than the positive.

    Draw batches with several texts of a class (`batch_sampler="group_by_label"`). Milder than BatchHardTripletLoss: a
    wrong label that lies nearer than the positive is passed over.

    Args:
        model: The model to train.
        distance_metric: Distances of all pairs of rows.
        margin: How much farther the negative should be, > 0, in units of the distance.
        gather_across_devices: Whether triplets are formed over the rows of all processes.
    """

    def mine(self, distances: Tensor, same: Tensor) -> Tensor:
        """Mean over all pairs of a class; 0 where there are none."""
        negatives = distances.masked_fill(same, torch.inf).sort(dim=1, stable=True).values
        places = torch.searchsorted(negatives.detach(), distances.detach().contiguous(), right=True)
        farther = negatives.gather(1, places.clamp(max=len(same) - 1))
        nearest = distances.min(dim=1, keepdim=True).values
        farthest = ((distances - nearest) * ~same).max(dim=1, keepdim=True).values + nearest
        chosen = torch.where(torch.isfinite(farther), farther, farthest)
        positive = same ^ torch.eye(len(same), dtype=torch.bool, device=same.device)
        losses = relu((distances - chosen + self.margin) * positive)
        return losses.sum() / positive.sum().clamp(min=1)


def _hardest_excess(distances: Tensor, same: Tensor) -> Tensor:
    """(B,): the farthest positive's distance (0 without one) minus the nearest negative's.

    A row without negatives takes its own distance plus its largest, as the reference does.
    """
    positive = same ^ torch.eye(len(same), dtype=torch.bool, device=same.device)
    farthest_positive = (distances * positive).max(dim=1).values
    largest = distances.max(dim=1, keepdim=True).values
    nearest_negative = (distances + largest * same).min(dim=1).values
    return farthest_positive - nearest_negative
