"""MatryoshkaLoss: a loss on the first d entries of the embeddings too, for several d.

    loss = sum over d of weight_d * inner loss(normalised first d entries)

Reference: Kusupati et al. 2022, https://arxiv.org/abs/2205.13147, equation 1.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from likewise.checked import number, positive, whole
from likewise.losses.base import LossValue
from likewise.losses.wrapping import LossAround, weighted_sum
from likewise.types import Encoder

logger = logging.getLogger(__name__)


class MatryoshkaLoss(LossAround):
    """Around any loss: trains embeddings that can be cut to their first entries (`truncate_dim`) and still serve.

    Costs next to nothing: the texts are embedded once. Prefer the inner loss alone where embeddings are never cut, or
    `encode(..., precision="int8")` where they should only be smaller.

    Args:
        model: The model to train.
        loss: The inner loss.
        matryoshka_dims: The sizes d, each from 1 to the model's embedding size, which should be among them.
        matryoshka_weights: A weight for each; None for 1 each.
        n_dims_per_step: How many sizes to draw at random in each step (by Python's `random`); -1 for all.

    Raises:
        ValueError: The sizes or weights are not as described.
        TypeError: The inner loss does not compute from embeddings.
    """

    config_keys = ("matryoshka_dims", "matryoshka_weights", "n_dims_per_step")
    cites = "kusupati2024matryoshka"

    def __init__(
        self,
        model: Encoder,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_dims_per_step: int = -1,
    ) -> None:
        super().__init__(model, loss)
        asked: Any = (matryoshka_dims, matryoshka_weights)
        given = [list(x) if isinstance(x, Iterable) and getattr(x, "ndim", True) else [x] for x in asked]
        sizes = _checked_sizes(given[0], model.get_sentence_embedding_dimension())
        weights = [1] * len(sizes) if matryoshka_weights is None else given[1]
        _check_weights(weights, len(sizes))
        positive(n_dims_per_step, "n_dims_per_step", "-1 takes all.", least=-1)
        ordered = sorted(zip(sizes, weights, strict=True), key=lambda pair: pair[0], reverse=True)
        self.matryoshka_dims, self.matryoshka_weights = (tuple(part) for part in zip(*ordered, strict=True))
        self.n_dims_per_step = n_dims_per_step

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, **context: Any
    ) -> LossValue:
        """(B, ..., D) batches and the inner loss's labels -> what the inner loss returns.

        Labels that are embeddings too are cut alike.
        """
        values = []
        for place in self._chosen():
            size = self.matryoshka_dims[place]
            cut = [normalize(embedding[..., :size], dim=-1) for embedding in embeddings]
            value = self.loss.compute(cut, self.loss.cut_labels(labels, size), **context)
            values.append((self.matryoshka_weights[place], value))
        return weighted_sum(values)

    def _chosen(self) -> Sequence[int]:
        numbers = range(len(self.matryoshka_dims))
        if 0 < self.n_dims_per_step < len(numbers):
            return sorted(random.sample(numbers, self.n_dims_per_step))
        return numbers


def _check_weights(weights: Sequence[float], num_sizes: int) -> None:
    if len(weights) != num_sizes:
        raise ValueError(
            f"`matryoshka_weights` must be one weight for each of {num_sizes} sizes, but there are {len(weights)}: "
            f"{weights}. Drop it to weigh all alike."
        )
    for weight in weights:
        number(weight, "matryoshka_weights", "Drop it to weigh all alike.")


def _checked_sizes(given: list[Any], size: int | None) -> list[int]:
    sizes = [whole(each) or 0 for each in given]
    limit = "the model's embedding size" if size is None else f"{size}, the model's embedding size"
    if not sizes or any(d < 1 or (size is not None and d > size) for d in sizes):
        raise ValueError(f"`matryoshka_dims` must be one or more sizes from 1 to {limit}, but is {given}.")
    if size is not None and size not in sizes:
        logger.warning(
            "`matryoshka_dims` is %s, without the model's embedding size %d: whole embeddings are not trained. Add %d, "
            "unless they will always be truncated.",
            sizes, size, size,
        )  # fmt: skip
    return sizes
