"""Binary cross-entropy: does the score say how likely the pair belongs together?

loss = - mean over the pairs of (y * log sigmoid(s) + (1 - y) * log(1 - sigmoid(s)))
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Columns, Label, Labels
from likewise.cross_encoder.losses.pairwise import PairLoss


class BinaryCrossEntropyLoss(PairLoss):
    """Pairs of texts with 0 or 1, or a probability; the usual loss of a model with one label.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores before the loss's own sigmoid; None for none.
        pos_weight: How much a positive pair counts, where a negative one counts 1; about negatives / positives evens them.
        **kwargs: For `torch.nn.BCEWithLogitsLoss`.

    Raises:
        TypeError: `pos_weight` is no tensor.
    """

    takes = (Columns(("first text", "second text"), label=Label.NUMBER, label_range=(0.0, 1.0)),)

    def __init__(
        self,
        model: Any,
        activation_fn: nn.Module | None = None,
        pos_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, activation_fn)
        if not isinstance(pos_weight, Tensor | None):
            raise TypeError(
                f"`pos_weight` must be a tensor, but is {pos_weight!r}. Pass `torch.tensor({pos_weight!r})`."
            )
        self.pos_weight = pos_weight
        self.bce_with_logits_loss = nn.BCEWithLogitsLoss(pos_weight=pos_weight, **kwargs)

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor | None = None) -> Tensor:
        """(T, 1) scores and (T,) labels in [0, 1] -> scalar, in nats."""
        scores = self.activation_fn(scores.view(-1))
        loss: Tensor = self.bce_with_logits_loss(
            scores, self.one_label_per_pair(labels, scores).to(scores.dtype)
        )
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        weight = None if self.pos_weight is None else self.pos_weight.item()
        return super().get_config_dict() | {"pos_weight": weight}
