"""CoSENT: order pairs by their similarity as their labels order them; AnglE: the same with an angle for similarity.

    loss = log(1 + sum over (i, j) with label_i > label_j of exp(scale * (score_j - score_i)))

The sum over pairs of pairs is taken over the sorted labels, in O(B log B) time and O(B) memory.

References: Su 2022, https://kexue.fm/archives/8847; Huang et al. 2024, https://doi.org/10.1109/TASLP.2024.3402087. AnglE:
Li and Li 2023, https://arxiv.org/abs/2309.12871, equation 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from likewise.losses.base import Columns, Label, Loss, one_label_per_row
from likewise.losses.gather import join_processes
from likewise.similarity import Similarity, pairwise_angle_sim, pairwise_cos_sim, to_float_tensor
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class CoSENTLoss(Loss):
    """Pairs of texts with a number each; only the order of the numbers matters.

    The usual choice for graded similarity. Prefer CosineSimilarityLoss where the labels are the cosines you want,
    MultipleNegativesRankingLoss where there are positive pairs only.

    Args:
        model: The model to train.
        scale: Multiplies the scores (an inverse temperature), > 0.
        similarity_fct: Score of two aligned batches, (B, D), (B, D) -> (B,).
        gather_across_devices: Whether the pairs of all processes are put in order together.
    """

    takes = (Columns(("sentence1", "sentence2"), label=Label.NUMBER),)
    config_keys = ("scale", "similarity_fct")
    cites = "10531646"

    model: Encoder
    scale: float = 20.0
    similarity_fct: Similarity = pairwise_cos_sim
    _: KW_ONLY
    gather_across_devices: bool = False

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) labels -> scalar, in nats; 0 where every pair is in order by a wide margin."""
        labels = one_label_per_row(self, labels, embeddings)
        scores = self.scale * to_float_tensor(self.similarity_fct(*embeddings))  # (B,)
        # Every process computes the loss of all pairs: what they derive for a pair adds up to its gradient.
        scores, labels = join_processes([scores, labels], self.gather_across_devices).tensors
        labels, order = labels.to(torch.promote_types(labels.dtype, torch.uint8)).sort()
        scores = scores[order]
        # For each pair: the sum over the pairs with a higher label, which begin behind the last equal one.
        from_here = torch.logcumsumexp(-scores.flip(0), dim=0).flip(0)
        beyond = torch.cat([from_here, from_here.new_full((1,), -torch.inf)])
        terms = scores + beyond[torch.searchsorted(labels, labels, right=True)]
        return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), dim=0)


class AnglELoss(CoSENTLoss):
    """CoSENTLoss with the angle between embeddings, read as complex numbers, for similarity.

    Where the cosine saturates (near 1 and -1) its gradient vanishes, the angle's does not. Takes pairs with a number
    each; or rows of an anchor, a positive and negatives, where every positive counts as 1 and every negative as 0 (with
    labels: as the label, and 1 minus the label).

    Args:
        model: The model to train; its embedding size must be even.
        scale: Multiplies the scores (an inverse temperature), > 0.
        gather_across_devices: Whether the pairs of all processes are put in order together.
    """

    takes = (  # type: ignore[assignment]
        *CoSENTLoss.takes,
        Columns(("anchor", "positive", "negative"), more="negative"),
        Columns(
            ("anchor", "positive", "negative"), more="negative", label=Label.NUMBER, label_range=(0.0, 1.0)
        ),
    )
    cites = "li-li-2024-aoe"

    def __init__(self, model: Encoder, scale: float = 20.0, *, gather_across_devices: bool = False) -> None:
        super().__init__(model, scale, pairwise_angle_sim, gather_across_devices=gather_across_devices)

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) labels; or three and more, with or without labels -> scalar, in nats."""
        if len(embeddings) > 2:
            anchors, *others = embeddings
            labels = anchors.new_ones(len(anchors)) if labels is None else labels
            labels = one_label_per_row(self, labels, embeddings)
            labels = torch.cat([labels, *[1 - labels] * (len(others) - 1)])
            embeddings = (anchors.repeat(len(others), 1), torch.cat(others))
        return super().compute(embeddings, labels)
