"""ListLoss: a loss over the scores of each query's list of documents, of whatever length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.checked import number
from likewise.cross_encoder.losses.base import Columns, Label, Labels, Loss, PairLists, numbers, two_columns
from likewise.engine.embed import Embed


class ListLoss(Loss):
    """A query with a list of documents, and a number for each of them. A subclass writes `compute`.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: Pairs that go through the model at a time, if all were as long as the longest; their activations
            are recomputed in the backward pass, so that one mini-batch's memory suffices. None, 0 or less for all at once.
    """

    takes = (Columns(("query", "list of documents"), label=Label.PER_DOCUMENT),)
    config_keys: ClassVar[tuple[str, ...]] = ("activation_fn", "mini_batch_size")

    def __init__(
        self, model: Any, activation_fn: nn.Module | None = None, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, activation_fn)
        self.mini_batch_size = mini_batch_size
        number(mini_batch_size or 0, "mini_batch_size", "None takes all at once.")
        if mini_batch_size is not None and mini_batch_size > 0:
            self.own_score = Embed(output="scores", recompute_rows=mini_batch_size)

    def pairs(self, inputs: Sequence[Sequence[Any]], generator: torch.Generator | None = None) -> PairLists:
        """Row by row, the query with each of its documents."""
        queries, lists = two_columns(self, inputs)
        for row, documents in enumerate(lists):
            if isinstance(documents, str) or not isinstance(documents, Sequence):
                raise ValueError(
                    f"{type(self).__name__} takes a list of documents for each query, but row {row} has {documents!r}."
                )
            if not documents:
                raise ValueError(
                    f"Row {row} of this batch has an empty list of documents. Drop such rows; {type(self).__name__} takes "
                    "one document at least."
                )
        pairs = [
            (query, document)
            for query, documents in zip(queries, lists, strict=True)
            for document in documents
        ]
        return PairLists(pairs, torch.tensor([len(documents) for documents in lists], dtype=torch.long))

    def lengths_of(self, labels: Labels, num_pairs: int) -> Tensor:
        """As many as each row's labels."""
        lists = self._checked_lists(labels)
        return torch.tensor([len(row) for row in lists], dtype=torch.long)

    def _checked_lists(self, labels: Labels) -> Sequence[Any]:
        if labels is None or (isinstance(labels, Tensor) and labels.ndim < 2):
            found = "none" if labels is None else "one for each row"
            raise ValueError(
                f"{type(self).__name__} takes a list of labels for each row, one for each document; but got {found}. Make the "
                "label column one of lists."
            )
        if any(torch.as_tensor(row).ndim != 1 for row in labels):
            raise ValueError(
                f"{type(self).__name__} takes a list of labels for each row, one for each document; but got one number for a "
                "row. Make the label column one of lists."
            )
        return list(labels)

    def scores_and_labels(self, scores: Tensor, labels: Labels, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(T,) scores after the activation, and (T,) labels on their device.

        Raises:
            ValueError: There is not a label for each document.
        """
        scores = self.activation_fn(scores.view(-1))
        lists = self._checked_lists(labels)
        if [len(row) for row in lists] != lengths.tolist():
            differs = next(
                (
                    f"row {row} has {n} documents and {len(own)} labels"
                    for row, (n, own) in enumerate(zip(lengths.tolist(), lists, strict=False))
                    if n != len(own)
                ),
                f"there are {len(lengths)} rows and {len(lists)} lists of labels",
            )
            raise ValueError(
                f"{type(self).__name__} takes a label for each document, but {differs}. Correct the data."
            )
        return scores, numbers(lists, scores)
