"""Mean squared error: how far is each score from a given one?

loss = mean over the pairs of (s - y)^2
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Columns, Label, Labels
from likewise.cross_encoder.losses.pairwise import PairLoss


class MSELoss(PairLoss):
    """Pairs of texts with a number each, such as another CrossEncoder's score (distillation).

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores; None for none.
        **kwargs: For `torch.nn.MSELoss`.
    """

    takes = (Columns(("first text", "second text"), label=Label.NUMBER),)

    def __init__(self, model: Any, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor | None = None) -> Tensor:
        """(T, 1) scores and (T,) numbers -> scalar."""
        scores = self.activation_fn(scores.view(-1))
        loss: Tensor = self.loss_fct(scores, self.one_label_per_pair(labels, scores).to(scores.dtype))
        return loss
