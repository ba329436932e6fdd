"""Loss: what every loss of a CrossEncoder has in common.

A loss says which pairs it wants scored, and computes a number from their scores. All pairs of a batch, of whatever column
and row, go through the model together; how (at once, or in chunks that are recomputed) is not the loss's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

from likewise.cross_encoder.scoring import read_pairs, score_pairs
from likewise.engine.embed import Embed
from likewise.engine.pair_batch import PairBatch
from likewise.losses.base import Columns, Label, full_name
from likewise.losses.citations import bibtex
from likewise.modules.base import is_own
from likewise.types import check_family

Labels: TypeAlias = Tensor | Sequence[Any] | None


@dataclass(frozen=True)
class PairLists:
    """B rows, each with a list of pairs to score.

    Attributes:
        pairs: The T pairs of texts, row by row.
        lengths: (B,) int64, on the CPU, how many pairs each row has.
    """

    pairs: Sequence[tuple[Any, Any]]
    lengths: Tensor


class Loss(nn.Module, ABC):
    """A loss over the scores of pairs.

    A subclass sets `takes` and writes `pairs` and `compute`.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores; None for none. The model's own activation plays no part in training.

    Raises:
        ValueError: The model gives another number of scores to a pair than the loss takes.
    """

    takes: tuple[Columns, ...]
    """The shapes of data this loss takes, the usual one first."""
    model_type: ClassVar[str] = "CrossEncoder"
    """The family of models it is for."""
    cites: ClassVar[str] = ""
    """The key of its paper in citations.bib."""
    config_keys: ClassVar[tuple[str, ...]] = ("activation_fn",)
    """The attributes that the model card shows as this loss's arguments."""
    num_labels: int | None = 1
    """How many scores a pair must have; None for any number."""
    own_score: Embed = Embed(output="scores")
    """How pairs become scores where the caller does not say; in chunks where a `mini_batch_size` is set."""

    def __init__(self, model: Any, activation_fn: nn.Module | None = None) -> None:
        super().__init__()
        check_family(self, model, "losses")
        if self.num_labels is not None and model.num_labels != self.num_labels:
            raise ValueError(
                f"{type(self).__name__} takes a model with {self.num_labels} score a pair, but this one gives "
                f"{model.num_labels}. Load it with `num_labels={self.num_labels}`, or choose CrossEntropyLoss."
            )
        self.model = model
        self.activation_fn: nn.Module = nn.Identity() if activation_fn is None else activation_fn

    @abstractmethod
    def pairs(self, inputs: Sequence[Sequence[Any]], generator: torch.Generator | None = None) -> PairLists:
        """The pairs to score, from the columns of a batch, each a list with an entry for each row.

        Args:
            inputs: The columns.
            generator: What a loss that draws pairs draws from; None for torch's own random state.

        Raises:
            ValueError: The columns are not those that the loss takes.
        """

    @abstractmethod
    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, labels) scores of the pairs, labels, and (B,) pairs of each row -> a scalar."""

    def lengths_of(self, labels: Labels, num_pairs: int) -> Tensor:
        """How many pairs each row has, where only their features are given.

        Raises:
            ValueError: That cannot be told.
        """
        raise ValueError(
            f"{type(self).__name__} chooses the pairs that are scored, so it takes columns of texts, not features."
        )

    def forward(
        self,
        inputs: PairBatch | Mapping[str, Tensor] | Sequence[Sequence[Any]],
        labels: Labels = None,
        prompt: str | None = None,
        task: str | None = None,
        score: Embed | None = None,
    ) -> Tensor:
        """Score the pairs and compute the loss.

        Args:
            inputs: The columns of a batch, as lists of texts; a PairBatch; or padded features of the pairs.
            labels: The labels, as `takes` says.
            prompt: Put in front of each pair's first text.
            task: For modules that go by it.
            score: How pairs become scores; None for the loss's own way.

        Raises:
            ValueError: The columns or labels do not fit the loss.
        """
        score = self.own_score if score is None else score
        if isinstance(inputs, PairBatch):
            scores, lengths = score_pairs(self.model, inputs.tokens, score), inputs.lengths
        elif isinstance(inputs, Mapping):
            scores = score_pairs(self.model, inputs, score)
            lengths = self.lengths_of(labels, len(scores))
        else:
            lists = self.pairs(inputs)
            scores = score_pairs(self.model, read_pairs(self.model, lists.pairs, prompt, task), score)
            lengths = lists.lengths
        return self.compute(scores, labels, lengths)

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of this loss, for the model card."""
        values = {name: getattr(self, name) for name in self.config_keys}
        return {k: full_name(v) if callable(v) else v for k, v in values.items()}

    @property
    def citation(self) -> str:
        """BibTeX of the paper, for the model card; empty where there is none."""
        return bibtex(self.cites) if self.cites else ""


def computes_from_scores(loss: nn.Module) -> TypeGuard[Loss]:
    """Whether a loss leaves the scoring to others: it is of this package, and nobody has written a `forward` for it."""
    return isinstance(loss, Loss) and is_own(loss, "forward")


def two_columns(loss: Loss, inputs: Sequence[Sequence[Any]]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The two columns of a loss that takes just these.

    Raises:
        ValueError: There are more or less, or their lengths differ.
    """
    if len(inputs) != 2:
        raise ValueError(
            f"{type(loss).__name__} takes {loss.takes[0].describe()}; but got {len(inputs)} columns beside the label."
        )
    check_rows(loss, inputs)
    return inputs[0], inputs[1]


def check_rows(loss: Loss, columns: Sequence[Sequence[Any]]) -> None:
    """Refuse columns of different lengths."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"The columns of {type(loss).__name__} should have a value for each row, but have {lengths}."
        )


def by_length(lengths: Tensor) -> Iterator[Tensor]:
    """Lists of equal length together: for each length n, (rows, n) places of their pairs among all; nothing is padded."""
    starts = lengths.cumsum(0) - lengths
    for length in lengths.unique().tolist():
        if length:
            yield starts[lengths == length].unsqueeze(1) + torch.arange(length)


def numbers(values: Labels, like: Tensor) -> Tensor:
    """Labels as one float tensor on the device of `like`: a tensor, numbers, or a tensor (or list) for each row."""
    if isinstance(values, Tensor):
        return values.to(like.device, like.dtype)
    assert values is not None
    parts = [torch.as_tensor(part).to(like.device, like.dtype).reshape(-1) for part in values]
    return torch.cat(parts) if parts else like.new_zeros(0)


__all__ = [
    "Columns",
    "Label",
    "Loss",
    "PairBatch",
    "PairLists",
    "by_length",
    "check_rows",
    "computes_from_scores",
    "full_name",
    "numbers",
    "two_columns",
]
