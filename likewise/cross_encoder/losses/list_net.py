"""ListNet: the documents' chances to be first, by scores and by labels.

    loss = - mean over the queries of sum over the documents of softmax(y)_d * log softmax(s)_d

Reference: Cao et al. 2007, Learning to Rank: From Pairwise Approach to Listwise Approach.
"""

from __future__ import annotations

from torch import Tensor

from likewise.cross_encoder.losses.base import Labels, by_length
from likewise.cross_encoder.losses.listwise import ListLoss


class ListNetLoss(ListLoss):
    """A query with a list of documents and a list of labels; the lists may differ in length."""

    cites = "cao2007learning"

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, a list of labels for each row, (B,) lengths -> scalar, in nats."""
        scores, targets = self.scores_and_labels(scores, labels, lengths)
        total = scores.sum() * 0
        for places in by_length(lengths):
            there = places.to(scores.device)
            total = total - (targets[there].softmax(dim=1) * scores[there].log_softmax(dim=1)).sum()
        return total / len(lengths)
