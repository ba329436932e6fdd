"""What losses around another loss have in common: they transform the embeddings that the inner `compute` gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from likewise.losses.base import Embedder, Features, Loss, LossValue, Run, run_whole, sentence_embeddings

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer


class LossAround(Loss):
    """A loss around another one. It takes what the inner one takes; a subclass writes `compute`.

    Args:
        model: The model to train, the same as the inner loss's.
        loss: The inner loss; any of this package, cached or around another one itself.

    Raises:
        TypeError: The inner loss is none of this package's.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module) -> None:
        super().__init__(model)
        if not isinstance(loss, Loss):
            raise TypeError(
                f"`loss` must be a loss that computes from embeddings, but is a {type(loss).__name__}. Derive it from "
                "`likewise.losses.base.Loss`, and write `takes` and `compute(embeddings, labels)`."
            )
        self.loss = loss
        self.takes = loss.takes

    def embed(
        self, columns: Features, run: Run = run_whole, embedder: Embedder = sentence_embeddings
    ) -> Sequence[Tensor]:
        """As the inner loss does."""
        return self.loss.embed(columns, run, embedder)

    def context(self, columns: Features, run: Run = run_whole) -> dict[str, Any]:
        """As the inner loss does."""
        return self.loss.context(columns, run)

    def cut_labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        """As the inner loss does."""
        return self.loss.cut_labels(labels, size)


def weighted_sum(values: Sequence[tuple[float, LossValue]]) -> LossValue:
    """The sum of values, each times its weight; of named values name by name."""
    first = values[0][1]
    if isinstance(first, Tensor):
        total: Tensor = sum(
            (weight * value for weight, value in values if isinstance(value, Tensor)), first.new_zeros(())
        )
        return total
    return {name: weighted_sum([(weight, value[name]) for weight, value in values]) for name in first}  # type: ignore[call-overload, index, misc]
