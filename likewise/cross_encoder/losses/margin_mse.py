"""Margin MSE: is the positive ahead of each negative by as much as a teacher says?

    loss = mean over the negatives of ((s_positive - s_negative) - margin)^2

Reference: Hofstätter et al. 2020, Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation,
https://arxiv.org/abs/2010.02666.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Columns, Label, Labels, Loss, PairLists, check_rows


class MarginMSELoss(Loss):
    """A query with a positive and one or more negatives, and a teacher's margins or scores.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores; None for none.
        **kwargs: For `torch.nn.MSELoss`.

    With k negatives a row's label is one margin (k = 1), k margins, or k + 1 scores, the positive's first.
    """

    cites = "hofstätter2021improving"
    takes = (
        Columns(
            ("query", "positive", "negative"), more="negative", label=Label.NUMBERS, fewer_numbers=(1, 2)
        ),
    )

    def __init__(self, model: Any, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def pairs(self, inputs: Sequence[Sequence[Any]], generator: torch.Generator | None = None) -> PairLists:
        """Row by row, the query with its positive and then with its negatives."""
        if len(inputs) < 3:
            raise ValueError(
                f"MarginMSELoss takes {self.takes[0].describe()}; but got {len(inputs)} columns beside the label."
            )
        check_rows(self, inputs)
        rows = list(zip(*inputs, strict=True))
        pairs = [(query, document) for query, *documents in rows for document in documents]
        return PairLists(pairs, torch.full((len(rows),), len(inputs) - 1))

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, 1) scores, row by row the positive's and its k negatives', and margins or scores -> scalar."""
        rows = self.activation_fn(scores.view(-1)).view(len(lengths), -1)  # (B, 1 + k)
        margins = self._margins(labels, len(lengths), rows.shape[1] - 1).to(rows)
        loss: Tensor = self.loss_fct(rows[:, :1] - rows[:, 1:], margins)
        return loss

    def _margins(self, labels: Labels, num_rows: int, num_negatives: int) -> Tensor:
        """(B, k)."""
        given = torch.empty(0)
        if labels is not None and len(labels):
            same = isinstance(labels, Tensor) or len({torch.as_tensor(label).shape for label in labels}) == 1
            if same:
                given = (
                    labels
                    if isinstance(labels, Tensor)
                    else torch.stack([torch.as_tensor(label) for label in labels])
                )
        if given.shape == (num_rows, num_negatives + 1):
            return given[:, :1] - given[:, 1:]
        if given.shape == (num_rows,) and num_negatives == 1:
            return given.unsqueeze(1)
        if given.shape == (num_rows, num_negatives):
            return given
        raise ValueError(
            f"MarginMSELoss with {num_negatives} negatives takes {num_negatives} margins or {num_negatives + 1} scores a row, "
            f"so {num_rows} rows of them; but the labels are "
            f"{'none' if labels is None else f'of shape {tuple(given.shape)}' if given.numel() else 'of different lengths'}."
        )
