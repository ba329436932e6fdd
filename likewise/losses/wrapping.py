"""What losses around another loss have in common: they transform the embeddings that the inner `compute` gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from likewise.engine.embed import Batch, Embed
from likewise.losses.base import Loss, LossValue, computes_from_embeddings
from likewise.types import Encoder


class LossAround(Loss):
    """A loss around another one. It takes what the inner one takes; a subclass writes `compute`.

    Args:
        model: The model to train, the same as the inner loss's.
        loss: The inner loss: any of this package, cached or around another one itself; or one with the method
            `compute_loss_from_embeddings(embeddings, labels)`.

    Raises:
        TypeError: The inner loss does not compute from embeddings.
    """

    loss: Loss

    def __init__(self, model: Encoder, loss: Any) -> None:
        self.model, self.loss = model, loss
        super().__init__(model)

    def __post_init__(self) -> None:
        super().__post_init__()
        loss: nn.Module = self.loss
        self.inner_name = type(loss).__name__
        if not isinstance(loss, Loss):
            loss = _Foreign(self.model, loss)
        elif not computes_from_embeddings(loss):
            raise TypeError(
                f"`loss` is a {self.inner_name}, whose own `forward` nothing would call inside {type(self).__name__}. Write "
                "`compute(embeddings, labels)` in its place."
            )
        self.loss = loss
        self.takes = loss.takes
        self.mask_duplicates = loss.mask_duplicates

    @property
    def embed(self) -> Embed:
        return self.loss.embed

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        return self.loss.read(batch, embed)

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        return self.loss.context(batch, embed)

    def cut_labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        return self.loss.cut_labels(labels, size)

    def get_config_dict(self) -> dict[str, Any]:
        """The inner loss's name and the arguments of this one, for the model card."""
        return {"loss": self.inner_name} | super().get_config_dict()


class _Foreign(Loss):
    """A loss from elsewhere that computes from embeddings."""

    takes = ()
    model_type = None

    def __init__(self, model: Encoder, loss: nn.Module) -> None:
        super().__init__(model)
        kind = "class" if isinstance(loss, type) else type(loss).__name__
        if kind == "class" or not callable(getattr(loss, "compute_loss_from_embeddings", None)):
            raise TypeError(
                f"`loss` must be a loss that computes from embeddings, but is a {kind}. Derive it from "
                "`likewise.losses.base.Loss`, and write `takes` and `compute(embeddings, labels)`."
            )
        self.loss: Any = loss

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> LossValue:
        value: LossValue = self.loss.compute_loss_from_embeddings(list(embeddings), labels)
        return value


def weighted_sum(values: Sequence[tuple[float, LossValue]]) -> LossValue:
    """The sum of values, each times its weight; of named values name by name."""
    first = values[0][1]
    if isinstance(first, Tensor):
        total: Tensor = sum(
            (weight * value for weight, value in values if isinstance(value, Tensor)), first.new_zeros(())
        )
        return total
    return {name: weighted_sum([(weight, value[name]) for weight, value in values]) for name in first}  # type: ignore[call-overload, index, misc]
