"""What the losses of sparse models have in common with those of dense ones, and that some stand only within another."""

from __future__ import annotations

from typing import Any, NoReturn

from likewise.losses.base import Loss

__all__ = ["Loss", "refuse_alone"]

FAMILY = "SparseEncoder"


class UsedAlone(AttributeError, ValueError):
    """A loss that is a part of others was used by itself: the reference's kind of error, and that of a wrong argument."""


def refuse_alone(loss: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """The `forward` of a loss that leaves embeddings as dense as they are, and so is no loss by itself.

    Raises:
        UsedAlone: Always.
    """
    name = type(loss).__name__
    raise UsedAlone(
        f"{name} should not be used alone: nothing in it makes embeddings sparse. Put it into SpladeLoss or CSRLoss, e.g. "
        f"SpladeLoss(model, {name}(model), document_regularizer_weight=3e-5)."
    )
