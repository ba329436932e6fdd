"""Multiple negatives: is each anchor's positive ahead of other rows' texts, and of its own negatives?

    loss = - mean over the rows of log softmax(scale * sigmoid(s))_positive

over the row's positive, some positives and negatives of other rows, and its own negatives.

Reference: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
https://arxiv.org/abs/2101.06983, for the cached form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from likewise.checked import number, positive, positive_or_none
from likewise.cross_encoder.losses.base import Columns, Labels, Loss, PairLists, check_rows
from likewise.engine.embed import Embed


class MultipleNegativesRankingLoss(Loss):
    """Anchors with a positive each, and any number of hard negatives; without labels.

    Args:
        model: The CrossEncoder that is trained.
        num_negatives: How many texts of other rows each anchor is compared with, drawn anew for each batch by
            torch's random state, in the trainer by its seed and the batch's rows; None for all of them, which takes time that grows with the square of the batch.
        scale: Multiplies the scores (an inverse temperature); 0 or None for none.
        activation_fn: Applied to the scores; None for none.
    """

    cites = "oord2019representationlearningcontrastivepredictive"
    takes = (Columns(("anchor", "positive"), more="negative", in_batch_negatives=True),)
    config_keys: ClassVar[tuple[str, ...]] = ("scale", "num_negatives", "activation_fn")

    def __init__(
        self,
        model: Any,
        num_negatives: int | None = 4,
        scale: float | None = 10.0,
        activation_fn: nn.Module | None = nn.Sigmoid(),  # noqa: B008 - it has no state
    ) -> None:
        super().__init__(model, activation_fn)
        self.num_negatives = positive_or_none(
            num_negatives, "num_negatives", "None takes all texts of a batch."
        )
        number(scale or 0, "scale", "10 suits a sigmoid.")
        self.scale = scale

    def pairs(self, inputs: Sequence[Sequence[Any]], generator: torch.Generator | None = None) -> PairLists:
        """Row by row, the anchor with its positive, with texts of other rows, and with its own negatives."""
        if len(inputs) < 2:
            raise ValueError(
                f"{type(self).__name__} takes {self.takes[0].describe()}; but got {len(inputs)} columns."
            )
        check_rows(self, inputs)
        anchors, *columns = inputs
        candidates = [text for column in columns for text in column]
        drawn = self.drawn(len(anchors), len(columns), generator).tolist()
        pairs, num_rows = [], len(anchors)
        for row, anchor in enumerate(anchors):
            own = [row + num_rows * column for column in range(1, len(columns))]
            pairs += [(anchor, candidates[place]) for place in (row, *drawn[row], *own)]
        return PairLists(pairs, torch.full((num_rows,), len(pairs) // max(1, num_rows)))

    def drawn(self, num_rows: int, num_columns: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, m): texts of other rows for each anchor, by their place in the positives and negatives, end to end."""
        others = ~torch.eye(num_rows, dtype=torch.bool).repeat(1, num_columns)  # (B, B * columns)
        available = (num_rows - 1) * num_columns
        if self.num_negatives is not None and self.num_negatives < available:
            return torch.multinomial(others.float(), self.num_negatives, generator=generator)
        places = torch.arange(num_rows * num_columns).expand(num_rows, -1)
        return places[others].view(num_rows, available)

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, each row's positive first -> scalar, in nats."""
        rows = self.activation_fn(scores.view(len(lengths), -1))
        if self.scale:
            rows = rows * self.scale
        return cross_entropy(rows, torch.zeros(len(rows), dtype=torch.long, device=rows.device))


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """The same loss in the memory of one mini-batch: pairs are scored in chunks that are recomputed in the backward pass.

    Args:
        model: The CrossEncoder that is trained.
        num_negatives: See MultipleNegativesRankingLoss.
        scale: See there.
        activation_fn: See there.
        mini_batch_size: Pairs of a chunk if all were as long as the batch's longest.
        show_progress_bar: Whether to show a bar over the chunks.
    """

    cites = "gao2021scaling"
    config_keys = (*MultipleNegativesRankingLoss.config_keys, "mini_batch_size")

    def __init__(
        self,
        model: Any,
        num_negatives: int | None = 4,
        scale: float | None = 10.0,
        activation_fn: nn.Module | None = nn.Sigmoid(),  # noqa: B008 - it has no state
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model, num_negatives, scale, activation_fn)
        self.mini_batch_size = positive(mini_batch_size, "mini_batch_size", "32 is the default.")
        self.own_score = Embed(
            output="scores", recompute_rows=mini_batch_size, show_progress_bar=show_progress_bar
        )
