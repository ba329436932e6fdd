"""What the losses of sparse models have in common with those of dense ones, and that some stand only within another."""

from __future__ import annotations

from typing import Any, NoReturn

from likewise.losses.base import Loss
from likewise.similarity import OF_WHOLE_TEXTS, SimilarityFunction

__all__ = ["Loss", "check_similarity", "refuse_alone"]

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


def check_similarity(name: str, function: Any, of_pairs: bool) -> None:
    """Refuse what is no function, and the library's own functions of the other kind, whose scores have another shape.

    Args:
        name: The argument's name.
        function: What was given for it.
        of_pairs: Whether it must compare row by row, (B, V), (B, V) -> (B,); otherwise all rows, (N, V), (M, V) -> (N, M).

    Raises:
        TypeError: It is no function.
        ValueError: It is of the other kind.
    """
    if not callable(function):
        usual = "pairwise_dot_score" if of_pairs else "dot_score"
        raise TypeError(
            f"`{name}` must be a function, but is {function!r}. Pass `likewise.util.{usual}`, say."
        )
    kinds = SimilarityFunction.to_similarity_fn, SimilarityFunction.to_similarity_pairwise_fn
    for one in OF_WHOLE_TEXTS:
        other, fitting = kinds[not of_pairs](one), kinds[of_pairs](one)
        if function is other:
            shapes = "(B, V), (B, V) -> (B,)" if of_pairs else "(N, V), (M, V) -> (N, M)"
            raise ValueError(
                f"`{name}` must score {shapes}, which {other.__name__} does not. Pass {fitting.__name__}."  # type: ignore[attr-defined]
            )
